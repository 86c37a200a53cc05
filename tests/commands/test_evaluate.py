"""evaluate.py: numbers of a run, what it compares them with, and the mistakes a user makes."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imago.data import PackedDataset

QUICK = (
    "protocol.swd_images=16",
    "protocol.ms_ssim_images=16",
    "protocol.swd_directions=16",
    "protocol.swd_patches=8",
    "device=cpu",
    "batch_size=8",
)


@pytest.fixture(scope="module")
def evaluate(commands, finished_run, blobs, tmp_path_factory):
    """evaluate(*overrides): of the finished run, against its own data, with few images."""
    cache = tmp_path_factory.mktemp("cache")

    def run(*overrides, checkpoint=finished_run, data=blobs):
        place = [f"data.path={data}"] if data else []
        return commands.run("evaluate", [f"checkpoint={checkpoint}", *place, *QUICK, f"cache={cache}", *overrides])

    return run


@pytest.fixture(scope="module")
def report(evaluate, tmp_path_factory):
    """A report of SWD and MS-SSIM, and what the command printed."""
    out = tmp_path_factory.mktemp("report") / "report.json"
    result = evaluate(f"out={out}")
    assert result.code == 0, result.err
    return json.loads(out.read_text()), result, out


def values(report):
    (one,) = report["checkpoints"]
    return {row["metric"]: row for row in one["results"]}


def test_the_report_says_what_was_measured_and_what_to_hold_it_against(report, blobs):
    content, result, out = report
    rows = values(content)
    assert list(rows) == ["swd/16", "swd/avg", "ms_ssim"]
    for row in rows.values():
        assert math.isfinite(row["value"])
        assert math.isfinite(row["reference"])
        assert row["images"] == 16
    assert rows["swd/avg"]["value"] > rows["swd/avg"]["reference"]  # 320 images of training are not enough to match
    assert content["data"]["checksum"] == PackedDataset(blobs).checksum
    assert content["checkpoints"][0]["images_seen"] == 320
    for word in ("swd/16", "ms_ssim", "reference", "real against real", str(out)):
        assert word in result.out
    assert out.with_suffix(".md").exists()


def test_the_same_command_gives_the_same_numbers(report, evaluate, tmp_path):
    again = evaluate(f"out={tmp_path / 'a.json'}", "batch_size=3")
    assert again.code == 0, again.err
    rows, others = values(report[0]), values(json.loads((tmp_path / "a.json").read_text()))
    for name, row in rows.items():
        assert others[name]["value"] == pytest.approx(row["value"], rel=2e-2)  # bytes may round otherwise
        assert others[name]["reference"] == pytest.approx(row["reference"], rel=1e-4)


def test_without_data_the_run_is_compared_with_its_own(report, evaluate, finished_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    result = evaluate(checkpoint=run, data=None)
    assert result.code == 0, result.err
    assert "was trained on" in result.err
    (out,) = run.glob("evaluation/000000320-swd-ms_ssim-*.json")
    assert json.loads(out.read_text())["data"] == {**report[0]["data"], "mirror": True}
    again = evaluate("metrics=[ms_ssim]", checkpoint=run, data=None)
    assert again.code == 0, again.err
    assert len(list(run.glob("evaluation/*.json"))) == 2  # no report takes the place of another


def test_several_generators_make_a_curve(evaluate, finished_run, tmp_path):
    pattern = finished_run / "generators" / "*.safetensors"
    result = evaluate("metrics=[ms_ssim]", f"out={tmp_path / 'curve.json'}", checkpoint=pattern)
    assert result.code == 0, result.err
    seen = [one["images_seen"] for one in json.loads((tmp_path / "curve.json").read_text())["checkpoints"]]
    assert seen == sorted(seen)
    assert len(seen) == len(list(finished_run.glob("generators/*")))
    assert (tmp_path / "curve.png").exists()


def test_pooled_generators_are_one_set(evaluate, finished_run, tmp_path):
    pattern = finished_run / "generators" / "*.safetensors"
    out = tmp_path / "pool.json"
    arguments = ("metrics=[ms_ssim]", "protocol=hdcgan", "protocol.ms_ssim_images=16", f"out={out}")
    result = evaluate(*arguments, checkpoint=pattern)
    assert result.code == 0, result.err
    (one,) = json.loads(out.read_text())["checkpoints"]
    assert "more" in one["checkpoint"]
    assert "128²" in one["results"][0]["protocol"]


def test_fewer_real_images_than_the_protocol_wants(evaluate, tmp_path):
    out = tmp_path / "a.json"
    result = evaluate("protocol.swd_images=1000", "metrics=[swd]", f"out={out}")
    assert result.code == 0, result.err
    assert "24 images instead of 1,000" in result.err
    rows = values(json.loads(out.read_text()))
    assert rows["swd/avg"]["images"] == 24
    assert rows["swd/avg"]["reference_is"] == "real against real"


@pytest.mark.ddp
def test_two_processes_find_what_one_finds(evaluate, tmp_path):
    metrics = "metrics=[swd,ms_ssim,fid,kid,faces]"
    found = []
    for processes in (1, 2):
        out, cache = tmp_path / f"{processes}.json", tmp_path / f"cache{processes}"
        result = evaluate(f"out={out}", f"processes={processes}", metrics, f"cache={cache}")
        assert result.code == 0, result.err
        found.append(values(json.loads(out.read_text())))
    rows, others = found
    assert list(rows) == list(others)
    for name, row in rows.items():
        assert others[name]["images"] == row["images"]
        for key in ("value", "reference"):
            if row[key] is not None:  # blobs have no faces, which have no confidence then
                assert others[name][key] == pytest.approx(row[key], rel=2e-2, abs=1e-6)


def neighbours_of(evaluate, tmp_path, *overrides):
    out = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
    result = evaluate("metrics=[neighbours]", "neighbour_samples=3", "neighbours=2", f"out={out}", *overrides)
    assert result.code == 0, result.err
    with Image.open(out.with_name(f"{out.stem}-neighbours.png")) as picture:
        return np.asarray(picture)


def test_neighbours_are_training_images(evaluate, blobs, tmp_path):
    """By pixels: the second row holds the nearest of all images and their mirror images, found by brute force."""
    picture = neighbours_of(evaluate, tmp_path, "neighbour_crop=1")[::8, ::8]  # enlarged to 128 pixels
    assert picture.shape == (3 * 16, 3 * 16, 3)
    images = PackedDataset(blobs).images(np.arange(48), 16).transpose(0, 2, 3, 1).astype(float)
    images = np.concatenate([images, images[:, :, ::-1]])
    for column in range(3):
        sample, first = (picture[row : row + 16, 16 * column : 16 * column + 16].astype(float) for row in (0, 16))
        distances = ((images - sample) ** 2).sum((1, 2, 3))
        assert np.array_equal(first, images[distances.argmin()])


@pytest.mark.ddp
def test_two_processes_find_the_same_neighbours(evaluate, tmp_path):
    one, two = (neighbours_of(evaluate, tmp_path, f"processes={processes}") for processes in (1, 2))
    assert np.array_equal(one[128:], two[128:])


@pytest.mark.ddp
def test_a_mistake_is_told_once_with_two_processes(evaluate, tmp_path):
    result = evaluate("processes=2", "metrics=[memorisation]", f"out={tmp_path / 'a.json'}")
    assert "held_out" in result.error


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["metrics=[swdd]"], "'swdd' is unknown; choose from swd"),
        (["metrics=[]"], "asks for nothing"),
        (["metrics=[memorisation]"], "held_out=…"),
        (["metrics=[modes]"], "digits=…"),
        (["metrics=[ppl]"], "vgg16_weights=…"),
        (["metrics=[is]"], "features=inception"),
        (["metrics=[fid]", "features=resnet"], "resnet"),
        (["protocol.swd_images=0"], "protocol.swd_images must be at least 1"),
        (["protocol.resize=lanczos"], "box, clean or tf1"),
        (["protocol=paper"], "paper"),
        (["out=report.txt"], "end in .json"),
        (["batch_size=0"], "batch_size must be at least 1"),
        (["resolution=24"], "multiple"),
        (["resolution=4096"], "4096"),
        (["metric=[swd]"], "did you mean metrics?"),
        (["data.path=nowhere"], "nowhere"),
        (["device=tpu"], "tpu"),
        (["seed=-1"], "seed"),
        (["out=/proc/nowhere/report.json"], "cannot be written there"),
        (["metrics=[modes]", "digits=nowhere"], "nowhere"),
        (["metrics=[neighbours]", "neighbours=100"], "only 48 training images"),
        (["metrics=[fid]", "features=vgg16", "weights=nowhere.pth"], "nowhere.pth"),
    ],
)
def test_mistakes(evaluate, overrides, words):
    assert words in evaluate(*overrides).error


def test_no_such_checkpoint(evaluate, tmp_path):
    assert "5: no such file" in evaluate(checkpoint=5).error
    assert "is empty" in evaluate(checkpoint="null").error
    assert "nothing matches" in evaluate(checkpoint=f"{tmp_path}/*.safetensors").error
    assert "no such file" in evaluate(checkpoint=tmp_path / "a.ckpt").error
    (tmp_path / "b.safetensors").write_bytes(b"no")
    assert "not a whole .safetensors file" in evaluate(checkpoint=tmp_path / "b.safetensors").error


def test_a_generator_that_grows_still_is_measured_at_its_final_size(evaluate, finished_run, tmp_path):
    out = tmp_path / "a.json"
    result = evaluate("metrics=[swd]", f"out={out}", checkpoint=finished_run / "generators" / "000000048.safetensors")
    assert result.code == 0, result.err
    assert json.loads(out.read_text())["resolution"] == 16


@pytest.mark.parametrize(
    "content",
    [
        "data: {}",
        "model: 3",
        "data: [",
        # What may run code that it names:
        "data: {_target_: os.system, command: ls}",
        "data: {_target_: datamodules.sources.os.system, command: ls}",
        "data: {_target_: datamodules.packed.PackedDataModule, path: {_target_: torch.hub.load}}",
        "data: {_target_: datamodules.sources.SourceDataModule, reader: antigravity.x, root: a}",
        "data: {_target_: datamodules.sources.SourceDataModule, enhance: 'antigravity:x', root: a}",
    ],
)
def test_a_damaged_run_directory(evaluate, finished_run, tmp_path, content):
    shutil.copytree(finished_run, tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text(content)
    assert "data.path=…" in evaluate(checkpoint=tmp_path / "run", data=None).error


def test_an_option_changes_the_run_s_own_data(evaluate, finished_run, tmp_path):
    out = tmp_path / "a.json"
    result = evaluate("data.mirror=false", f"out={out}", data=None)
    assert result.code == 0, result.err
    assert json.loads(out.read_text())["data"]["mirror"] is False
    assert "data.root is needed" in evaluate("data=folder", data=None).error


def test_without_any_data(commands, finished_run, tmp_path):
    alone = tmp_path / "generator.safetensors"
    alone.write_bytes((Path(finished_run) / "generator.safetensors").read_bytes())
    result = commands.run("evaluate", [f"checkpoint={alone}", *QUICK])
    assert "data.path=…" in result.error
    result = commands.run("evaluate", [f"checkpoint={alone}", *QUICK, "metrics=[ms_ssim]"])
    assert result.code == 0, result.err
    assert "no real images" in result.out
