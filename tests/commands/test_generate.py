import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException
from PIL import Image
from torch import nn

import commands.generate
import conf
from commands.generate import generate
from conf.generate_schema import GenerateConfig
from imago.errors import MissingDependencyError, UserError
from imago.images import to_uint8
from imago.latents import draw_latents
from imago.networks.serialization import LoadedGenerator


class TinyGenerator(nn.Module):
    """Repeats each latent over a picture: the picture tells which latent it was made of."""

    latent_size = 12
    resolution = 16
    resolutions = (4, 8, 16)

    def __init__(self, convolve=False, broken=False):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1) if convolve else nn.Identity()
        self.broken = broken
        self.calls = []

    def read_back(self, images):
        return images

    def forward(self, latents, labels=None, *, resolution, alpha):
        self.calls.append((len(latents), resolution, alpha, torch.is_inference_mode_enabled()))
        small = torch.tanh(latents).reshape(-1, 3, 2, 2)
        images = self.convolution(small.repeat_interleave(resolution // 2, -1).repeat_interleave(resolution // 2, -2))
        return images / 0 if self.broken else images


def loaded_of(generator=None):
    return LoadedGenerator(generator or TinyGenerator(), resolution=8, alpha=0.25, images_seen=12_000, config={})


@pytest.fixture
def loaded(monkeypatch):
    loaded = loaded_of()
    monkeypatch.setattr(commands.generate, "load_generator", lambda path, device="cpu": loaded)
    return loaded


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def config(run, **options):
    return GenerateConfig(**{"checkpoint": str(run), "device": "cpu", **options})


def pixels(path):
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def expected_picture(seed, number, resolution=8):
    with torch.inference_mode():
        latents = torch.from_numpy(draw_latents(seed, number, 1, 12))
        return to_uint8(TinyGenerator()(latents, resolution=resolution, alpha=1)[0]).permute(1, 2, 0).numpy()


def test_images_are_named_after_seed_and_number(loaded, run, capsys):
    written = generate(config(run, count=3, seed=5))
    folder = run / "generated" / "000012000"
    assert written == [folder / f"seed0005-0000{k}.png" for k in range(3)]
    assert sorted(folder.iterdir()) == written
    for number, path in enumerate(written):
        np.testing.assert_array_equal(pixels(path), expected_picture(5, number))
    output = capsys.readouterr().out
    assert str(folder) in output
    command = output.split("the last alone: ")[1].splitlines()[0]
    assert shlex.split(command) == ["python", "generate.py", f"checkpoint={run}", "seed=5", "pictures=[2]"]


def test_a_path_with_spaces_and_commas_is_quoted_in_the_printed_command(loaded, run, capsys):
    other = run.rename(run.with_name("my run, the 2nd"))
    generate(config(other, count=2))
    command = capsys.readouterr().out.split("the last alone: ")[1].splitlines()[0]
    assert shlex.split(command)[2] == f"checkpoint='{other}'"


def test_the_printed_recipe_makes_the_same_picture_again(loaded, run, tmp_path):
    many = generate(config(run, count=13, batch_size=4))
    (again,) = generate(config(run, pictures=[12], out=str(tmp_path / "again")))
    assert again.name == many[12].name == "seed0000-00012.png"
    assert again.read_bytes() == many[12].read_bytes()


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batch_size_changes_nothing(loaded, run, tmp_path, batch_size):
    loaded.generator = TinyGenerator(convolve=True)
    reference = generate(config(run, count=7, batch_size=7))
    written = generate(config(run, count=7, batch_size=batch_size, out=str(tmp_path / "out")))
    for a, b in zip(reference, written, strict=True):
        assert np.abs(pixels(a).astype(int) - pixels(b)).max() <= 1  # rounding of sums may differ between batches
    assert [call[0] for call in loaded.generator.calls[1:]] == [min(batch_size, 7 - i) for i in range(0, 7, batch_size)]


def test_the_generator_runs_in_inference_mode_with_the_alpha_of_its_checkpoint(loaded, run):
    generate(config(run, count=1))
    generate(config(run, count=1, resolution=4))
    assert loaded.generator.calls == [(1, 8, 0.25, True)] * 2


def test_smaller_resolutions_are_means_of_the_trained_one(loaded, run):
    """Not what the generator would make there: its toRGB of that level is as old as its fade-out."""
    (small,) = generate(config(run, count=1, resolution=4))
    with torch.inference_mode():
        image = TinyGenerator()(torch.from_numpy(draw_latents(0, 0, 1, 12)), resolution=8, alpha=0.25)[0]
    means = image.unflatten(2, (4, 2)).unflatten(1, (4, 2)).double().mean(dim=(2, 4))
    expected = to_uint8(means.float()).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels(small), expected)


def test_other_settings_do_not_replace_pictures(loaded, run):
    names = [generate(config(run, count=1, **options))[0].name for options in ({}, {"resolution": 4}, {"scale": 2})]
    assert names == ["seed0000-00000.png", "seed0000-00000-resolution4.png", "seed0000-00000-scale2.png"]
    assert generate(config(run, count=1, truncation=0.7))[0].name == "seed0000-00000-truncation0.7.png"


def test_several_seeds(loaded, run):
    written = generate(config(run, seeds=[3, 1], pictures=[7]))
    assert [path.name for path in written] == ["seed0003-00007.png", "seed0001-00007.png"]
    np.testing.assert_array_equal(pixels(written[1]), expected_picture(1, 7))


def test_scale_repeats_pixels(loaded, run):
    (path,) = generate(config(run, count=1, scale=3))
    np.testing.assert_array_equal(pixels(path), expected_picture(0, 0).repeat(3, 0).repeat(3, 1))


def test_truncation_reduces_variety(loaded, run):
    full, half = (
        np.stack([pixels(path) for path in generate(config(run, count=8, truncation=truncation))]).astype(float)
        for truncation in (1.0, 0.3)
    )
    assert half.std(axis=0).mean() < 0.6 * full.std(axis=0).mean()


@pytest.mark.parametrize(
    ("checkpoint", "folder"),
    [
        ("run/checkpoints/last.ckpt", "run"),
        ("run/generators/000012000.safetensors", "run"),
        ("run/generator.safetensors", "run"),
        ("elsewhere/downloaded.safetensors", "elsewhere"),
    ],
)
def test_pictures_go_into_the_run_of_the_checkpoint(loaded, tmp_path, checkpoint, folder):
    (path,) = generate(config(tmp_path / checkpoint, count=1))
    assert path.parent == tmp_path / folder / "generated" / "000012000"


def test_metadata_tells_how_a_picture_was_made(loaded, run):
    (path,) = generate(config(run, pictures=[4], seed=2, truncation=0.5))
    with Image.open(path) as opened:
        text = opened.text
    assert {key: text[key] for key in ("seed", "picture", "truncation", "images seen", "checkpoint")} == {
        "seed": "2",
        "picture": "4",
        "truncation": "0.5",
        "images seen": "12000",
        "checkpoint": str(run),
    }
    (path,) = generate(config(run, count=1, metadata=False))
    with Image.open(path) as opened:
        assert not opened.text


@pytest.mark.parametrize(
    ("options", "shape", "pictures"),
    [
        ({"count": 5}, (2, 3), 5),
        ({"count": 5, "columns": 5}, (1, 5), 5),
        ({"count": 6, "rows": 3}, (3, 2), 6),
        ({"rows": 2, "columns": 4}, (2, 4), 8),
        ({"rows": 2, "columns": 4, "pictures": [9, 1]}, (1, 4), 2),
    ],
)
def test_grid_holds_the_pictures_in_order(loaded, run, options, shape, pictures):
    (path,) = generate(config(run, what="grid", batch_size=3, **options))
    grid = pixels(path)
    assert grid.shape == (shape[0] * 8, shape[1] * 8, 3)
    for place, number in enumerate(options.get("pictures", range(pictures))):
        row, column = divmod(place, shape[1])
        cell = grid[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
        np.testing.assert_array_equal(cell, expected_picture(0, number))


def test_a_grid_of_seeds_has_a_row_for_each(loaded, run):
    (path,) = generate(config(run, what="grid", rows=2, columns=3, seeds=[4, 5]))
    np.testing.assert_array_equal(pixels(path)[8:, :8], expected_picture(5, 0))


def film_frames(path):
    frames = []
    with Image.open(path) as film:
        for i in range(film.n_frames):
            film.seek(i)
            frames.append(np.asarray(film.convert("RGB")).astype(int))
    return frames


@pytest.mark.parametrize("path", ["slerp", "cubic"])
def test_a_film_passes_through_its_keyframes(loaded, run, path):
    options = {"what": "interpolation", "path": path, "film": "gif", "seconds": 1, "fps": 12}
    (film,) = generate(config(run, keyframes=4, batch_size=5, **options))
    frames = film_frames(film)
    assert len(frames) == 12
    for number in range(4):
        assert np.abs(frames[3 * number] - expected_picture(0, number)).max() <= 3  # GIF: 256 colours
    (film,) = generate(config(run, pictures=[9, 2], **options))
    assert np.abs(film_frames(film)[6] - expected_picture(0, 2)).max() <= 3


def test_a_gaussian_film_of_several_pictures(loaded, run, capsys):
    options = {"what": "interpolation", "film": "gif", "seconds": 4, "fps": 5, "scale": 2}
    (film,) = generate(config(run, columns=3, rows=2, **options))
    frames = film_frames(film)
    assert len(frames) == 20
    assert frames[0].shape == (2 * 16, 3 * 16, 3)
    assert np.abs(frames[0] - frames[-1]).mean() < 1.5 * np.abs(frames[0] - frames[1]).mean() + 2  # it loops
    output = capsys.readouterr().out
    assert str(film) in output
    assert "barely moves" not in output


def test_a_short_gaussian_film_gets_a_hint(loaded, run, capsys):
    generate(config(run, what="interpolation", film="gif", seconds=1, fps=5))
    assert "path=cubic" in capsys.readouterr().out


def test_mp4_is_the_default_where_av_is_installed(loaded, run):
    pytest.importorskip("av")
    (film,) = generate(config(run, what="interpolation", seconds=0.5, fps=10, path="cubic"))
    assert film.suffix == ".mp4"
    assert film.stat().st_size > 0


def test_mp4_without_av_is_refused_before_anything_is_loaded(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"imago\[video\]"):
        generate(config(run, what="interpolation", film="mp4"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"what": "picture"}, "images, grid, interpolation"),
        ({"path": "linear"}, "gaussian, slerp, cubic"),
        ({"format": "tiff"}, "png, jpg, jpeg, webp"),
        ({"film": "avi"}, "mp4, gif, webp"),
        ({"count": 0}, "count must be at least 1, not 0"),
        ({"count": -3}, "count must be at least 1"),
        ({"batch_size": 0}, "batch_size"),
        ({"columns": 0}, "columns"),
        ({"rows": -1}, "rows"),
        ({"fps": 0}, "fps"),
        ({"scale": 0}, "scale"),
        ({"keyframes": 1}, "keyframes must be at least 2"),
        ({"seconds": 0.0}, "seconds"),
        ({"seconds": float("inf")}, "seconds"),
        ({"truncation": 0.0}, r"truncation must lie in \(0, 1\]"),
        ({"truncation": 1.2}, "truncation"),
        ({"truncation": float("nan")}, "truncation"),
        ({"seed": -1}, "seed"),
        ({"seeds": []}, "seeds"),
        ({"pictures": [3, -1]}, "pictures"),
        ({"checkpoint": ""}, "checkpoint= is missing"),
        ({"checkpoint": "???"}, "checkpoint= is missing"),
        ({"device": "gpu"}, "device=gpu is unknown"),
        ({"device": "cuda:99"}, "not available"),
        ({"resolution": 5}, "was trained at 4, 8$"),
        ({"resolution": 16}, "was trained at 4, 8$"),  # the network has it, but never trained it
        ({"out": "film.mp4"}, "out is a folder"),
        ({"what": "grid", "rows": 1, "columns": 1, "pictures": [0, 1]}, "do not fit"),
        ({"what": "interpolation", "pictures": [0, 1]}, "path=slerp"),
        ({"what": "interpolation", "path": "slerp", "pictures": [0]}, "at least two pictures"),
        ({"what": "interpolation", "path": "slerp", "pictures": [0, 1], "rows": 2}, "one at a time"),
        ({"what": "interpolation", "film": "gif", "fps": 60}, "50 frames per second"),
    ],
)
def test_mistakes_are_told_in_one_line(loaded, run, options, message):
    with pytest.raises(UserError, match=message) as caught:
        generate(config(run, **options))
    assert "\n" not in str(caught.value)
    assert not [path for path in run.rglob("*") if path.is_file()]


