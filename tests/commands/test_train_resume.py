"""A run that is stopped in any way and started again is the run that was never stopped."""

import csv
import errno
import functools
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from accidents import fail_at, kill_after_calls, kill_at
from training_runs import TINY, TOTAL, contents, differences, state_of

DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def rows(run: Path) -> list[dict[str, str]]:
    """metrics.csv without the column that tells the machine's speed."""
    with open(run / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in csv.DictReader(file)]


def left_by(run: Path) -> dict[str, bytes]:
    """Pictures and generators of a run, and whatever else is there that should not be."""
    varies = ("train.log", ".lock", "metrics.csv", "config.yaml", "checkpoints/last.ckpt", "checkpoints/previous.ckpt")
    files = {name: data for name, (data, _) in contents(run).items() if name not in varies}
    return {name: data for name, data in files.items() if not name.startswith(("starts", "changes"))}


def assert_same_run(run: Path, reference: Path) -> None:
    assert differences(state_of(run), state_of(reference)) == []
    assert rows(run) == rows(reference)
    assert left_by(run) == left_by(reference)


# --- kill -9 ----------------------------------------------------------------------------------------------------------


STEP = "lightning_modules.adversarial:AdversarialModule.training_step"
RENAME = "callbacks.snapshot:os.replace"  # of temporary files to their names, metrics.csv and grids included


@pytest.mark.parametrize(
    ("target", "call", "when"),
    [
        ("torch:save", 3, "half"),  # half a checkpoint on the disk
        ("callbacks.snapshot:save_generator", 2, "after"),  # between the two files of a snapshot
        (STEP, 8, "after"),  # 64: a fade-in begins
        (STEP, 9, "before"),
        ("callbacks.snapshot:Snapshot.save", 7, "after"),  # all is done but the farewell
        *(
            pytest.param(*point, marks=pytest.mark.slow)
            for point in [
                ("torch:save", 1, "before"),  # nothing to go on from
                ("os:fsync", 5, "before"),  # a checkpoint that is not synced
                *((RENAME, call, when) for call in range(7, 13) for when in ("before", "after")),
                ("callbacks.snapshot:Snapshot.save", 7, "before"),  # all is done but the last snapshot
            ]
        ),
    ],
)
def test_killed_run_ends_as_if_never_stopped(train, finished_run, tmp_path, target, call, when):
    killed = train(tmp_path, accident=functools.partial(kill_at, target, call, when))
    assert killed.code == -signal.SIGKILL, killed.err
    resumed = train(tmp_path)
    assert resumed.code == 0, resumed.err
    assert_same_run(tmp_path, finished_run)


def test_run_killed_at_random_moments_ends_as_if_never_stopped(train, finished_run, tmp_path):
    counted = tmp_path / "calls"
    result = train(tmp_path / "whole", accident=functools.partial(kill_after_calls, -1, str(counted)))
    assert result.code == 0, result.err
    calls, rng, run = int(counted.read_text()), random.Random(0), tmp_path / "run"
    kills = 0
    for _ in range(4):
        result = train(run, accident=functools.partial(kill_after_calls, rng.randrange(calls)))
        assert result.code in (0, -signal.SIGKILL), result.err
        kills += result.code != 0
    assert kills
    result = train(run)
    assert result.code == 0, result.err
    assert_same_run(run, finished_run)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_run_killed_from_outside_again_and_again_ends_as_if_never_stopped(
    commands, train, blobs, finished_run, tmp_path, seed
):
    rng, run = random.Random(seed), tmp_path / "run"
    options = ["data.workers=1"] if seed % 2 else []
    for _ in range(4):
        running = commands.start("train", [*TINY, f"data.path={blobs}", f"run_dir={run}", *options])
        time.sleep(rng.uniform(0.1, 2.5))
        running.process.kill()
        assert running.wait().code in (0, -signal.SIGKILL)
    result = train(run, *options)  # at once: a killed process's loader workers live on for seconds
    assert result.code == 0, result.err
    assert_same_run(run, finished_run)


def test_run_on_two_discriminator_steps_and_loader_workers_is_the_same_after_a_kill(train, tmp_path):
    options = ("model.n_critic=2", "growth.final_images=16", "callbacks.snapshot.every_images=96")
    assert train(tmp_path / "whole", *options).code == 0
    killed = train(tmp_path / "run", *options, "data.workers=2", accident=functools.partial(kill_at, STEP, 15))
    assert killed.code == -signal.SIGKILL
    result = train(tmp_path / "run", *options, "data.workers=1")
    assert result.code == 0, result.err
    assert differences(state_of(tmp_path / "run"), state_of(tmp_path / "whole")) == []


