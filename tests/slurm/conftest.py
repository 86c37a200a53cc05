"""One cluster, one pack and one undisturbed run for all tests on Slurm."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import LONG, REPOSITORY, Cluster, missing


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes."""
    if reason := missing():
        pytest.skip(reason)
    one = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture(scope="session")
def undisturbed(cluster: Cluster, blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that all others have to equal: two processes, without Slurm."""
    run = tmp_path_factory.mktemp("undisturbed")
    words = [sys.executable, "train.py", *LONG, f"data.path={blobs}", f"run_dir={run}", "trainer.devices=2"]
    done = subprocess.run(words, cwd=REPOSITORY, env=cluster.environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return run
