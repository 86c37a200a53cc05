"""upres.py in a process of its own: stages from their files, exit codes, and one line for a mistake."""

import numpy as np
import pytest
import torch
from PIL import Image

from imago.networks import JNet
from imago.networks.serialization import describe_generator, save_generator


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """An untrained stage from 16² through 8² to 32²."""
    torch.manual_seed(0)
    network = JNet(factor=4, crop=8, filters=4, max_channels=8, face_size=16, low_size=8)
    path = tmp_path_factory.mktemp("stages") / "stage.safetensors"
    save_generator(path, network, describe_generator(network, 32, 1.0, 5))
    return path


def test_the_whole_path(commands, finished_run, stage, tmp_path):
    arguments = [f"checkpoint=[{stage},{stage}]", f"generator={finished_run}", "seeds=0-1", "size=64", "landmarks=none"]
    result = commands.run("upres", [*arguments, f"out={tmp_path}"])
    assert result.code == 0, result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "contact-sheet.png",
        "seed0000-00000.png",
        "seed0001-00000.png",
    ]
    for path in tmp_path.iterdir():
        assert str(path) in result.out
    with Image.open(tmp_path / "seed0001-00000.png") as opened:
        assert opened.size == (64, 64)
        assert opened.text["generator"] == str(finished_run)


def test_one_bad_file_of_a_folder_does_not_stop_the_rest(commands, stage, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a", "c"):
        Image.fromarray(np.full((12, 16, 3), 120, np.uint8)).save(photos / f"{name}.png")
    (photos / "b.png").write_bytes(b"no picture")
    arguments = [f"checkpoint={stage}", f"input={photos}", f"out={tmp_path / 'out'}", "mode=whole", "landmarks=none"]
    result = commands.run("upres", arguments)
    assert result.code == 1
    assert "1 of 3 files failed: b.png (" in result.error
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png", "contact-sheet.png"]
    result = commands.run("upres", [*arguments, "skip_existing=true"])
    assert "2 of 3 results are in" in result.out


def test_a_stage_is_no_generator_of_faces(commands, stage):
    result = commands.run("upres", [f"checkpoint={stage}", f"generator={stage}"])
    assert result.code == 2
    assert "JNet is not a generator" in result.error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: checkpoint is needed: add checkpoint=… to the command"),
        (["checkpoint=nowhere", "input=a.png"], "error: nowhere: no such file or run directory"),
        (["checkpoint=nowhere", "inptu=a.png"], "did you mean input?"),
        (["checkpoint=nowhere", "tiling.strid=4"], "did you mean stride?"),
        (["checkpoint=nowhere", "size=big"], "size: "),
        (["checkpoint=[nowhere,there]"], "neither is given"),
        (["checkpoint=nowhere", "generator=low", "seeds=0-x"], "0-x is no number"),
    ],
)
def test_mistakes_in_the_command(commands, arguments, message):
    result = commands.run("upres", arguments)
    assert result.code == 2
    assert message in result.error


def test_a_generator_of_faces_is_no_stage(commands, finished_run):
    result = commands.run("upres", [f"checkpoint={finished_run}", "input=a.png"])
    assert result.code == 2
    assert "makes pictures from noise; checkpoint= takes up-resolution networks" in result.error


def test_help_lists_all_options(commands):
    result = commands.run("upres", ["--help"])
    assert result.code == 0
    for key in ("input=null", "paste_back=False", "variants=", "landmark_sigma=2.0", "Keys of tiling", "Keys of film"):
        assert key in result.out
