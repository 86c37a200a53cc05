"""A conditional HDCGAN from training to a synthetic data set and back into training."""

import functools
import json
import signal

import pytest
from PIL import Image

from accidents import kill_at
from blobs import Blobs
from imago.data import PackedDataset, pack
from training_runs import differences, state_of

SMALL = (
    "model=hdcgan",
    "model.filters=2",
    "model.latent_size=6",
    "model.noise_decay_images=200",
    "resolution=16",
    "growth.batch_size=8",
    "loss=lsgan",
    "callbacks=activations",
    "callbacks.activation_statistics.every_images=32",
    "callbacks.showcase=null",
    "callbacks.snapshot.every_images=48",
    "callbacks.sample_grid={every_images: 48, columns: 2, rows: 2}",
    "callbacks.scalar_log.every_images=16",
    "trainer.accelerator=cpu",
    "total_images=96",
    "data=packed",
    "data.labels=[size,Bright]",
)


class LabelledBlobs(Blobs):
    name = "labelled"

    def fingerprint(self):
        return "labelled blobs"

    def read(self, index):
        item = super().read(index)
        size = ("small", "large", "huge")[index % 3]
        item.labels = {"Size": size, "Bright": "yes" if size == "small" else "no"}
        return item


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return pack(LabelledBlobs(), tmp_path_factory.mktemp("data") / "labelled", resolution=16).path


