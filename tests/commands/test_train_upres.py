"""train.py experiment=upres_portraits: a run that is killed goes on, two processes are one, what it leaves enlarges."""

import csv
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from face_packs import face_pack
from PIL import Image

from accidents import kill_at
from imago.upres.loading import load_stage
from training_runs import REPOSITORY, contents, differences, largest_difference, state_of

# 64² by crops of 8² of 16², four times larger, for 12 steps of 4 pairs.
TINY = (
    "experiment=upres_portraits",
    "resolution=64",
    "base=[4,4]",
    "model.low_size=16",
    "model.face_size=32",
    "model.crop=8",
    "model.depth=2",
    "model.filters=2",
    "model.max_channels=8",
    "model.discriminator_filters=2",
    "data.held_out=2",
    "growth.batch_size=4",
    "growth.final_images=48",
    "callbacks.showcase=null",
    "callbacks.snapshot.every_images=16",
    "callbacks.sample_grid={every_images: 16, columns: 1, rows: 2}",
    "callbacks.scalar_log.every_images=8",
    "trainer.accelerator=cpu",
)
STEP = "lightning_modules.adversarial:AdversarialModule.training_step"


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    return face_pack(tmp_path_factory.mktemp("data") / "faces", 64, 9).path


@pytest.fixture(scope="module")
def train_upres(commands, faces):
    """train_upres(run_dir, *overrides): a tiny run to its end."""

    def run(run_dir: Path, *overrides: str, accident=None):
        return commands.run("train", [*TINY, f"data.path={faces}", f"run_dir={run_dir}", *overrides], accident)

    return run


