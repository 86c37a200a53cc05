"""Two processes train the weights that one process trains. Compared in float64: with β₁ = 0, Adam's first steps are
±the learning rate, so that in float32 one rounding of a sign moves a weight by twice that."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from accidents import poison, record_weights
from training_runs import REPOSITORY, TINY, Finished, differences, largest_difference, state_of

DOUBLE = "trainer.precision=64-true"
TWO = "trainer.devices=2"
OVER_A_BOUNDARY = "total_images=160"  # 4², fade-in, 8², from which the fade-in of 16² would come at 192


def command(run_dir: Path, data: Path, *overrides: str, accidents: list | None = None) -> Finished:
    """The real command line; Lightning starts the second process by it."""
    arguments = [*TINY, f"data.path={data}", f"run_dir={run_dir}", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    script = "train.py"
    if accidents:
        environment["ACCIDENTS"] = json.dumps(accidents)
        script = "tests/training_runs.py"
    result = subprocess.run(
        [sys.executable, script, *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return Finished(result.returncode, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def one_process(train, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("processes") / "one"
    assert train(run, DOUBLE, OVER_A_BOUNDARY).code == 0
    return run


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_equal_one_and_each_other_over_growth_boundaries(one_process, blobs, tmp_path):
    recording = [("record_weights", {"folder": str(tmp_path)})]
    result = command(tmp_path / "two", blobs, DOUBLE, TWO, OVER_A_BOUNDARY, accidents=recording)
    assert result.code == 0, result.err
    ranks = [torch.load(tmp_path / f"rank{rank}.ckpt", weights_only=True) for rank in range(2)]
    assert differences(*ranks) == []
    one = state_of(one_process)
    assert ranks[0]["images_seen"] == one["images_seen"] == 160
    assert largest_difference(ranks[0], one) < 1e-10


@pytest.mark.ddp
@pytest.mark.slow
def test_run_goes_on_with_another_number_of_processes(train, one_process, blobs, tmp_path):
    assert train(tmp_path / "1 then 2", DOUBLE, "total_images=80").code == 0
    result = command(tmp_path / "1 then 2", blobs, DOUBLE, TWO, OVER_A_BOUNDARY)
    assert result.code == 0, result.err
    assert "going on in" in result.err
    assert largest_difference(state_of(tmp_path / "1 then 2"), state_of(one_process)) < 1e-10


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_with_loader_workers_and_critic_steps_equal_one_without(train, blobs, tmp_path):
    critic = ("model.n_critic=2", DOUBLE, "total_images=96")
    assert train(tmp_path / "one", *critic).code == 0
    result = command(tmp_path / "two", blobs, *critic, TWO, "data.workers=2", "growth.mbstd_group=4")
    assert result.code == 0, result.err
    assert largest_difference(state_of(tmp_path / "two"), state_of(tmp_path / "one")) < 1e-10
    # and the run of two goes on as one
    assert train(tmp_path / "two", *critic[:2], OVER_A_BOUNDARY).code == 0
    assert train(tmp_path / "one", *critic[:2], OVER_A_BOUNDARY, "data.workers=1").code == 0
    assert largest_difference(state_of(tmp_path / "two"), state_of(tmp_path / "one")) < 1e-10


@pytest.mark.ddp
@pytest.mark.slow
def test_nan_on_one_process_skips_the_update_on_both(train, blobs, tmp_path):
    accidents = [
        ("poison", {"first": 16, "last": 24, "rank": 1}),
        ("record_weights", {"folder": str(tmp_path)}),
    ]
    result = command(tmp_path / "two", blobs, DOUBLE, TWO, "total_images=64", accidents=accidents)
    assert result.code == 0, result.err
    ranks = [torch.load(tmp_path / f"rank{rank}.ckpt", weights_only=True) for rank in range(2)]
    assert differences(*ranks) == []
    assert ranks[0]["skipped_updates"] == 2
    accident = functools.partial(poison, 16, 24)
    assert train(tmp_path / "one", DOUBLE, "total_images=64", accident=accident).code == 0
    assert largest_difference(ranks[0], state_of(tmp_path / "one")) < 1e-10


@pytest.mark.ddp
@pytest.mark.slow
def test_divergence_on_two_processes_is_told_once(blobs, tmp_path):
    accidents = [("poison", {"first": 16, "last": 1000, "rank": 1})]
    guard = "callbacks.divergence_guard.max_skipped_in_a_row=3"
    result = command(tmp_path, blobs, DOUBLE, TWO, guard, accidents=accidents)
    assert result.code == 2, result.err
    assert result.err.count("error: training diverged") == 1
    assert "Traceback" not in result.err


def test_processes_that_do_not_divide_the_batch_are_refused_with_the_numbers_that_do(train, tmp_path):
    result = train(tmp_path, "trainer.devices=3", "growth.batch_size=16")
    assert result.error == (
        "error: the batch of 16 at resolution 4 (minibatch-stddev groups of 4) does not divide among 3 processes; "
        "all batches of this schedule do among 1, 2, 4"
    )
    assert list(tmp_path.iterdir()) == []


def test_micro_batches_give_the_update_of_the_whole_batch(train, one_process, tmp_path):
    result = train(tmp_path, DOUBLE, OVER_A_BOUNDARY, "model.micro_batch=4")
    assert result.code == 0, result.err
    assert largest_difference(state_of(tmp_path), state_of(one_process)) < 1e-10


def test_loader_workers_do_not_change_a_bit(train, one_process, tmp_path):
    assert train(tmp_path, DOUBLE, OVER_A_BOUNDARY, "data.workers=2").code == 0
    assert differences(state_of(tmp_path), state_of(one_process)) == []


def test_weights_are_recorded(train, tmp_path):  # what the comparison of ranks rests on
    accident = functools.partial(record_weights, str(tmp_path))
    assert train(tmp_path / "run", "total_images=16", accident=accident).code == 0
    assert differences(torch.load(tmp_path / "rank0.ckpt", weights_only=True), state_of(tmp_path / "run")) == []


PYRAMID = (
    "model=hdcgan",
    "model.filters=2",
    "model.latent_size=6",
    "model.noise_decay_images=200",
    "loss=lsgan",
    "growth=fixed",
    "growth.batch_size=8",
    "resolution=16",
    "callbacks.showcase=null",
    "callbacks.sample_grid=null",
    "callbacks.snapshot.every_images=80",
    "trainer.accelerator=cpu",
    "data=packed",
    "total_images=80",
)


def pyramid(run_dir: Path, data: Path, *overrides: str) -> Finished:
    arguments = [*PYRAMID, f"data.path={data}", f"run_dir={run_dir}", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "train.py", *arguments]
    result = subprocess.run(
        words, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240
    )
    return Finished(result.returncode, result.stdout, result.stderr)


@pytest.mark.ddp
@pytest.mark.slow
def test_batch_statistics_over_groups_do_not_depend_on_the_number_of_processes(blobs, tmp_path):
    """Weights and running statistics, with input noise and LSGAN's memory besides."""
    for name, overrides in (("one", ()), ("two", (TWO,))):
        result = pyramid(tmp_path / name, blobs, "model.batch_norm_group=4", DOUBLE, *overrides)
        assert result.code == 0, result.err
    assert largest_difference(state_of(tmp_path / "one"), state_of(tmp_path / "two")) < 1e-10


@pytest.mark.ddp
@pytest.mark.slow
def test_sync_batch_norm_wants_gpus(blobs, tmp_path):
    result = pyramid(tmp_path, blobs, "model.sync_batch_norm=true", TWO)
    assert result.code != 0
    assert "SyncBatchNorm works on GPUs only" in result.err
