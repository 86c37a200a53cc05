"""upres.py from noise: pictures and films of a generator whose pictures tell which latent they were made of."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import commands.upres
import commands.upres_noise
from commands.upres import upres
from conf.upres_schema import UpresConfig, UpresFilmConfig, UpresTilingConfig
from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.errors import UserError
from imago.faces.finding import LandmarkFinder
from imago.faces.landmarks import Face
from imago.images import to_uint8
from imago.latents import draw_latents
from imago.networks.serialization import LoadedGenerator
from imago.upres.stages import Stage
from tile_networks import nearest

_, EXACT = draw_portrait(sample_attributes(1, 0), 16)


class TinyGenerator(nn.Module):
    """Repeats each latent over a picture of 16²."""

    latent_size = 12
    resolution = 16
    resolutions = (4, 8, 16)

    def __init__(self, channels=3):
        super().__init__()
        self.channels = channels

    def read_back(self, images):
        return images

    def forward(self, latents, labels=None, *, resolution, alpha):
        small = torch.tanh(latents).reshape(-1, 3, 2, 2)[:, : self.channels]
        return small.repeat_interleave(resolution // 2, -1).repeat_interleave(resolution // 2, -2)


class EverySecond:
    """Finds a face in every second picture."""

    def __init__(self):
        self.shown = 0

    def detect(self, image):
        assert image.shape == (16, 16, 3)
        self.shown += 1
        return [Face.from_landmarks(EXACT)] if self.shown % 2 else []


STAGES = {
    "face": Stage(nearest(2), 2, tile=8, face_size=16, low_size=16),
    "print": Stage(nearest(4), 4, tile=8, face_size=32, low_size=32),
    "blind": Stage(nearest(2), 2, tile=8, face_size=16, low_size=16, guide_channels=0, guide_style="none"),
}


@pytest.fixture(autouse=True)
def loaded(monkeypatch):
    loaded = LoadedGenerator(TinyGenerator(), resolution=16, alpha=1.0, images_seen=12_000, config={})
    monkeypatch.setattr(commands.upres, "load_stage", lambda path, device: STAGES[str(path)])
    monkeypatch.setattr(commands.upres, "find_finder", lambda *arguments: LandmarkFinder({"it": EverySecond()}))
    monkeypatch.setattr(commands.upres_noise, "load_generator", lambda path, device="cpu": loaded)
    return loaded


def config(tmp_path, **options):
    tiling = options.pop("tiling", UpresTilingConfig(colour=0.0))
    defaults = {"checkpoint": "face", "generator": "runs/low", "out": str(tmp_path / "out"), "device": "cpu"}
    return UpresConfig(**{**defaults, "tiling": tiling, **options})


def pixels(path):
    with Image.open(path) as opened:
        return np.asarray(opened)


def drawn(seed, number):
    latents = torch.from_numpy(draw_latents(seed, number, 1, 12))
    return to_uint8(TinyGenerator()(latents, resolution=16, alpha=1)[0]).permute(1, 2, 0).numpy()


def test_the_pictures_are_those_of_generate_enlarged(tmp_path, capsys):
    written = upres(config(tmp_path, seeds="3-5"))
    names = [f"seed000{seed}-00000.png" for seed in (3, 4, 5)]
    assert [path.name for path in written] == [*names, "contact-sheet.png"]
    for path, seed in zip(written, (3, 4, 5), strict=False):
        expected = drawn(seed, 0).repeat(2, axis=0).repeat(2, axis=1)
        np.testing.assert_array_equal(pixels(path), expected)
    output = capsys.readouterr().out
    assert "landmarks found in 2 of 3 faces; 1 had an empty guide" in output
    assert f"wrote {written[0]}: 16×16 → 32×32" in output
    assert str(written[3]) in output


def test_seeds_numbers_and_stages(tmp_path):
    options = {"checkpoint": ["face", "print"], "size": 64, "contact_sheet": False}
    written = upres(config(tmp_path, seeds=[1, "0"], pictures="2,7", **options))
    assert [path.stem for path in written] == ["seed0001-00002", "seed0001-00007", "seed0000-00002", "seed0000-00007"]
    expected = drawn(1, 7).repeat(4, axis=0).repeat(4, axis=1)
    made = pixels(written[1]).astype(int)
    assert made.shape == (64, 64, 3)
    assert np.abs(made - expected).mean() < 2  # the second stage shrinks 32² to 16², across the edges too


def test_metadata_and_settings(tmp_path):
    (path,) = upres(config(tmp_path, seeds=7, truncation=0.5, contact_sheet=False))
    assert path.name == "seed0007-00000-truncation0.5.png"
    with Image.open(path) as opened:
        assert {key: opened.text[key] for key in ("seed", "picture", "generator", "images seen", "truncation")} == {
            "seed": "7",
            "picture": "0",
            "generator": "runs/low",
            "images seen": "12000",
            "truncation": "0.5",
        }
        assert round(opened.info["dpi"][0]) == 300


def test_what_is_there_is_left_out(tmp_path, capsys):
    options = {"skip_existing": True, "contact_sheet": False}
    first = upres(config(tmp_path, seeds="0-2", **options))
    first[1].unlink()
    assert upres(config(tmp_path, seeds="0-2", **options)) == [first[1]]
    assert "2 of 3 results are in" in capsys.readouterr().out


def test_progress_bars_do_not_meet_on_a_terminal(tmp_path, monkeypatch, capsys):
    """rich refuses a second bar while one is shown, as that of the generator would be."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert len(upres(config(tmp_path, seeds="0-17", contact_sheet=False))) == 18
    assert "seed0017-00000" in capsys.readouterr().err


