"""Which generators ``checkpoint=`` means."""

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from imago.data.pack_format import is_packed
from imago.data.packed import PackedDataset
from imago.errors import UserError, first_line
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


def data_of_run(checkpoint: Path) -> dict[str, Any]:
    """What a run's config.yaml says of its data, as plain containers; nothing where there is no such file or key.

    Only to be read: the file may come from anywhere.

    Raises:
        UserError: The file is damaged.
    """
    config = run_of(checkpoint) / "config.yaml"
    if not config.exists():
        return {}
    try:
        options: Any = OmegaConf.to_container(OmegaConf.load(config))
        data = options.get("data") or {}
        return {str(key): value for key, value in data.items()}
    except (OSError, ValueError, AttributeError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{config}: cannot be read ({first_line(error)})") from error


def images_in_epoch(checkpoint: Path) -> int | None:
    """How many images a run trained on, synthetic ones included; None where that cannot be told.

    It can where its data are drawn portraits, or packs that are still there.

    Raises:
        UserError: The run's config.yaml is damaged.
    """
    data = data_of_run(checkpoint)
    synthetic = data.get("include_synthetic")
    more = [synthetic] if isinstance(synthetic, str) else synthetic
    places = [data.get("path") or data.get("root"), *(more if isinstance(more, list) else [])]
    count = 0
    if places[0] is None and str(data.get("_target_", "")).endswith(".DrawnPortraitsDataModule"):
        count = int(data["count"])
        places = places[1:]
    packs = [Path(str(place)).expanduser() for place in places]
    if not all(is_packed(pack) for pack in packs):
        return None
    return count + sum(len(PackedDataset(pack)) for pack in packs) or None