@pytest.fixture(scope="module")
def run(commands, labelled, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "conditional"
    result = commands.run("train", [*SMALL, f"data.path={labelled}", f"run_dir={run_dir}"])
    assert result.code == 0, result.err
    return run_dir


def test_killed_and_resumed(commands, run, labelled, tmp_path):
    """Noise, LSGAN's memory, labels, running statistics: all go on as if nothing had happened."""
    arguments = [*SMALL, f"data.path={labelled}", f"run_dir={tmp_path}"]
    step = "lightning_modules.adversarial:AdversarialModule.training_step"
    killed = commands.run("train", arguments, functools.partial(kill_at, step, 9, "before"))
    assert killed.code == -signal.SIGKILL
    assert commands.run("train", arguments).code == 0
    assert differences(state_of(tmp_path), state_of(run)) == []
    assert (tmp_path / "activations.csv").read_bytes() == (run / "activations.csv").read_bytes()


@pytest.fixture(scope="module")
def synthetic(commands, run, tmp_path_factory):
    out = tmp_path_factory.mktemp("packs") / "synthetic pictures"
    arguments = [f"checkpoint={run}", "what=dataset", "count=21", f"out={out}", "device=cpu", "batch_size=8"]
    result = commands.run("generate", arguments)
    assert result.code == 0, result.err
    assert "wrote 21 labelled pictures of 16×16" in result.out
    assert f"besides real images: python train.py … 'data.include_synthetic={out}'\n" in result.out
    return out


def test_a_synthetic_data_set(commands, run, synthetic, labelled, tmp_path):
    dataset = PackedDataset(synthetic)
    assert (len(dataset), dataset.resolutions, dataset.channels) == (21, [4, 8, 16], 3)
    assert dataset.item_name(20) == "synthetic_0000020"
    seen = {tuple(sorted(dataset.label_texts(i).items())) for i in range(21)}
    assert seen <= {(("Bright", b), ("Size", s)) for b, s in (("yes", "small"), ("no", "large"), ("no", "huge"))}
    origin = json.loads((synthetic / "provenance.json").read_text())
    assert (origin["seed"], origin["generator"]["images_seen"], origin["pictures"]["last"]) == (0, 96, 20)
    assert commands.run("prepare", ["what=verify", f"out={synthetic}"]).code == 0
    again = tmp_path / "again"
    arguments = [f"checkpoint={run}", "what=dataset", "count=21", f"out={again}", "device=cpu", "batch_size=8"]
    assert commands.run("generate", arguments).code == 0
    assert PackedDataset(again).checksum == dataset.checksum
    assert (again / "provenance.json").read_bytes() == (synthetic / "provenance.json").read_bytes()
    assert origin["training data"] == {"name": "labelled", "checksum": PackedDataset(labelled).checksum}


def test_a_synthetic_data_set_that_is_there(commands, run, synthetic, tmp_path):
    arguments = [f"checkpoint={run}", "what=dataset", f"out={synthetic}", "device=cpu", "batch_size=8"]
    before = (synthetic / "dataset.json").stat().st_mtime_ns
    result = commands.run("generate", [*arguments, "count=21"])
    assert (result.code, (synthetic / "dataset.json").stat().st_mtime_ns) == (0, before), result.err
    assert "holds this data set already" in result.out
    for other in (["count=20"], ["count=21", "labels.size=huge"]):
        assert "already holds pictures made otherwise" in commands.run("generate", [*arguments, *other]).error
    (tmp_path / "notes.txt").touch()
    arguments[2] = f"out={tmp_path}"
    assert "is not a packed data set" in commands.run("generate", arguments).error


def test_killed_while_packing(commands, run, synthetic, tmp_path):
    """Killed with a part written, and once more between the pack and its provenance."""
    out = tmp_path / "synthetic"
    arguments = [f"checkpoint={run}", "what=dataset", "count=21", f"out={out}", "device=cpu", "batch_size=8"]
    commit = "imago.data.pack_writer:PackWriter.commit"
    assert commands.run("generate", arguments, functools.partial(kill_at, commit, 1, "after")).code == -signal.SIGKILL
    assert not out.exists()
    place = "commands.generate_dataset:atomic_path"
    assert commands.run("generate", arguments, functools.partial(kill_at, place, 1)).code == -signal.SIGKILL
    assert PackedDataset(out).checksum == PackedDataset(synthetic).checksum
    assert not (out / "provenance.json").exists()
    assert commands.run("generate", arguments).code == 0
    assert (out / "provenance.json").read_bytes() == (synthetic / "provenance.json").read_bytes()


def test_filters(commands, run, labelled, tmp_path):
    arguments = [f"checkpoint={run}", "what=dataset", "device=cpu", f"out={tmp_path / 'few'}"]
    result = commands.run("generate", [*arguments, "count=5", "dataset.closest=0.05", f"dataset.data={labelled}"])
    assert result.code == 0, result.err
    assert "too near to a training image" in result.out
    result = commands.run("generate", [*arguments[:-1], "count=5", "dataset.closest=0.05", f"out={tmp_path / 'own'}"])
    assert result.code == 0, result.err  # the run's own data, which is a pack
    small = pack(LabelledBlobs(), tmp_path / "small", resolution=8).path
    arguments = [*arguments[:-1], "count=5", "dataset.closest=0.05", f"out={tmp_path / 'other'}"]
    result = commands.run("generate", [*arguments, f"dataset.data={small}"])
    assert "pictures are 16 high and labelled holds images of 4, 8;" in result.error
    result = commands.run("generate", [f"checkpoint={run}", "what=dataset", "count=5"])
    assert "out= is missing" in result.error


def test_training_with_synthetic_images(commands, synthetic, labelled, tmp_path):
    arguments = [*SMALL, f"data.path={labelled}", f"run_dir={tmp_path}", f"data.include_synthetic={synthetic}"]
    result = commands.run("train", [*arguments, "total_images=16"])
    assert result.code == 0, result.err
    assert "48 real images and 21 synthetic ones" in result.err
    result = commands.run("train", [*arguments[:-1], "total_images=32"])
    assert "is not the data that this run began with" in result.error


@pytest.mark.parametrize(("what", "file"), [("errors", "errors.png"), ("activations", "activations.png")])
def test_figures_of_a_run(commands, run, finished_run, tmp_path, what, file):
    result = commands.run("generate", [f"checkpoint={run}", f"what={what}", f"out={tmp_path}", "device=cpu"])
    assert result.code == 0, result.err
    with Image.open(tmp_path / file) as picture:
        assert min(picture.size) > 300
    if what == "activations":
        result = commands.run("generate", [f"checkpoint={finished_run}", "what=activations", "device=cpu"])
        assert "train with callbacks=activations" in result.error


def test_an_evaluation_of_a_conditional_generator(commands, run, tmp_path):
    arguments = [
        f"checkpoint=[{','.join(str(path) for path in sorted((run / 'generators').glob('*.safetensors')))}]",
        "metrics=[ms_ssim]",
        "protocol.ms_ssim_images=8",
        "floor=false",
        "fit=affine",
        "epochs=true",
        "device=cpu",
        f"out={tmp_path / 'report.json'}",
    ]
    result = commands.run("evaluate", arguments)
    assert result.code == 0, result.err
    assert "ms_ssim ≈" in result.out
    assert (tmp_path / "report.png").exists()
