"""Zip files that many processes read, and zip files that an interrupted writer can continue."""

import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any


class SharedZip:
    """A zip that may be pickled, forked and read from several threads.

    A ZipFile that crossed a fork shares its file offset with its parent and would read garbage; this one opens the
    file anew in each process, on first use (which raises OSError or zipfile.BadZipFile where it cannot).

    Args:
        path: The zip file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    @property
    def archive(self) -> zipfile.ZipFile:
        """The open archive of this process."""
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            opened = self._opened = (os.getpid(), zipfile.ZipFile(self.path))
        return opened[1]

    def read(self, name: str) -> bytes:
        """The content of one member.

        Raises:
            KeyError: There is no such member.
            zipfile.BadZipFile: The member is damaged.
        """
        return self.archive.read(name)

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.path = state["path"]
        self._opened = None


def stored_member(name: str, crc: int, size: int) -> zipfile.ZipInfo:
    """The record of a member that is stored as it is; always the same bytes for the same arguments.

    zipfile writes a member's record only when the archive is closed, which a killed process never does. With
    (crc, size) of each member in a journal, the archive can be cut back to the last whole member and continued.
    """
    member = zipfile.ZipInfo(name)  # dated 1980-01-01: the pack must not depend on when it was made
    member.create_system = 3  # Unix, for the permissions below, on every system
    member.external_attr = 0o644 << 16
    member.CRC = crc
    member.file_size = member.compress_size = size
    return member


def write_directory(file: IO[bytes], members: Sequence[zipfile.ZipInfo]) -> None:
    """Ends an archive: writes the central directory of `members`, whose headers and data fill `file` in order.

    Args:
        file: The archive so far; writable and seekable.
        members: Its members; each is asked for twice and may be made anew each time.
    """
    size = sum(len(member.FileHeader()) + member.file_size for member in members)
    file.seek(size)
    with zipfile.ZipFile(file, "w", allowZip64=True) as archive:  # on an open file, "w" starts where the file stands
        archive.filelist = _Placed(members)  # type: ignore[assignment]  # all that closing does is to iterate over it


class _Placed(Sequence[zipfile.ZipInfo]):
    """Members with their places in the archive."""

    def __init__(self, members: Sequence[zipfile.ZipInfo]) -> None:
        self._members = members

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[zipfile.ZipInfo]:
        offset = 0
        for member in self._members:
            member.header_offset = offset
            offset += len(member.FileHeader()) + member.file_size
            yield member

    def __getitem__(self, index: Any) -> Any:
        raise TypeError("only iteration knows the places")
