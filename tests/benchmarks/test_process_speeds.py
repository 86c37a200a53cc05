"""The benchmark of processes runs, checks that two of them stay equal, and its line is the least-squares one."""

from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
from processes import REDUCED_BYTES, TWO, TWO_ALONE, Team, Worker, fit
from scipy.optimize import minimize

TINY = {"latent_size": 6, "fmap_base": 48, "fmap_max": 12}


def test_a_line_is_found_again() -> None:
    seconds = [2e-4 + count / 1.5e9 for count in REDUCED_BYTES]
    assert fit(REDUCED_BYTES, seconds) == pytest.approx((2e-4, 1.5e9))


def test_relative_errors_have_the_least_squares() -> None:
    sizes, seconds = [1e3, 1e5, 1e6, 4e6], [1.2e-4, 2.1e-4, 9e-4, 3.4e-3]

    def errors(line: Any) -> float:
        pairs = zip(sizes, seconds, strict=True)
        return sum(((line[0] * 1e-4 + line[1] * 1e-9 * size) / taken - 1) ** 2 for size, taken in pairs)

    best = minimize(errors, np.ones(2), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14}).x
    assert fit(sizes, seconds) == pytest.approx((best[0] * 1e-4, 1e9 / best[1]), rel=1e-5)


def test_a_worker_takes_its_share_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "_meet", lambda self: None)
    worker = Worker(1, 2)
    worker.begin(8, 16, TINY)
    assert worker.train(TWO_ALONE, 2) > 0
    assert worker.steps[TWO_ALONE].images.shape == (1, 8, 3, 8, 8)
    assert worker.steps[TWO_ALONE].module.images_seen == 32  # of the global batch
    assert worker.steps[TWO].module.images_seen == 0


@pytest.mark.ddp
@pytest.mark.slow
def test_processes_stay_equal_while_they_exchange_gradients() -> None:
    with Team(2, 1) as team:
        team.call("begin", 8, 16, TINY)
        before = team.call("weights")[0]
        team.call("train", TWO, 2)
        one, other = team.call("weights")
        assert one == other != before


@pytest.mark.ddp
@pytest.mark.slow
def test_the_script_measures_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.md"
    arguments = ["--resolutions", "8", "--rounds", "1", "--seconds", "0", "--repeats", "1", "--fmap-max", "8"]
    processes.main([*arguments, "--out", str(out)])
    assert "all-reduce over 2 processes" in capsys.readouterr().out
    text = out.read_text()
    assert "| 8² | 16 |" in text
    assert "| 4,096 |" in text
    assert torch.distributed.is_initialized() is False


def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        processes.main(["--out", "figures.txt"])
    assert "must" in capsys.readouterr().err