def test_out_that_is_a_file_or_lies_under_one_is_refused(loaded, run):
    (run / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        generate(config(run, out=str(run / "file")))
    with pytest.raises(UserError, match="cannot write to"):
        generate(config(run, out=str(run / "file" / "folder")))
    assert (run / "file").read_text() == "mine"


def test_a_diverged_generator_is_told(loaded, run):
    loaded.generator = TinyGenerator(broken=True)
    with pytest.raises(UserError, match="diverged"):
        generate(config(run))


def test_home_is_understood(loaded, run, monkeypatch):
    monkeypatch.setenv("HOME", str(run))
    (path,) = generate(config(run, count=1, out="~/pictures"))
    assert path.parent == run / "pictures"


def composed(*overrides):
    ConfigStore.instance().store(name="generate_schema", node=GenerateConfig)
    with initialize_config_dir(str(Path(conf.__file__).parent), version_base="1.3"):
        return compose("generate", overrides=list(overrides), return_hydra_config=True)


def test_the_command_line_reaches_the_command(loaded, run):
    cfg = composed(f"checkpoint={run}", "seeds=[1,2]", "pictures=[5]", "truncation=1", "device=cpu")
    assert [path.name for path in generate(cfg)] == ["seed0001-00005.png", "seed0002-00005.png"]
    assert (cfg.hydra.run.dir, cfg.hydra.output_subdir, cfg.hydra.job.chdir) == (".", None, False)
    assert cfg.hydra.job_logging.root is None


def test_a_missing_checkpoint_is_told_in_one_line():
    with pytest.raises(UserError, match="checkpoint= is missing"):
        generate(composed())


@pytest.mark.parametrize("override", ["trunkation=1", "count=many", "pictures=[a]", "resolution=1.5"])
def test_misspelt_options_and_wrong_types_are_refused(override):
    with pytest.raises(ConfigCompositionException):
        composed(override)
