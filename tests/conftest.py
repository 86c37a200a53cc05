"""Tiny data sets and runs that the tests of the commands share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from blobs import Blobs, LabelledBlobs
from imago.data import pack
from training_runs import TINY, Accident, Commands, Finished

torch.set_num_threads(1)  # tensors here are tiny: threads would wait for each other more than they work


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed data set of 48 pictures at 4², 8², 16²."""
    return pack(Blobs(), tmp_path_factory.mktemp("data") / "blobs", resolution=16).path


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