@pytest.fixture(scope="module")
def finished(train_upres, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "upres"
    result = train_upres(run_dir)
    assert result.code == 0, result.err
    return run_dir


def rows(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in csv.DictReader(file)]


def pictures_and_generators(run: Path) -> dict[str, bytes]:
    return {name: data for name, (data, _) in contents(run).items() if name.endswith((".png", ".safetensors"))}


# --- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_leaves_what_every_run_leaves(finished):
    names = set(contents(finished))
    assert {"config.yaml", "metrics.csv", "train.log", "generator.safetensors", "checkpoints/last.ckpt"} <= names
    assert {f"samples/{seen:09d}.png" for seen in (0, 16, 32, 48)} <= names
    assert {f"generators/{seen:09d}.safetensors" for seen in (16, 32, 48)} <= names
    assert state_of(finished)["images_seen"] == 48
    assert {"generator_adversarial", "low_resolution_l1", "discriminator_loss"} <= rows(finished)[0].keys()
    with Image.open(finished / "samples" / "000000048.png") as grid:
        assert grid.size == (4 * 32, 2 * 32)  # input, guide, output and real, of two crops


@pytest.mark.parametrize(("call", "when", "options"), [(6, "after", []), (9, "before", ["data.workers=2"])])
def test_a_killed_run_ends_as_if_never_stopped(train_upres, finished, tmp_path, call, when, options):
    killed = train_upres(tmp_path, *options, accident=functools.partial(kill_at, STEP, call, when))
    assert killed.code == -signal.SIGKILL, killed.err
    resumed = train_upres(tmp_path, "data.threads=0")
    assert resumed.code == 0, resumed.err
    assert differences(state_of(tmp_path), state_of(finished)) == []
    assert rows(tmp_path) == rows(finished)
    assert pictures_and_generators(tmp_path) == pictures_and_generators(finished)


def test_a_run_goes_on_only_with_its_own_configuration_and_data(train_upres, finished, tmp_path):
    run = tmp_path / "run"
    assert train_upres(run, "growth.final_images=16").code == 0
    assert "guide" in train_upres(run, "model.guide=none").error
    other = face_pack(tmp_path / "other", 64, 9, seed=2).path
    assert "not the data that this run began with" in train_upres(run, f"data.path={other}").error


def test_measuring_disturbs_nothing_and_keeps_the_best(train_upres, finished, tmp_path):
    measured = ["callbacks.upres_metrics={every_images: 16, pictures: 2, shown: 1, best_by: psnr}"]
    killed = train_upres(tmp_path, *measured, accident=functools.partial(kill_at, STEP, 9, "before"))
    assert killed.code == -signal.SIGKILL, killed.err
    result = train_upres(tmp_path, *measured)
    assert result.code == 0, result.err
    assert largest_difference(state_of(tmp_path), state_of(finished)) == 0
    for name in ("000000016", "000000032", "000000048"):
        with Image.open(tmp_path / "portraits" / f"{name}.png") as picture:
            assert picture.size == (3 * 64, 64)
    measured_rows = [row for row in rows(tmp_path) if row["psnr"]]
    assert [int(row["images_seen"]) for row in measured_rows] == [16, 32, 48]
    assert {"low_resolution_l1", "sharpness", "seams", "swd/avg"} <= measured_rows[0].keys()
    best = max(measured_rows, key=lambda row: float(row["psnr"]))
    record = json.loads((tmp_path / "best.json").read_text())
    assert record["images_seen"] == int(best["images_seen"])
    assert load_stage(tmp_path / "best_generator.safetensors").factor == 4


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize("norm", ["model.discriminator_norm=layer", "model.batch_norm_group=2"])
def test_two_processes_equal_one(faces, tmp_path, norm):
    """In float64, with degradation, mirroring and guide dropout."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    for devices in (1, 2):
        run = tmp_path / str(devices)
        overrides = [norm, "trainer.precision=64-true", f"trainer.devices={devices}", "growth.final_images=32"]
        words = [sys.executable, "train.py", *TINY, f"data.path={faces}", f"run_dir={run}", *overrides]
        process = subprocess.run(
            words,
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert process.returncode == 0, process.stderr
    assert largest_difference(state_of(tmp_path / "1"), state_of(tmp_path / "2")) < 1e-10


# --- what it is for ---------------------------------------------------------------------------------------------------


def test_its_stage_has_its_geometry_and_its_discriminator(finished):
    stage = load_stage(finished)
    assert (stage.factor, stage.tile, stage.face_size, stage.low_size, stage.guide_style) == (4, 8, 32, 16, "rgb")
    assert stage.score is not None


def test_a_run_enlarges_pictures(commands, finished, tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    words = [f"checkpoint={finished}", f"input={tmp_path / 'photo.png'}", f"out={tmp_path / 'out'}", "mode=whole"]
    result = commands.run("upres", [*words, "landmarks=none", "device=cpu", "contact_sheet=false"])
    assert result.code == 0, result.err
    (made,) = (tmp_path / "out").rglob("*.png")
    with Image.open(made) as picture:
        assert picture.size == (160, 96)
        means = np.asarray(picture.convert("RGB"), dtype=float).mean(axis=(0, 1))
    np.testing.assert_allclose(means, photo.mean(axis=(0, 1)), atol=6)  # its colours are corrected


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.path=null"], "data.path= is empty: give the folder of a pack, or several, [a,b]"),
        (["data.path=/nowhere"], "/nowhere: no such folder; a packed data set is a folder with a dataset.json"),
        (["resolution=128", "model.low_size=32"], "its pictures are 64 pixels high, the run's 128"),
        (["model.low_size=24"], "model.low_size may be 32, 16, 8, 4"),
        (["model.face_size=65"], "model.face_size=65: must be at most the resolution 64"),
        (["base=[4,3]"], "has the aspect of (4, 4), the run that of (4, 3)"),
        (["data.held_out=9"], "data.held_out=9 of its 9 pictures leaves none to train on"),
        (["data.guide_dropout=2"], "data.guide_dropout must lie in [0, 1], not 2"),
        (["data.degradation.shrink=0"], "data.degradation: shares lie in [0, 1], shrink in (0, 1]"),
        (["data.landmarks=eyes"], "data.landmarks=eyes: must be one of auto, pack, dlib, none"),
        (["loss=wgan_gp"], "model.discriminator_norm=layer"),
        (["data.labels=[Glasses]"], "takes neither data.labels nor data.include_synthetic"),
        (["growth=quickstart"], "does not grow: take growth=fixed"),
        (["callbacks.upres_metrics.best_by=swd"], "best_by=swd is not measured; choose low_resolution_l1, psnr"),
        (["callbacks.upres_metrics.shown=9"], "must lie between 0 and the 8 measured"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(train_upres, tmp_path, overrides, message):
    assert message in train_upres(tmp_path / "run", *overrides).error
    assert not list(tmp_path.rglob("*.*"))


def test_a_path_is_needed(commands, tmp_path):
    result = commands.run("train", [*TINY, f"run_dir={tmp_path}"])
    assert result.error == "error: data.path is needed: add data.path=… to the command"


def test_metrics_of_pictures_from_latents_are_refused(train_upres, tmp_path):
    assert "measures pictures that are made from latents" in train_upres(tmp_path, "callbacks=metrics").error


def test_measures_of_up_resolution_are_refused_for_other_models(train, commands, faces, tmp_path):
    assert "measures up-resolution networks" in train(tmp_path / "a", "callbacks=upres").error
    pairs = ["data=upres_pairs", f"data.path={faces}", f"run_dir={tmp_path / 'b'}", "resolution=64"]
    assert "makes pairs for model=upres only" in commands.run("train", pairs).error
    images = ["model=upres", f"run_dir={tmp_path / 'c'}", "resolution=64", "model.low_size=16", "model.face_size=32"]
    images += ["data=packed", f"data.path={faces}", "model.crop=8", "model.depth=2", "model.filters=2"]
    assert "trained on pairs: take data=upres_pairs" in commands.run("train", images).error


def test_the_configuration_that_was_run_is_kept(finished):
    state = state_of(finished)
    assert state["description"]["network"] == "JNet"
    assert state["discriminator_description"]["config"]["guide_channels"] == 3
    assert json.dumps(state["description"]["config"])
