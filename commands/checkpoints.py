"""Which generators ``checkpoint=`` means."""

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imago.errors import UserError
from imago.networks.serialization import find_generator, read_description


@dataclass(frozen=True)
class Checkpoint:
    """A generator's file and what it says about itself.

    Attributes:
        given: As the user gave it.
        path: The file.
        description: See :func:`imago.networks.serialization.describe_generator`.
    """

    given: str
    path: Path
    description: dict[str, Any]

    @property
    def images_seen(self) -> int:
        return int(self.description["images_seen"])

    @property
    def resolution(self) -> int:
        return int(self.description["resolution"])

    @property
    def final_resolution(self) -> int:
        """What the network grows to."""
        return int(self.description["config"].get("resolution", self.resolution))


def find_checkpoints(given: Any) -> list[Checkpoint]:
    """The generators that a user means, by images_seen.

    Args:
        given: A run directory, a file, a pattern with ``*``, or several of these.

    Raises:
        UserError: There are none, or one is not a generator.
    """
    found: dict[Path, Checkpoint] = {}
    texts = [given] if isinstance(given, str | int | float) else list(given or [])
    for text in map(str, texts):
        path = Path(text).expanduser()
        names = [str(path)] if path.exists() or not glob.has_magic(text) else sorted(glob.glob(str(path)))
        if not names:
            raise UserError(f"checkpoint={text}: nothing matches that")
        for name in names:
            file = find_generator(name)
            found.setdefault(file.resolve(), Checkpoint(name, file, read_description(file)))
    if not found:
        raise UserError("checkpoint= is empty: give a run directory, a .ckpt file or generator .safetensors files")
    return sorted(found.values(), key=lambda checkpoint: checkpoint.images_seen)


def run_of(path: Path) -> Path:
    """The run directory that a checkpoint belongs to, or the folder that it lies in."""
    folder = path if path.is_dir() else path.parent
    return folder.parent if folder.name in ("checkpoints", "generators") else folder
