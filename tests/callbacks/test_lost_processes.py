"""Who has a job started again that has lost a process."""

from types import SimpleNamespace

import pytest

from callbacks import process_watch
from callbacks.process_watch import ProcessWatch

NAMES = [f"process {rank} on node{rank // 2}" for rank in range(6)]  # three machines of two


@pytest.mark.parametrize(
    ("verdict", "askers"),
    [
        ("process 3 on node1 was lost: no sign of life for 60 s", [0]),
        ("process 2 on node1, process 3 on node1 were lost: no sign of life for 60 s", [0]),
        # Nobody knows which of its machine are left: each that may be the first of a machine, itself lost or not.
        ("process 0 on node0 was lost: it does not answer any more", [1, 2, 4]),
        ("process 1 on node0 ended: the disk is full", []),
    ],
)
def test_whoever_is_left_asks_for_another_start(monkeypatch, verdict, askers):
    asked = []
    monkeypatch.setattr(process_watch.slurm, "job_id", lambda: "7")
    for rank in range(6):
        watch = ProcessWatch()
        watch.watch = SimpleNamespace(rank=rank, names=NAMES, verdict=verdict)
        monkeypatch.setattr(watch, "_got_further", lambda: True)
        monkeypatch.setattr(process_watch.slurm, "requeue", lambda rank=rank: asked.append(rank))
        watch._requeue()
    assert asked == askers
