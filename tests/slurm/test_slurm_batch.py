"""A training on two nodes, submitted with the template of docs/, and what a cluster does to it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from callbacks.csv_table import read_rows
from cluster import LONG, Cluster
from training_runs import differences, state_of

pytestmark = pytest.mark.slurm

TEMPLATE = "docs/train.sbatch"


@pytest.fixture
def submit(cluster: Cluster, blobs: Path, tmp_path: Path) -> Callable[..., str]:
    """Submits a run on both nodes, in tmp_path / "run"; returns the job's number."""

    def submitted(*overrides: str, options: tuple[str, ...] = ()) -> str:
        shape = ("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--gpus-per-node=0")
        output = f"--output={tmp_path / 'output'}"
        arguments = (*LONG, f"data.path={blobs}", f"run_dir={tmp_path / 'run'}", *overrides)
        return cluster.submit(*shape, output, *options, TEMPLATE, *arguments)

    return submitted


def images_seen(run: Path) -> int:
    """How far a run is, by its metrics.csv."""
    table = run / "metrics.csv"
    rows = read_rows(table) if table.exists() else []
    return int(float(rows[-1]["images_seen"])) if rows else 0


def under_way(cluster: Cluster, run: Path, images: int = 1600) -> None:
    """Waits until a run has come so far."""
    cluster.wait_for(lambda: images_seen(run) >= images, 120)


def starts(run: Path) -> list[int]:
    """images_seen of each start of a run."""
    return [json.loads(line)["images_seen"] for line in (run / "starts.jsonl").read_text().splitlines()]


def check_equal(run: Path, undisturbed: Path, output: Path) -> None:
    assert differences(state_of(run), state_of(undisturbed)) == [], output.read_text()
    seen = [int(float(row["images_seen"])) for row in read_rows(run / "metrics.csv")]
    assert seen == list(range(800, 4801, 800))


def test_two_nodes_train_what_two_processes_train(cluster, submit, undisturbed, tmp_path):
    job = submit()
    assert cluster.wait(job) == "COMPLETED", (tmp_path / "output").read_text()
    check_equal(tmp_path / "run", undisturbed, tmp_path / "output")
    assert starts(tmp_path / "run") == [0]


def test_signal_before_the_time_limit_saves_and_requeues(cluster, submit, undisturbed, tmp_path):
    """What ``--signal=USR1@120`` sends."""
    run = tmp_path / "run"
    job = submit("callbacks.snapshot.every_images=1000000")
    under_way(cluster, run)
    cluster.run("scancel", "--signal=USR1", job)
    assert cluster.wait(job) == "COMPLETED", (tmp_path / "output").read_text()
    assert cluster.restarts(job) == 1
    check_equal(run, undisturbed, tmp_path / "output")
    first, second = starts(run)
    assert first == 0
    assert second >= 1600  # where the signal came: there was no other snapshot
    assert "stopped by SIGUSR1" in (run / "train.log").read_text()


def test_requeue_by_the_cluster_goes_on_from_where_it_was(cluster, submit, undisturbed, tmp_path):
    """What preemption does: SIGTERM, a few seconds, and the job waits in the queue again."""
    run = tmp_path / "run"
    job = submit("callbacks.snapshot.every_images=1000000")
    under_way(cluster, run)
    cluster.run("scontrol", "requeue", job)
    assert cluster.wait(job) == "COMPLETED", (tmp_path / "output").read_text()
    assert cluster.restarts(job) == 1
    check_equal(run, undisturbed, tmp_path / "output")
    assert starts(run)[1] >= 1600


def test_cancelled_job_keeps_its_work_and_stays_cancelled(cluster, submit, tmp_path):
    run = tmp_path / "run"
    job = submit("callbacks.snapshot.every_images=1000000")
    under_way(cluster, run)
    cluster.run("scancel", job)
    assert cluster.wait(job) == "CANCELLED"
    assert cluster.restarts(job) == 0
    assert state_of(run)["images_seen"] >= 1600


def test_killed_node_costs_the_work_since_the_last_snapshot(cluster, submit, undisturbed, tmp_path):
    run = tmp_path / "run"
    job = submit()
    under_way(cluster, run, 2400)
    cluster.kill_node("n2")
    try:
        saved = state_of(run)["images_seen"]
        cluster.wait_for(lambda: cluster.restarts(job) == 1, 60)
    finally:
        cluster.revive_node("n2")
    assert cluster.wait(job) == "COMPLETED", (tmp_path / "output").read_text()
    check_equal(run, undisturbed, tmp_path / "output")
    assert starts(run) == [0, saved]


def test_lost_task_is_named_and_the_job_requeued(cluster, submit, undisturbed, tmp_path):
    """The node is well, but one process was killed: by the kernel for want of memory, say."""
    run = tmp_path / "run"
    job = submit(options=("--export=ALL,SLURM_KILL_BAD_EXIT=0",))
    under_way(cluster, run, 2400)
    cluster.kill_tasks("n2")
    assert cluster.wait(job) == "COMPLETED", (tmp_path / "output").read_text()
    output = (tmp_path / "output").read_text()
    assert "error: process 1 on " in output
    assert "was lost" in output
    assert cluster.restarts(job) == 1
    check_equal(run, undisturbed, tmp_path / "output")


def test_tasks_that_do_not_fit_the_trainer_are_refused(cluster, submit, tmp_path):
    job = submit("trainer.devices=2")
    assert cluster.wait(job) == "FAILED"
    output = (tmp_path / "output").read_text()
    assert "error: 2 processes were started, but trainer.devices=2 on trainer.num_nodes=2 makes 4" in output
    assert "Traceback" not in output
    assert not (tmp_path / "run").exists()
