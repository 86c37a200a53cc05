"""Metrics while training: they are logged, they keep the best checkpoint, and they leave the run alone."""

import json
import signal
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from accidents import signal_at
from callbacks.csv_table import read_rows
from callbacks.gan_metrics import GanMetrics
from callbacks.measured_rows import _read_best, _what
from imago.errors import UserError
from imago.evaluation.building import MeasureOptions, metric_names, row_names
from imago.evaluation.measure import Row
from imago.networks.serialization import load_checkpoint, load_generator
from training_runs import differences

METRICS = (
    "callbacks=metrics",
    "callbacks.showcase=null",  # the option of the group was chosen anew
    "callbacks.snapshot.every_images=48",
    "callbacks.scalar_log.every_images=16",
    "callbacks.gan_metrics.every_images=96",
    "callbacks.gan_metrics.swd_images=16",
    "callbacks.gan_metrics.ms_ssim_images=16",
    "logger=tensorboard",
)


@pytest.fixture(scope="module")
def measured_run(train, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "measured"
    result = train(run_dir, *METRICS)
    assert result.code == 0, result.err
    return run_dir, result


def evaluations(run_dir):
    return [row for row in read_rows(run_dir / "metrics.csv") if row.get("swd/avg")]


def test_the_weights_are_those_of_a_run_without_metrics(measured_run, finished_run):
    measured, plain = (load_checkpoint(run / "checkpoints/last.ckpt") for run in (measured_run[0], finished_run))
    for network in ("generator", "discriminator", "generator_ema"):
        for name, tensor in plain[network].items():
            assert torch.equal(measured[network][name], tensor), name


def test_numbers_are_logged_at_their_images(measured_run):
    rows = evaluations(measured_run[0])
    assert [int(row["images_seen"]) for row in rows] == [96, 192, 288]
    for row in rows:
        for name in ("swd/16", "swd/avg", "ms_ssim", "swd/avg/reference", "ms_ssim/reference"):
            assert float(row[name]) == pytest.approx(float(row[name]))
        assert row["discriminator_loss"] == ""  # a row of its own
    assert "96 images seen: swd/avg" in measured_run[1].err
    assert list(measured_run[0].glob("tensorboard/events*"))


@pytest.mark.parametrize("step", [12, 24])  # while 8² fades in; the last before 16² does
def test_a_run_that_has_to_stop_measures_when_it_goes_on(measured_run, train, tmp_path, step):
    """What is measured then is what would have been measured."""
    accident = partial(signal_at, "lightning_modules.adversarial:AdversarialModule.training_step", step, signal.SIGTERM)
    stopped = train(tmp_path / "run", *METRICS, accident=accident)
    assert stopped.code == 128 + signal.SIGTERM, stopped.err
    assert f"{8 * step} images seen: swd/avg" not in stopped.err
    assert len(evaluations(tmp_path / "run")) == step // 12 - 1
    assert train(tmp_path / "run", *METRICS).code == 0
    for one, other in zip(evaluations(tmp_path / "run"), evaluations(measured_run[0]), strict=True):
        assert one == other
    assert (tmp_path / "run" / "best.json").read_text() == (measured_run[0] / "best.json").read_text()
    for name in ("best", "last"):
        one, other = (load_checkpoint(run / f"checkpoints/{name}.ckpt") for run in (tmp_path / "run", measured_run[0]))
        assert differences(one, other) == [], name


def test_the_best_is_kept(measured_run):
    run_dir = measured_run[0]
    rows = evaluations(run_dir)
    best = min(rows, key=lambda row: float(row["swd/avg"]))
    record = json.loads((run_dir / "best.json").read_text())
    assert record["images_seen"] == int(best["images_seen"])
    assert record["value"] == pytest.approx(float(best["swd/avg"]), rel=1e-6)
    assert load_generator(run_dir / "best_generator.safetensors").images_seen == record["images_seen"]
    checkpoint = load_checkpoint(run_dir / "checkpoints" / "best.ckpt")
    assert checkpoint["images_seen"] == record["images_seen"]
    kept = load_file(run_dir / "best_generator.safetensors")
    for name, tensor in checkpoint["generator_ema"].items():
        assert torch.equal(kept[name], tensor)


def test_the_kept_generator_is_that_of_its_snapshot(measured_run):
    """96, 192 and 288 are snapshots, too: the averages are taken at the same moment."""
    run_dir = measured_run[0]
    seen = json.loads((run_dir / "best.json").read_text())["images_seen"]
    kept, snapshot = (
        load_file(run_dir / "best_generator.safetensors"),
        load_file(run_dir / "generators" / f"{seen:09d}.safetensors"),
    )
    assert all(torch.equal(kept[name], snapshot[name]) for name in snapshot)


def test_a_resumed_run_measures_the_same(measured_run, train, tmp_path):
    run_dir = tmp_path / "resumed"
    first = train(run_dir, *METRICS, "total_images=160")
    assert first.code == 0, first.err
    second = train(run_dir, *METRICS)
    assert second.code == 0, second.err
    for row, other in zip(evaluations(run_dir), evaluations(measured_run[0]), strict=True):
        assert row["images_seen"] == other["images_seen"]
        assert float(row["swd/avg"]) == pytest.approx(float(other["swd/avg"]), rel=1e-4)


@pytest.mark.ddp
def test_two_processes_measure_what_one_measures(measured_run, train, tmp_path):
    run_dir = tmp_path / "two"
    result = train(run_dir, *METRICS, "trainer=two_cpu_processes", "total_images=96")
    assert result.code == 0, result.err
    (row,) = evaluations(run_dir)
    expected = evaluations(measured_run[0])[0]
    for name in ("swd/avg", "ms_ssim"):
        assert float(row[name]) == pytest.approx(float(expected[name]), rel=2e-2)
        assert float(row[f"{name}/reference"]) == pytest.approx(float(expected[f"{name}/reference"]), rel=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every_images": 0}, "every_images must be at least 1"),
        ({"metrics": ["fidd"]}, "'fidd' is unknown"),
        ({"metrics": ["memorisation"]}, "for evaluate.py"),
        ({"swd_images": 0}, "swd_images must be at least 1"),
    ],
)
def test_options_that_make_no_sense(options, words):
    with pytest.raises(UserError, match=words):
        GanMetrics(**options)


