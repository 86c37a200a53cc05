"""Whole files only: write beside the target, then rename; and names that outlast a power cut."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path in the folder of ``path`` that takes its place when the block ends without an error.

    A reader sees the old file or the new one, never half of one; an error leaves the old file and no litter. The folder
    is made if need be. The temporary name keeps the ending, from which writers tell the format.

    Args:
        path: The file to write.

    Yields:
        The path to write to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of processes that were killed while they wrote; none may be writing there now."""
    for path in folder.glob(".*"):
        if re.match(r"\.\d+-", path.name) and path.is_file():
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable: what was created, renamed and removed there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
