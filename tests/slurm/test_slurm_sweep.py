"""Sweeps whose jobs Slurm runs, each on both nodes."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import LONG, REPOSITORY, Cluster
from training_runs import differences, state_of

pytestmark = pytest.mark.slurm

LAUNCHER = (
    "launcher=slurm_multinode",
    "trainer.num_nodes=2",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.poll_seconds=1",
)


def start(cluster: Cluster, folder: Path, data: Path, *overrides: str) -> subprocess.Popen[str]:
    words = [sys.executable, "train.py", *LONG, *LAUNCHER, f"data.path={data}", f"hydra.sweep.dir={folder}", *overrides]
    return subprocess.Popen(
        words,
        cwd=REPOSITORY,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # as from a terminal, whatever runs the tests
    )


def test_jobs_train_what_single_runs_train_and_one_that_fails_does_not_stop_the_rest(
    cluster, blobs, undisturbed, tmp_path
):
    """The first job is requeued by submitit's signal, and goes on in its directory; the second fails."""
    sweep = start(cluster, tmp_path, blobs, "model.fmap_max=8,-1")
    run = tmp_path / "0"
    cluster.wait_for(lambda: (run / "checkpoints" / "last.ckpt").exists(), 120)
    running = [line.split() for line in cluster.run("squeue", "-h", "-r", "-t", "R", "-o", "%i %K").splitlines()]
    (first,) = [job for job, index in running if index == "0"]  # the second may not have failed yet
    cluster.run("scancel", "--signal=USR2", first)
    _, err = sweep.communicate(timeout=240)
    assert sweep.returncode == 1, err
    assert "channels, fmap_base and fmap_max must be at least 1" in err
    logs = "\n".join(path.read_text() for path in sorted((tmp_path / ".submitit").rglob("*.err")))
    assert "error: 1 job(s) of the sweep failed: 1" in err, f"{err}\n{logs}"
    assert differences(state_of(run), state_of(undisturbed)) == []
    starts = [json.loads(line) for line in (run / "starts.jsonl").read_text().splitlines()]
    assert len(starts) == 2
    assert starts[1]["images_seen"] > 0
    assert starts[0]["slurm_job"] == starts[1]["slurm_job"]
    assert starts[0]["processes"] == 2


def test_jobs_run_the_code_as_it_was_when_they_were_submitted(cluster, blobs, tmp_path):
    sweep = start(cluster, tmp_path, blobs, "total_images=16", "hydra.launcher.nodes=2", "seed=5")
    _, err = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, err
    assert (tmp_path / "code" / "train.py").read_bytes() == (REPOSITORY / "train.py").read_bytes()
    (script,) = (tmp_path / ".submitit").glob("*.sh")
    assert f"export PYTHONPATH={tmp_path / 'code'}" in script.read_text()
    # what runs is the copy: a job that begins after the copy was edited does as that says
    (tmp_path / "code" / "commands" / "train.py").write_text("raise ValueError('the copy runs')\n")
    again = start(cluster, tmp_path, blobs, "total_images=32", "seed=5")
    _, err = again.communicate(timeout=120)
    assert again.returncode == 1, err
    assert "the copy runs" in "".join(path.read_text() for path in (tmp_path / ".submitit").rglob("*.err"))


def test_submitting_without_waiting_leaves_the_job_in_the_queue(cluster, blobs, tmp_path):
    began = time.monotonic()
    sweep = start(cluster, tmp_path, blobs, "hydra.launcher.wait=false", "total_images=16")
    _, err = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, err
    assert "job 0 is " in err
    queue = cluster.run("squeue", "-h", "-r", "-o", "%i").split()
    assert len(queue) == 1, time.monotonic() - began
    cluster.wait_for(lambda: cluster.run("squeue", "-h") == "", 60)
    assert state_of(tmp_path / "0")["images_seen"] == 16


def test_interrupt_while_waiting_leaves_the_job_and_says_so(cluster, blobs, tmp_path):
    sweep = start(cluster, tmp_path, blobs)
    cluster.wait_for(lambda: cluster.run("squeue", "-h") != "", 60)
    cluster.wait_for((tmp_path / "code" / "train.py").exists, 60)
    time.sleep(2)
    sweep.send_signal(signal.SIGINT)
    _, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 130, err
    (job,) = cluster.run("squeue", "-h", "-r", "-o", "%i").split()
    assert f"error: interrupted; the jobs go on without this command, and end by: scancel {job}" in err
    assert "Traceback" not in err
    cluster.run("scancel", job)
    cluster.wait_for(lambda: cluster.run("squeue", "-h") == "", 60)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("hydra.launcher.partition=short",),
            "nothing was submitted: sbatch: error: Batch job submission failed: Invalid",
        ),
        (("hydra.launcher.nodes=1",), "job 0: Slurm is asked for nodes=1 and tasks_per_node=1, the trainer has"),
        (("trainer.devices=1,2",), "the jobs of one sweep are one array, of as many nodes and tasks each"),
        (("trainer.devices=auto",), "Value 'auto' of type 'str' could not be converted to Integer"),
        (("data.pathh=x",), "unknown key 'data.pathh'; did you mean path?"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_submitted(cluster, blobs, tmp_path, overrides, message):
    before = cluster.jobs()
    sweep = start(cluster, tmp_path / "sweep", blobs, *overrides)
    _, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 2
    assert message in err
    assert "Traceback" not in err
    assert cluster.jobs() <= before