@pytest.mark.parametrize(
    ("metrics", "rows"),
    [
        (["swd"], ["swd/32", "swd/16", "swd/avg"]),
        (["pr", "ms_ssim"], ["precision/face", "recall/face", "ms_ssim"]),
        (["faces", "is"], ["face_rate", "face_confidence", "inception_score/face"]),
    ],
)
def test_names_of_rows(metrics, rows):
    assert list(row_names(MeasureOptions(metric_names(metrics)), (32, 32))) == rows


def test_the_best_of_another_protocol_is_not_compared_with(measured_run, tmp_path):
    record = json.loads((measured_run[0] / "best.json").read_text())
    row = Row("swd/avg", 3.0, record["images"], record["protocol"])
    assert _read_best(measured_run[0] / "best.json", _what(row)) == record["value"]
    for other in (
        Row("swd/16", 3.0, record["images"], record["protocol"]),
        Row("swd/avg", 3.0, record["images"] + 1, record["protocol"]),
        Row("swd/avg", 3.0, record["images"], "otherwise"),
    ):
        assert _read_best(measured_run[0] / "best.json", _what(other)) is None


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["callbacks.gan_metrics.best_by=swd"], "best_by=swd is not measured; choose swd/16, swd/avg, ms_ssim"),
        (["resolution=8"], "8"),
    ],
)
def test_what_cannot_be_measured_is_told_before_training(train, tmp_path, overrides, words):
    result = train(tmp_path / "run", "callbacks=metrics", *overrides)
    assert words in result.error
    assert not list((tmp_path / "run").glob("generators/*"))


def test_what_is_missing_is_told_before_training(train, tmp_path):
    result = train(
        tmp_path / "run",
        "callbacks=metrics",
        "callbacks.gan_metrics.metrics=[modes]",
        "callbacks.gan_metrics.best_by=null",
    )
    assert "digits" in result.error
    assert not list((tmp_path / "run").glob("generators/*"))
