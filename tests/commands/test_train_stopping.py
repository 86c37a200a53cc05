"""Signals and lost processes: a run ends between two steps, says why, and goes on to the same weights."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from accidents import signal_at
from training_runs import REPOSITORY, TINY, differences, largest_difference, state_of

LONG = ("total_images=100000", "growth.final_images=100000", "callbacks.sample_grid=null")
TWO = ("trainer.devices=2", "callbacks.process_watch.lost_after_seconds=3")


class Run:
    """A run in the background, as a user starts it."""

    def __init__(self, run_dir: Path, data: Path, *overrides: str, program: tuple[str, ...] = ()) -> None:
        words = [*(program or (sys.executable,)), "train.py", *TINY, f"data.path={data}", f"run_dir={run_dir}"]
        self.run_dir = run_dir
        self.process = subprocess.Popen(
            [*words, *overrides],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for_checkpoint(self) -> None:
        self.wait_until((self.run_dir / "checkpoints" / "last.ckpt").exists)

    def wait_until(self, happened: Callable[[], bool]) -> None:
        patience = time.monotonic() + 120
        while not happened():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < patience
            time.sleep(0.1)

    def end(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=120)
        return self.process.returncode, err

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(one) for one in path.read_text().split()]


@pytest.fixture
def start(blobs, tmp_path):
    """start(*overrides): a long run in tmp_path / "run"."""
    runs = []

    def run(*overrides: str, **options) -> Run:
        runs.append(Run(tmp_path / "run", blobs, *LONG, *overrides, **options))
        return runs[-1]

    yield run
    for one in runs:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_signal_ends_a_run_with_a_checkpoint_and_it_goes_on_to_the_same_weights(start, train, tmp_path, number):
    """The signal goes to the loader processes too, as Slurm sends it."""
    run = start("data.workers=2", "callbacks.snapshot.every_images=100000")
    run.wait_until((tmp_path / "run" / "metrics.csv").exists)
    os.killpg(run.process.pid, number)
    code, err = run.end()
    assert code == 128 + number, err
    assert f"stopped by {number.name} at" in err
    assert "Traceback" not in err
    reached = state_of(tmp_path / "run")["images_seen"]
    total = (*LONG[1:], f"total_images={reached + 40}", "callbacks.snapshot.every_images=100000")
    assert train(tmp_path / "run", *total).code == 0
    assert train(tmp_path / "other", *total).code == 0
    assert differences(state_of(tmp_path / "run"), state_of(tmp_path / "other")) == []


@pytest.mark.ddp
@pytest.mark.slow
def test_signal_to_one_of_two_processes_ends_both_after_the_same_step(start, tmp_path):
    run = start(*TWO)
    run.wait_for_checkpoint()
    (other,) = run.children()
    os.kill(other, signal.SIGTERM)
    code, err = run.end()
    assert code == 143, err
    assert "stopped by a signal to another process at" in err
    assert err.count("stopped by") == 1


@pytest.mark.ddp
@pytest.mark.slow
def test_killed_process_is_named_and_the_other_one_ends(start, tmp_path):
    run = start(*TWO)
    run.wait_for_checkpoint()
    (other,) = run.children()
    began = time.monotonic()
    os.kill(other, signal.SIGKILL)
    code, err = run.end()
    assert code not in (0, None)
    assert time.monotonic() - began < 30
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, err
    assert "error: process 1 on " in errors[0]
    assert "was lost: no sign of life for 3 s; the same command goes on from the newest checkpoint" in errors[0]


@pytest.mark.ddp
@pytest.mark.slow
def test_process_that_hangs_is_named_and_the_other_one_ends(start, tmp_path):
    """Stopped as a whole, it gives no signs of life either."""
    run = start(*TWO)
    run.wait_for_checkpoint()
    (other,) = run.children()
    os.kill(other, signal.SIGSTOP)
    code, err = run.end()  # when the last process that can write to it has gone
    assert code not in (0, None)
    assert "error: process 1 on " in err


@pytest.mark.ddp
@pytest.mark.slow
def test_first_process_that_falls_silent_is_missed_by_the_other_one(start):
    run = start(*TWO)
    run.wait_for_checkpoint()
    (other,) = run.children()
    os.kill(run.process.pid, signal.SIGSTOP)
    patience = time.monotonic() + 40
    while Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()[0] != "Z":  # its parent cannot bury it
        assert time.monotonic() < patience
        time.sleep(0.2)
    run.process.kill()
    assert "process 0 on " in (err := run.end()[1])
    assert "was lost: it has not answered for 3 s" in err


@pytest.mark.ddp
@pytest.mark.slow
def test_suspended_run_goes_on_when_it_is_woken(start, tmp_path):
    """What ``scontrol suspend`` and ``scontrol resume`` do."""
    run = start(*TWO)
    run.wait_for_checkpoint()
    os.killpg(run.process.pid, signal.SIGSTOP)
    time.sleep(9)  # three times lost_after_seconds
    seen = len((tmp_path / "run" / "metrics.csv").read_text())
    os.killpg(run.process.pid, signal.SIGCONT)
    run.wait_until(lambda: len((tmp_path / "run" / "metrics.csv").read_text()) > 3 * seen)
    os.killpg(run.process.pid, signal.SIGTERM)
    code, err = run.end()
    assert code == 128 + signal.SIGTERM, err
    assert "was lost" not in err


@pytest.mark.ddp
@pytest.mark.slow
def test_first_process_is_missed_by_the_other_one(start, tmp_path):
    run = start(*TWO)
    run.wait_for_checkpoint()
    (other,) = run.children()
    run.process.kill()
    run.process.wait()
    patience = time.monotonic() + 30
    while Path(f"/proc/{other}").exists() and time.monotonic() < patience:
        time.sleep(0.2)
    assert not Path(f"/proc/{other}").exists()


@pytest.mark.ddp
@pytest.mark.slow
def test_torchrun_starts_what_lightning_starts(blobs, train, tmp_path):
    torchrun = (str(Path(sys.executable).parent / "torchrun"), "--nproc-per-node=2", "--master-port=29533")
    double = ("trainer.precision=64-true", "total_images=160")
    run = Run(tmp_path / "two", blobs, *double, "trainer.devices=2", program=torchrun)
    code, err = run.end()
    assert code == 0, err
    assert train(tmp_path / "one", *double).code == 0
    assert largest_difference(state_of(tmp_path / "two"), state_of(tmp_path / "one")) < 1e-10
    (line,) = (tmp_path / "two" / "starts.jsonl").read_text().splitlines()
    assert json.loads(line)["processes"] == 2


@pytest.mark.parametrize(
    ("number", "code", "asked"),
    [(signal.SIGUSR1, 0, "requeue 7\n"), (signal.SIGTERM, 128 + signal.SIGTERM, None)],
)
@pytest.mark.parametrize(
    "target",
    [
        "datamodules.packed:PackedDataModule.prepare_data",  # while data are packed
        "callbacks.snapshot:Snapshot.on_fit_start",  # while Lightning sets up
    ],
)
def test_signal_before_the_first_step_ends_a_run_and_requeues_its_job(train, tmp_path, number, code, asked, target):
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    (tmp_path / "scontrol").chmod(0o755)
    job = {**SLURM, "SLURM_NTASKS": "1", "SLURM_STEP_ID": "0", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    stopped = train(tmp_path / "run", accident=partial(signal_at, target, 1, number), **job)
    assert stopped.code == code, stopped.err
    assert f"stopped by {number.name}, not while training; the same command goes on" in stopped.err
    assert "Traceback" not in stopped.err
    assert ((tmp_path / "asked").read_text() if asked else not (tmp_path / "asked").exists()) == (asked or True)
    assert train(tmp_path / "run").code == 0


def test_requeueing_that_is_left_to_the_user_is_left_to_him_before_the_first_step_too(train, tmp_path):
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    (tmp_path / "scontrol").chmod(0o755)
    job = {**SLURM, "SLURM_NTASKS": "1", "SLURM_STEP_ID": "0", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    accident = partial(signal_at, "datamodules.packed:PackedDataModule.prepare_data", 1, signal.SIGUSR1)
    assert train(tmp_path / "run", "callbacks.preemption.requeue=false", accident=accident, **job).code == 138
    assert not (tmp_path / "asked").exists()


def test_second_signal_changes_nothing_about_a_stop_that_is_agreed_on(train, tmp_path):
    """SIGUSR1 in a step; SIGTERM while the run ends: the job is requeued all the same."""
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    (tmp_path / "scontrol").chmod(0o755)
    job = {**SLURM, "SLURM_NTASKS": "1", "SLURM_STEP_ID": "0", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    stopped = train(tmp_path / "run", accident=_two_signals, **job)
    assert stopped.code == 0, stopped.err
    assert "stopped by SIGUSR1 at" in stopped.err
    assert "SIGTERM" not in stopped.err
    assert (tmp_path / "asked").read_text() == "requeue 7\n"


def _two_signals() -> None:
    signal_at("lightning_modules.adversarial:AdversarialModule.training_step", 3, signal.SIGUSR1)
    signal_at("callbacks.process_watch:ProcessWatch.on_fit_end", 1, signal.SIGTERM)


def test_processes_that_were_not_started_for_the_trainer_are_refused(train, tmp_path):
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4"}
    result = train(tmp_path / "run", "trainer.devices=2", **torchrun)
    assert "4 processes were started, but trainer.devices=2 on trainer.num_nodes=1 makes 2" in result.error
    assert not (tmp_path / "run").exists()


SLURM = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "imago", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("environment", "overrides", "message"),
    [
        (
            {"SLURM_NTASKS": "2"},
            ["trainer.devices=2"],
            "the job has 2 tasks, but the command runs once: put srun",
        ),
        (
            {"SLURM_NTASKS": "1"},
            ["trainer.devices=2", "trainer.num_nodes=2"],
            "Slurm has started one task; start the command with srun --nodes=2 --ntasks-per-node=2",
        ),
        ({}, ["trainer.strategy=fsdp"], "trainer.strategy=fsdp: two networks that train in turn cannot be sharded"),
    ],
)
def test_jobs_that_cannot_train_are_refused_in_a_line(train, tmp_path, environment, overrides, message):
    result = train(tmp_path / "run", *overrides, **(SLURM | environment if environment else {}))
    assert message in result.error
    assert not (tmp_path / "run").exists()
