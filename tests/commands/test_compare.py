"""A table of runs: found, read, sorted, shown with their samples."""

import base64
import csv
import io
import json
import multiprocessing
import re
from functools import partial
from pathlib import Path

import pytest
import yaml
from PIL import Image

from accidents import poison
from commands.run_directory import RunDirectory
from commands.run_records import differing_keys, find_runs, higher_is_better, sort_runs
from imago.errors import UserError
from imago.evaluation.building import MeasureOptions, row_names
from imago.evaluation.protocol import Protocol
from imago.metrics.discrete_modes import DiscreteModes
from imago.metrics.face_detection import FaceDetection
from imago.metrics.frechet import FrechetDistance
from imago.metrics.inception_score import InceptionScore
from imago.metrics.kernel import KernelDistance
from imago.metrics.ms_ssim import MultiScaleSsim
from imago.metrics.precision_recall import PrecisionRecall
from imago.metrics.sliced_wasserstein import SlicedWasserstein
from training_runs import TINY

CLASSES = {
    "swd": SlicedWasserstein,
    "ms_ssim": MultiScaleSsim,
    "frechet": FrechetDistance,
    "kernel": KernelDistance,
    "precision_recall": PrecisionRecall,
    "inception_score": InceptionScore,
    "faces": FaceDetection,
    "modes": DiscreteModes,
}


