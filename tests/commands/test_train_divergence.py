"""NaN and infinity: skipped, counted, and not for ever."""

import csv
import functools

import pytest
import torch

from accidents import poison
from imago.networks.serialization import load_checkpoint, load_generator
from training_runs import TOTAL, differences, state_of


def finite(state) -> bool:
    networks = ("generator", "discriminator", "generator_ema")
    return all(bool(tensor.isfinite().all()) for name in networks for tensor in state[name].values())


@pytest.mark.parametrize(
    ("what", "value", "updates"),
    [
        ("reals", float("nan"), 4),  # of the discriminator in each of four steps
        ("generator", float("inf"), 4),
        ("discriminator", float("nan"), 4),
    ],
)
def test_updates_that_are_not_finite_are_skipped_and_counted(train, tmp_path, what, value, updates):
    result = train(tmp_path, accident=functools.partial(poison, 104, 128, value, what=what))
    assert result.code == 0, result.err
    assert "112 images seen: a loss or gradient was NaN or infinite, update skipped (1 steps in a row" in result.err
    state = state_of(tmp_path)
    assert state["images_seen"] == TOTAL
    assert state["skipped_updates"] == updates
    assert state["skipped_in_a_row"] == 0
    assert finite(state)
    with open(tmp_path / "metrics.csv", newline="") as file:
        assert list(csv.DictReader(file))[-1]["skipped_updates"] == str(updates)


@pytest.mark.parametrize("what", ["reals", "generator"])  # the other network's updates go on, which must not hide it
def test_run_stops_after_too_many_skipped_steps_and_keeps_the_checkpoint_from_before(train, tmp_path, what):
    guard = "callbacks.divergence_guard.max_skipped_in_a_row=8"
    result = train(tmp_path, guard, accident=functools.partial(poison, 104, TOTAL, what=what))
    assert result.code == 2
    assert "training diverged: a loss or gradient of 8 steps in a row was not finite, up to 168 images" in result.error
    state = load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert state["images_seen"] == 96  # not 144, when it was diverging already
    assert state["skipped_updates"] == 0
    assert finite(state)
    assert load_generator(tmp_path).generator is not None


def test_diverged_run_goes_on_from_before_once_the_cause_is_gone(train, finished_run, tmp_path):
    guard = "callbacks.divergence_guard.max_skipped_in_a_row=3"
    assert train(tmp_path, guard, accident=functools.partial(poison, 104, TOTAL)).code == 2
    result = train(tmp_path)
    assert result.code == 0, result.err
    assert differences(state_of(tmp_path), state_of(finished_run)) == []


def test_collapse_is_warned_of(train, tmp_path):
    result = train(
        tmp_path,
        "total_images=32",
        "callbacks.divergence_guard.every_images=16",
        "callbacks.divergence_guard.collapse_ratio=1000",
    )
    assert result.code == 0, result.err
    warning = "32 images seen: the generator may have collapsed: its samples vary by"
    assert warning in result.err
    assert warning in (tmp_path / "train.log").read_text()


def test_bf16_trains_every_active_generator_parameter_from_the_first_step(train, tmp_path):
    result = train(tmp_path / "untrained", "total_images=8", "growth.learning_rate=1e-30")
    assert result.code == 0, result.err
    result = train(tmp_path / "run", "total_images=8", "trainer.precision=bf16-mixed")
    assert result.code == 0, result.err
    before, after = state_of(tmp_path / "untrained"), state_of(tmp_path / "run")
    changed = {n for n, w in after["generator"].items() if not torch.equal(w, before["generator"][n])}
    active = {n for n in after["generator"] if n.startswith(("blocks.0.", "to_rgb.0."))}
    assert active
    assert changed == active
    assert finite(after)


def test_bf16_run_ends_with_finite_weights_and_goes_on(train, tmp_path):
    assert train(tmp_path, "trainer.precision=bf16-mixed", "total_images=240").code == 0
    assert train(tmp_path, "trainer.precision=bf16-mixed").code == 0
    state = state_of(tmp_path)
    assert state["images_seen"] == TOTAL
    assert state["skipped_updates"] == 0
    assert finite(state)