def test_interrupted_run_ends_with_one_line_and_goes_on(commands, train, blobs, finished_run, tmp_path):
    running = commands.start("train", [*TINY, f"data.path={blobs}", f"run_dir={tmp_path}"])
    while not (tmp_path / "checkpoints" / "last.ckpt").exists():
        assert running.process.is_alive()
        time.sleep(0.005)
    os.kill(running.process.pid, signal.SIGINT)
    result = running.wait()
    assert result.code == 130
    assert result.error == "error: interrupted; the same command goes on from the newest checkpoint"
    assert train(tmp_path).code == 0
    assert_same_run(tmp_path, finished_run)


# --- extending --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_total", [64, 100])  # at a growth boundary; within a fade-in, no multiple of the batch
def test_extended_run_equals_the_longer_run(train, finished_run, tmp_path, first_total):
    assert train(tmp_path, f"total_images={first_total}").code == 0
    assert state_of(tmp_path)["images_seen"] == -(-first_total // 8) * 8
    result = train(tmp_path)
    assert result.code == 0, result.err
    assert "going on in" in result.err
    assert differences(state_of(tmp_path), state_of(finished_run)) == []
    assert rows(tmp_path) == rows(finished_run)


def test_finished_run_is_left_as_it_is(train, finished_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    before = contents(run)
    result = train(run)
    assert result.code == 0
    assert f"is finished: {TOTAL} of {TOTAL} images seen" in result.err
    changed = {name for name, content in contents(run).items() if content != before.get(name)}
    assert changed <= {"train.log", "config.yaml", "metrics.csv", ".lock"}
    assert rows(run) == rows(finished_run)


# --- damage and full disks --------------------------------------------------------------------------------------------


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def with_a_flipped_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        with_a_flipped_bit,
        *(pytest.param(d, marks=pytest.mark.slow) for d in (cut_short, emptied, replaced_by_a_folder)),
    ],
)
def test_damaged_checkpoint_falls_back_to_the_one_before_with_a_warning(train, finished_run, tmp_path, damage):
    run = tmp_path / "run"
    assert train(run, "total_images=160").code == 0
    damage(run / "checkpoints" / "last.ckpt")
    result = train(run)
    assert result.code == 0, result.err
    assert "going on from the checkpoint before it, previous.ckpt" in result.err
    assert (run / "checkpoints" / "damaged-last.ckpt").exists()
    assert differences(state_of(run), state_of(finished_run)) == []
    assert rows(run) == rows(finished_run)


@pytest.mark.parametrize("call", [5, *(pytest.param(call, marks=pytest.mark.slow) for call in (1, 2, 3, 4, 6, 7))])
def test_a_whole_checkpoint_remains_at_every_moment_after_a_fallback(train, tmp_path, call):
    run = tmp_path / "run"
    assert train(run, "total_images=160").code == 0
    cut_short(run / "checkpoints" / "last.ckpt")
    killed = train(run, accident=functools.partial(kill_at, "callbacks.snapshot:os.replace", call, "after"))
    assert killed.code == -signal.SIGKILL
    result = train(run, "total_images=160")
    assert result.code == 0, result.err
    assert state_of(run)["images_seen"] >= 160


def test_run_without_a_whole_checkpoint_is_refused_rather_than_begun_again(train, tmp_path):
    run = tmp_path / "run"
    assert train(run, "total_images=160").code == 0
    for name in ("last", "previous"):
        cut_short(run / "checkpoints" / f"{name}.ckpt")
    before = contents(run)
    result = train(run)
    assert "no whole checkpoint is left" in result.error
    assert contents(run) == before


@pytest.mark.parametrize(
    ("target", "first"),
    [
        ("callbacks.snapshot:torch.save", 2),
        ("callbacks.snapshot:os.fsync", 3),
        ("pathlib:Path.write_bytes", 2),
    ],
)
def test_full_disk_costs_snapshots_but_not_the_run(train, finished_run, tmp_path, target, first):
    result = train(tmp_path, accident=functools.partial(fail_at, target, DISK_FULL, first, first + 1))
    assert result.code == 0, result.err
    assert "96 images seen: the snapshot could not be written (No space left on device)" in result.err
    assert "144 images seen: the snapshot could not be written (No space left on device)" in result.err
    assert "192 images seen: the snapshot" not in result.err
    assert differences(state_of(tmp_path), state_of(finished_run)) == []
    assert not list(tmp_path.rglob("*.tmp"))


def test_disk_that_stays_full_is_an_error_at_the_end_and_the_run_goes_on_later(train, finished_run, tmp_path):
    result = train(tmp_path, accident=functools.partial(fail_at, "callbacks.snapshot:os.fsync", DISK_FULL, 5))
    assert result.code == 2
    assert "the last snapshot could not be written: No space left on device" in result.error
    assert state_of(tmp_path)["images_seen"] == 96
    result = train(tmp_path)
    assert result.code == 0, result.err
    assert_same_run(tmp_path, finished_run)