def test_grey_generators_make_grey_pictures(tmp_path, loaded):
    loaded.generator = TinyGenerator(channels=1)
    (path,) = upres(config(tmp_path, contact_sheet=False, bits=16))
    with Image.open(path) as opened:
        assert opened.mode.startswith("I")
        assert opened.size == (32, 32)


def test_a_stage_without_guide_looks_for_no_faces(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands.upres, "find_finder", lambda *arguments: pytest.fail("nobody needs faces"))
    upres(config(tmp_path, checkpoint="blind"))
    assert "landmarks" not in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["frame_by_frame", "high_frequencies"])
def test_a_film_loops_and_is_measured(tmp_path, capsys, mode):
    pytest.importorskip("av")
    pytest.importorskip("cv2")
    film = UpresFilmConfig(mode=mode)
    written = upres(config(tmp_path, what="film", seconds=1, fps=6, seeds=2, film=film))
    assert [path.name for path in written] == [
        "film-seed0002-gaussian-1s-6fps.mp4",
        "film-seed0002-gaussian-1s-6fps-profile.png",
    ]
    import av

    with av.open(str(written[0])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 6
    assert frames[0].shape == (32, 32, 3)
    assert pixels(written[1]).shape == (6 * 4, 32, 3)
    output = capsys.readouterr().out
    assert "landmarks found in 6 of 6 frames (it 3, the frame before 3)" in output
    assert f"film.mode={mode}: warping error" in output
    assert "barely moves" in output


def test_a_film_passes_through_the_pictures_that_are_given(tmp_path):
    pytest.importorskip("av")
    film = UpresFilmConfig(mode="frame_by_frame", report=False)
    options = {"what": "film", "seconds": 1, "fps": 4, "film": film, "path": "slerp"}
    (path,) = upres(config(tmp_path, seeds="1,4", **options))
    import av

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    for frame, seed in ((frames[0], 1), (frames[2], 4)):
        expected = drawn(seed, 0).repeat(2, axis=0).repeat(2, axis=1)
        assert np.abs(frame - expected).mean() < 12  # H.264 with half the colour resolution
    with pytest.raises(UserError, match="path=slerp or cubic"):
        upres(config(tmp_path, seeds="1,4", **{**options, "path": "gaussian"}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": "9-0"}, "runs backwards"),
        ({"pictures": "x"}, "pictures=x: x is no number"),
        ({"mode": "whole"}, "a generator's pictures are portraits"),
        ({"paste_back": True}, "for input="),
        ({"truncation": 0.0}, "truncation must lie in"),
        ({"what": "film", "seconds": 0.0}, "must be positive"),
        ({"what": "film", "path": "straight"}, "gaussian, slerp, cubic"),
        ({"what": "film", "film": UpresFilmConfig(mode="smooth")}, "film.mode='smooth'"),
        ({"labels": {"glasses": "yes"}}, "trained without labels"),
        ({"size": 33}, "size=33"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, options, message):
    with pytest.raises(UserError, match=message) as caught:
        upres(config(tmp_path, **options))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