def make_run(folder: Path, seed: int, swd: list[float], total: int = 200, **config) -> Path:
    """A run directory that measured swd/avg every 100 images."""
    (folder / "samples").mkdir(parents=True)
    values = {"seed": seed, "total_images": total, "run_dir": str(folder), "trainer": {"devices": seed + 1}, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    lines = ["images_seen,resolution,generator_loss,swd/avg,swd/avg/reference"]
    for i, value in enumerate(swd, 1):
        lines += [f"{100 * i},8,{seed + i},,", f"{100 * i},,,{value},5"]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    for i in range(len(swd)):
        Image.new("RGB", (16, 8), (10 * i, seed, 0)).save(folder / "samples" / f"{100 * (i + 1):09d}.png")
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three runs, the second the best, the third stopped half-way; and a broken one."""
    for seed, swd in enumerate(([9.0, 7.0], [8.0, 3.0], [6.0])):
        make_run(tmp_path / "sweep" / str(seed), seed, swd, loss={"_target_": "a.b.Hinge", "drift": 0.001 * (seed > 1)})
    (tmp_path / "sweep" / "10").mkdir()
    (tmp_path / "sweep" / "10" / "config.yaml").write_text("a: [")
    (tmp_path / "sweep" / "10" / "metrics.csv").write_text("")
    (tmp_path / "sweep" / "code").mkdir()
    return tmp_path / "sweep"


def test_runs_are_found_at_any_depth_by_folder_pattern_and_list(sweep, tmp_path):
    names = [["0", "1", "2", "10"], ["sweep/0", "sweep/1", "sweep/2", "sweep/10"]]
    assert [run.name for run in find_runs(str(sweep))] == names[0]
    assert [run.name for run in find_runs(str(tmp_path))] == names[1]
    assert [run.name for run in find_runs(str(tmp_path / "s*"))] == names[1]
    assert [run.name for run in find_runs([str(sweep / "1"), str(sweep / "0")])] == ["0", "1"]


def test_newest_values_state_and_samples_are_read(sweep):
    first, _, third, broken = find_runs(str(sweep))
    assert (first.images_seen, first.state, third.state) == (200, "finished", "stopped, 50 %")
    assert first.values["swd/avg"] == 7.0
    assert first.measured == ["swd/avg"]
    assert first.samples is not None
    assert first.samples.name == "000000200.png"
    assert broken.state == "config.yaml cannot be read"


def test_only_what_shapes_training_and_differs_is_shown(sweep):
    runs = find_runs(str(sweep))
    assert differing_keys(runs) == ["loss.drift", "seed"]
    assert runs[0].config["loss"] == "Hinge"


def test_best_run_comes_first_and_runs_without_the_metric_last(sweep):
    runs = find_runs(str(sweep))
    ordered, name = sort_runs(runs, None)
    assert name == "swd/avg"
    assert [run.name for run in ordered] == ["1", "2", "0", "10"]
    assert [run.name for run in sort_runs(runs, "-swd/avg")[0]] == ["0", "2", "1", "10"]
    assert [run.name for run in sort_runs(runs, "images_seen")[0]][:2] in (["0", "1"], ["1", "0"])
    with pytest.raises(UserError, match=r"sort_by=swd: no run has it; there are .*swd/avg"):
        sort_runs(runs, "swd")


def test_numbers_of_evaluations_are_columns_too(sweep):
    (sweep / "0" / "evaluation").mkdir()
    rows = [{"metric": "ms_ssim", "value": 0.25}]
    report = {"checkpoints": [{"images_seen": n, "results": rows} for n in (100, 200)]}
    report["checkpoints"][0]["results"] = [{"metric": "ms_ssim", "value": 0.9}]
    (sweep / "0" / "evaluation" / "200.json").write_text(json.dumps(report))
    assert find_runs(str(sweep))[0].values["evaluate/ms_ssim"] == 0.25


def test_page_holds_the_table_and_the_newest_samples_of_each_run(commands, sweep):
    result = commands.run("evaluate", ["what=compare", f"runs={sweep}"])
    assert result.code == 0, result.err
    text = (sweep / "compare.html").read_text()
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)  # nothing is loaded from elsewhere
    pictures = [Image.open(io.BytesIO(base64.b64decode(one))) for one in re.findall(r"base64,([^\"]*)", text)]
    assert [one.size for one in pictures] == [(16, 8)] * 3
    greens = [one.getpixel((3, 3))[1] for one in pictures]  # the seeds: best first
    assert all(abs(green - seed) <= 3 for green, seed in zip(greens, (1, 2, 0), strict=True))
    with open(sweep / "compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["swd/avg"], row["seed"]) for row in rows[:3]] == [
        ("1", "3", "1"),
        ("2", "6", "2"),
        ("0", "7", "0"),
    ]


def test_picture_has_a_row_for_every_run(commands, sweep, tmp_path):
    heights = []
    for runs in (sweep / "0", sweep):
        result = commands.run("evaluate", ["what=compare", f"runs={runs}", f"out={tmp_path / 'table.png'}"])
        assert result.code == 0, result.err
        with Image.open(tmp_path / "table.png") as picture:
            heights.append(picture.height)
    assert heights[1] > 3 * heights[0]


def test_sweep_that_was_trained_is_compared(commands, blobs, tmp_path):
    options = ["-m", *TINY, f"data.path={blobs}", "total_images=32", f"hydra.sweep.dir={tmp_path}", "seed=0,1"]
    assert commands.run("train", options).code == 0
    result = commands.run("evaluate", ["what=compare", f"runs={tmp_path}", "sort_by=generator_loss"])
    assert result.code == 0, result.err
    with open(tmp_path / "compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["seed"] for row in rows) == ["0", "1"]
    assert {row["state"] for row in rows} == {"finished"}
    losses = [float(row["generator_loss"]) for row in rows]
    assert losses == sorted(losses)


def test_jobs_that_failed_are_in_the_table_with_their_reason_and_their_overrides(commands, blobs, tmp_path):
    options = ["-m", *TINY, f"data.path={blobs}", "total_images=16", f"hydra.sweep.dir={tmp_path}"]
    assert commands.run("train", [*options, "model.fmap_max=8,-1"]).code == 1
    good, bad = find_runs(str(tmp_path))
    assert (good.state, bad.name) == ("finished", "1")
    assert bad.state.startswith("failed: channels, fmap_base and fmap_max must be at least 1")
    assert differing_keys([good, bad]) == ["model.fmap_max"]
    assert [str(run.config["model.fmap_max"]) for run in (good, bad)] == ["8", "-1"]
    # A run that refuses to go on with another configuration has not failed itself.
    assert commands.run("train", [*options, "model.fmap_max=4"]).code == 1
    assert find_runs(str(tmp_path))[0].state == "finished"
    assert not (tmp_path / "0" / "failed.json").exists()


def test_run_that_failed_under_way_is_so_until_it_goes_on(commands, blobs, tmp_path):
    options = ["-m", *TINY, f"data.path={blobs}", f"run_dir={tmp_path}", "seed=3"]
    diverging = partial(poison, 160, 1000)
    guard = "callbacks.divergence_guard.max_skipped_in_a_row=3"
    assert commands.run("train", [*options, guard], diverging).code == 1
    (run,) = find_runs(str(tmp_path))
    assert run.state.startswith("failed: ")
    assert run.images_seen > 0
    assert commands.run("train", options).code == 0
    assert find_runs(str(tmp_path))[0].state == "finished"


def test_run_that_a_process_trains_is_running(tmp_path):
    make_run(tmp_path / "run", 0, [1.0], total=400)
    (tmp_path / "run" / ".lock").touch()
    assert find_runs(str(tmp_path / "run"))[0].state == "stopped, 25 %"
    held, done = multiprocessing.Event(), multiprocessing.Event()
    other = multiprocessing.Process(target=_hold, args=(tmp_path / "run", held, done))
    other.start()
    assert held.wait(60)
    assert find_runs(str(tmp_path / "run"))[0].state == "running, 25 %"
    done.set()
    other.join()


def _hold(run: Path, held, done) -> None:
    with RunDirectory(run).locked():
        held.set()
        done.wait()


def test_nothing_that_a_configuration_names_is_called(sweep, tmp_path):
    config = yaml.safe_load((sweep / "0" / "config.yaml").read_text())
    touch = {
        "_target_": "pathlib.Path.touch",
        "_args_": [{"_target_": "pathlib.Path", "_args_": [str(tmp_path / "x")]}],
    }
    growth = {"_target_": "imago.growth.GrowthSchedule", "stabilize_images": touch}
    config |= {"total_images": None, "growth": growth, "resolution": 8, "base": [4, 4]}
    (sweep / "0" / "config.yaml").write_text(yaml.safe_dump(config))
    assert find_runs(str(sweep / "0"))[0].total_images is None
    assert not (tmp_path / "x").exists()


def test_end_of_a_run_is_that_of_its_schedule(sweep):
    config = yaml.safe_load((sweep / "0" / "config.yaml").read_text())
    numbers = {"stabilize_images": 100, "fade_images": 100, "final_images": 50, "batch_size": 8, "learning_rate": 0.001}
    growth = {"_target_": "imago.growth.GrowthSchedule", **numbers, "start_resolution": None}
    config |= {"total_images": None, "growth": growth, "resolution": 8, "base": [4, 4]}
    (sweep / "0" / "config.yaml").write_text(yaml.safe_dump(config))
    assert find_runs(str(sweep / "0"))[0].total_images == 250  # 4² stabilised, 8² faded in, and the end


def test_directions_are_those_that_the_metrics_declare():
    """By the row's name, as it stands in metrics.csv, against the class that computes it."""
    options = MeasureOptions(list(CLASSES), Protocol())
    for row, metric in row_names(options, (64, 64)).items():
        expected = False if row == "modes_kl" else CLASSES[metric].higher_is_better
        assert higher_is_better(row) is expected, row
        assert higher_is_better(f"evaluate/{row}") is expected, row
    assert not higher_is_better("swd/avg/reference")
    assert higher_is_better("validation/Smile/balanced_accuracy")
    assert not higher_is_better("generator_loss")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["what=compare"], "runs is needed"),
        (["what=compare", "runs=nowhere"], "runs=nowhere: no run directory is there"),
        (["what=compair"], "what must be metrics or compare, not compair"),
        ([], "checkpoint is needed: add checkpoint=… to the command"),
    ],
)
def test_mistakes_are_told_in_a_line(commands, options, message):
    result = commands.run("evaluate", options)
    assert message in result.error
    assert result.code == 2


def test_other_endings_are_refused(commands, sweep):
    result = commands.run("evaluate", ["what=compare", f"runs={sweep}", "out=table.pdf"])
    assert "out=table.pdf: a comparison is written as .html or .png" in result.error
