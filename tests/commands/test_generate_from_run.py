"""generate.py on a run that train.py left."""

import shutil

import numpy as np
import pytest
from PIL import Image

from training_runs import contents


def pictures(folder):
    found = {}
    for path in sorted(folder.iterdir()):
        with Image.open(path) as picture:
            found[path.name] = np.asarray(picture.convert("RGB"))
    return found


@pytest.fixture
def generate(commands, tmp_path):
    def run(checkpoint, *overrides):
        out = tmp_path / f"out{commands.started}"
        result = commands.run("generate", [f"checkpoint={checkpoint}", f"out={out}", "device=cpu", *overrides])
        assert result.code == 0, result.err
        assert str(out) in result.out
        return out

    return run


def test_images_grid_and_film_of_a_run(generate, finished_run):
    before = contents(finished_run)
    images = pictures(generate(finished_run, "what=images", "count=3"))
    assert [picture.shape for picture in images.values()] == [(16, 16, 3)] * 3
    (grid,) = pictures(generate(finished_run, "what=grid", "count=4")).values()
    assert grid.shape == (32, 32, 3)
    difference = grid[:16, :16].astype(int) - images["seed0000-00000.png"]
    assert np.abs(difference).max() <= 1  # sums in batches of another size may round otherwise
    (film,) = generate(finished_run, "what=interpolation", "seconds=0.2", "fps=10", "path=slerp", "film=webp").iterdir()
    with Image.open(film) as picture:
        assert (picture.n_frames, picture.size) == (2, (16, 16))
    assert contents(finished_run) == before


def test_run_checkpoint_and_lone_generator_file_give_the_same_pictures(generate, finished_run, tmp_path):
    lone = tmp_path / "elsewhere.safetensors"
    shutil.copy(finished_run / "generator.safetensors", lone)
    checkpoints = [finished_run, finished_run / "checkpoints" / "last.ckpt", lone]
    first, *others = [pictures(generate(checkpoint, "count=2", "seed=7")) for checkpoint in checkpoints]
    for other in others:
        assert first.keys() == other.keys()
        assert all(np.array_equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_every_trained_resolution(generate, finished_run, resolution):
    images = pictures(generate(finished_run, "count=1", f"resolution={resolution}"))
    assert [picture.shape for picture in images.values()] == [(resolution, resolution, 3)]


def test_snapshot_of_an_early_resolution_is_made_at_that_resolution(generate, finished_run):
    early = finished_run / "generators" / "000000048.safetensors"
    assert [picture.shape for picture in pictures(generate(early, "count=1")).values()] == [(4, 4, 3)]


def test_pictures_depend_on_the_seed_alone(generate, finished_run):
    first = pictures(generate(finished_run, "count=2", "seed=1"))
    again = pictures(generate(finished_run, "count=2", "seed=1", "batch_size=1"))
    other = pictures(generate(finished_run, "count=2", "seed=2"))
    assert first.keys() == again.keys()
    assert all(np.abs(first[name].astype(int) - again[name]).max() <= 1 for name in first)
    assert not np.array_equal(first["seed0001-00000.png"], other["seed0002-00000.png"])


def test_resolution_that_was_not_trained_is_refused(commands, finished_run, tmp_path):
    result = commands.run("generate", [f"checkpoint={finished_run}", f"out={tmp_path}", "resolution=32"])
    assert "was trained at 4, 8, 16" in result.error
