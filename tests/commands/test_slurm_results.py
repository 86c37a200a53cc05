"""How the launcher knows that a job has ended, without a cluster."""

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")

from hydra_plugins.imago import slurm_launcher


@pytest.mark.parametrize(
    ("queues", "looks"),
    [
        ([{"7"}, {"7"}, set()], 3),  # the job was requeued after an earlier start had left its result
        ([None], 1),  # squeue does not answer
        ([{"8"}], 1),
    ],
)
def test_result_counts_when_the_job_has_left_the_queue(monkeypatch, tmp_path: Path, queues, looks):
    result = tmp_path / "7_0_result.pkl"
    result.touch()
    task = SimpleNamespace(paths=SimpleNamespace(result_pickle=result))
    job = SimpleNamespace(job_id="7", num_tasks=1, task=lambda k: task, results=lambda: ["result"])
    asked = []

    def queue(jobs):
        asked.append(jobs)
        return queues[len(asked) - 1]

    monkeypatch.setattr(slurm_launcher, "_queue", queue)
    launcher = slurm_launcher.SlurmLauncher.__new__(slurm_launcher.SlurmLauncher)
    launcher.options = {"poll_seconds": 0}
    assert launcher._results([job], 0) == ["result"]
    assert len(asked) == looks
