"""Tiny data sets and runs that the tests of the commands share."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from imago.data import pack
from imago.data.sources.source import Item
from training_runs import TINY, Accident, Commands, Finished

torch.set_num_threads(1)  # tensors here are tiny: threads would wait for each other more than they work


class Blobs:
    """Smooth random pictures, 16×16."""

    name = "blobs"

    def __len__(self) -> int:
        return 48

    def fingerprint(self) -> str:
        return hashlib.sha256(b"48 blobs").hexdigest()

    def item_name(self, index: int) -> str:
        return f"{index}.png"

    def read(self, index: int) -> Item:
        rng = np.random.default_rng(index)
        y, x = np.mgrid[:16, :16] / 8 - 1
        (cy, cx), size = rng.uniform(-0.5, 0.5, 2), rng.uniform(0.2, 0.6)
        blob = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / size)[..., None] * rng.uniform(0, 1, 3)
        return Item((255 * blob).astype(np.uint8), f"{index}.png")


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed data set of 48 pictures at 4², 8², 16²."""
    return pack(Blobs(), tmp_path_factory.mktemp("data") / "blobs", resolution=16).path


class LabelledBlobs(Blobs):
    """The same with two label columns, of which one has unknown values."""

    name = "labelled"

    def fingerprint(self) -> str:
        return hashlib.sha256(b"48 labelled blobs").hexdigest()

    def read(self, index: int) -> Item:
        item = super().read(index)
        labels = {"Glasses": ("no", "eyeglasses", "sunglasses")[index % 3]}
        if index % 8:
            labels["Smile"] = "yes" if index % 2 else "no"
        return Item(item.image, item.name, labels)


@pytest.fixture(scope="session")
def labelled_blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures of `blobs` with the label columns Glasses (three values) and Smile (two, some unknown)."""
    return pack(LabelledBlobs(), tmp_path_factory.mktemp("data") / "labelled", resolution=16).path


@pytest.fixture(scope="session")
def compressed_blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with all levels but the smallest as PNGs."""
    return pack(Blobs(), tmp_path_factory.mktemp("data") / "compressed", resolution=16, zip_from=8).path


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """Starts commands in processes of their own."""
    return Commands(tmp_path_factory.mktemp("output"))


@pytest.fixture(scope="session")
def train(commands: Commands, blobs: Path) -> Callable[..., Finished]:
    """train(run_dir, *overrides, accident=None): a tiny run to its end."""

    def run(run_dir: Path, *overrides: str, accident: Accident | None = None, **environment: str) -> Finished:
        arguments = [*TINY, f"data.path={blobs}", f"run_dir={run_dir}", *overrides]
        return commands.run("train", arguments, accident, **environment)

    return run


@pytest.fixture(scope="session")
def finished_run(train: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run that was never stopped; not to be written to."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    result = train(run_dir)
    assert result.code == 0, result.err
    return run_dir


@pytest.fixture(scope="session")
def contents_of() -> Callable[[Path], dict[str, bytes]]:
    """All files of a folder: name → bytes."""

    def read(folder: Path) -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read
