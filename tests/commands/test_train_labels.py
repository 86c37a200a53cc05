"""Runs of train.py on chosen labels, and what generate.py makes of them."""

import functools
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from accidents import kill_at
from blobs import LabelledBlobs
from imago.data import pack
from imago.networks.serialization import load_generator
from training_runs import REPOSITORY, TINY, TOTAL, differences, largest_difference, state_of

BOTH = "data.labels=[glasses,smile]"
STEP = "lightning_modules.adversarial:AdversarialModule.training_step"


@pytest.fixture(scope="module")
def train_on_labels(train, labelled_blobs):
    def run(run_dir, *overrides, labels=BOTH, **options):
        return train(run_dir, f"data.path={labelled_blobs}", labels, *overrides, **options)

    return run


@pytest.fixture(scope="module")
def labelled_run(train_on_labels, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "labelled"
    result = train_on_labels(run)
    assert result.code == 0, result.err
    return run


def test_a_run_on_labels_tells_how_well_they_are_found(labelled_run):
    assert state_of(labelled_run)["images_seen"] == TOTAL
    header, *rows = (line.split(",") for line in (labelled_run / "metrics.csv").read_text().splitlines())
    for name in ("real_label_error", "real_label_accuracy", "fake_label_accuracy", "generator_label_error"):
        values = [float(row[header.index(name)]) for row in rows]
        assert all(np.isfinite(values)), name
    assert state_of(labelled_run)["generator"]["blocks.0.first.linear.weight"].shape[1] == 8 + 5
    assert state_of(labelled_run)["discriminator"]["output.output.weight"].shape[0] == 1 + 3 + 1


def test_its_files_say_what_the_generator_can_be_asked_for(labelled_run):
    for file in (labelled_run, labelled_run / "checkpoints" / "last.ckpt"):
        labels = load_generator(file).labels
        assert [column.name for column in labels.coding.columns] == ["Glasses", "Smile"]
        assert labels.codes.shape == (48, 2)


def test_killed_run_on_labels_ends_as_if_never_stopped(train_on_labels, labelled_run, tmp_path):
    killed = train_on_labels(tmp_path, accident=functools.partial(kill_at, STEP, 15))
    assert killed.code == -signal.SIGKILL, killed.err
    resumed = train_on_labels(tmp_path)
    assert resumed.code == 0, resumed.err
    assert differences(state_of(tmp_path), state_of(labelled_run)) == []
    grids = [run / "samples" / f"{TOTAL:09d}.png" for run in (tmp_path, labelled_run)]
    assert grids[0].read_bytes() == grids[1].read_bytes()


@pytest.mark.parametrize("labels", ["data.labels=[glasses]", "data.labels=null"])
def test_a_run_does_not_go_on_with_other_labels(train_on_labels, labelled_run, labels):
    result = train_on_labels(labelled_run, labels=labels)
    assert "was trained with another configuration: data.labels: ['glasses', 'smile'] → " in result.error


class OtherBlobs(LabelledBlobs):
    def fingerprint(self):
        return "other labelled blobs"

    def read(self, index):
        return super().read(index + 1)


def test_a_run_does_not_go_on_with_other_data(train_on_labels, tmp_path):
    """Though the data set is opened for its labels before the run is."""
    run, other = tmp_path / "run", pack(OtherBlobs(), tmp_path / "other", resolution=16).path
    assert train_on_labels(run, "total_images=16").code == 0
    result = train_on_labels(run, f"data.path={other}", "total_images=32")
    assert "is not the data that this run began with" in result.error


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_on_labels_equal_one(train_on_labels, labelled_blobs, tmp_path):
    options = ("trainer.precision=64-true", "total_images=160")
    assert train_on_labels(tmp_path / "one", *options).code == 0
    overrides = [*TINY, f"data.path={labelled_blobs}", f"run_dir={tmp_path / 'two'}", BOTH, *options]
    result = subprocess.run(
        [sys.executable, "train.py", *overrides, "trainer.devices=2"],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    assert largest_difference(state_of(tmp_path / "two"), state_of(tmp_path / "one")) < 1e-10


def test_micro_batches_give_the_update_of_the_whole_batch(train_on_labels, tmp_path):
    """Also where an uneven number of values is unknown in each of them."""
    options = ("trainer.precision=64-true", "total_images=80")
    assert train_on_labels(tmp_path / "whole", *options).code == 0
    assert train_on_labels(tmp_path / "parts", *options, "model.micro_batch=4").code == 0
    assert largest_difference(state_of(tmp_path / "parts"), state_of(tmp_path / "whole")) < 1e-10


@pytest.mark.parametrize(
    ("labels", "overrides", "message"),
    [
        ("data.labels=[smiel]", (), "labelled has no labels 'smiel'; it has glasses, smile; did you mean smile?"),
        (BOTH, ("loss=began",), "an autoencoder discriminator (loss=began) has no auxiliary classifier"),
        (BOTH, ("model.label_weight=-1",), "model.label_weight must not be negative"),
    ],
)
def test_mistakes(train_on_labels, tmp_path, labels, overrides, message):
    result = train_on_labels(tmp_path / "run", *overrides, labels=labels)
    assert message in result.error
    assert not (tmp_path / "run").exists()


def test_a_pack_without_labels(train, tmp_path):
    assert "data.labels: blobs has no labels" in train(tmp_path / "run", "data.labels=[all]").error


# --- pictures of it ---------------------------------------------------------------------------------------------------


def texts_of(folder):
    for path in sorted(folder.iterdir()):
        with Image.open(path) as picture:
            yield path.name, picture.text


@pytest.mark.parametrize("options", [("labels.glasses=eyeglasses", "labels.smile=yes"), ("labels.Glasses=eyeglasses",)])
def test_pictures_by_label(commands, labelled_run, tmp_path, options):
    result = commands.run(
        "generate", [f"checkpoint={labelled_run}", f"out={tmp_path}", "count=3", "device=cpu", *options]
    )
    assert result.code == 0, result.err
    for name, text in texts_of(tmp_path):
        assert "-glasses=eyeglasses" in name
        assert text["Glasses"] == "eyeglasses"
        assert len(options) == 1 or (text["Smile"] == "yes" and name.endswith("-smile=yes.png"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("labels.glases=no", "error: labels.glases: the generator was trained with the labels glasses, smile"),
        ("labels.glasses=monocle", "error: labels.glasses=monocle: must be one of eyeglasses, no, sunglasses"),
        ("labels.smile=maybe", "must be one of no, yes"),
    ],
)
def test_labels_that_there_are_not(commands, labelled_run, tmp_path, option, message):
    result = commands.run("generate", [f"checkpoint={labelled_run}", f"out={tmp_path}", "device=cpu", option])
    assert message in result.error


def test_labels_of_a_run_without(commands, finished_run, tmp_path):
    result = commands.run("generate", [f"checkpoint={finished_run}", f"out={tmp_path}", "labels.smile=yes"])
    assert "was trained without labels" in result.error


def test_evaluation_draws_labels(commands, labelled_run, tmp_path):
    out = tmp_path / "report.json"
    options = ["metrics=[swd]", "protocol.swd_images=16", f"out={out}", "device=cpu"]
    result = commands.run("evaluate", [f"checkpoint={labelled_run}", *options])
    assert result.code == 0, result.err
    assert out.exists()
