import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data import parallel
from imago.data.parallel import ordered_map


def work(task: dict[str, Any], run: range) -> dict[str, Any]:
    """Arrays of all sizes; the first runs are the slowest."""
    time.sleep(task["pause"] / (1 + run.start))
    if run.start == task.get("fail"):
        raise ValueError(f"run {run.start}")
    large = np.full((300, 1000), run.start, dtype=np.uint8)
    return {"run": run, "large": large, "small": np.arange(3) + run.start, "bytes": bytes([run.start])}


RUNS = [range(i, i + 1) for i in range(12)]


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.glob("imago-*") if f"-{os.getpid()}-" in path.name]


@pytest.mark.parametrize("shared", [True, False])
def test_results_come_in_order_and_whole(shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if not shared:  # nothing can be written where results are handed over: they come through the pipe
        monkeypatch.setattr(parallel, "_shared_folder", lambda: tmp_path / "missing")
    results = list(ordered_map(work, {"pause": 0.02}, RUNS, 2))
    assert [result["run"] for result in results] == RUNS
    for i, result in enumerate(results):
        np.testing.assert_array_equal(result["large"], np.full((300, 1000), i))
        np.testing.assert_array_equal(result["small"], np.arange(3) + i)
        assert result["bytes"] == bytes([i])
        result["large"][0, 0] = 7  # the caller's own
    assert not leftovers(parallel._SHARED)


def test_an_error_of_a_worker_ends_it_and_leaves_nothing():
    results = ordered_map(work, {"pause": 0.0, "fail": 5}, RUNS, 2)
    assert [next(results)["run"].start for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="run 5"):
        next(results)
    assert not leftovers(parallel._SHARED)


def test_a_caller_who_stops_early_leaves_nothing():
    results = ordered_map(work, {"pause": 0.0}, RUNS, 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not leftovers(parallel._SHARED)
