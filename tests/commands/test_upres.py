"""upres.py on single pictures: portraits and whole ones, and what they carry."""

import json

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from PIL import Image, ImageCms

import commands.upres
from commands.app import free_key, quoted_path
from commands.config_checks import check_config
from commands.upres import upres
from conf import schemas
from conf.upres_schema import UpresTilingConfig
from imago.errors import MissingDependencyError, UserError
from imago.faces.finding import find_finder
from imago.picture_files import read_picture, write_picture
from upres_stand_ins import PORTRAIT, config, photo, pixels, saved, stand_ins

__all__ = ["photo", "stand_ins"]  # fixtures

pytestmark = pytest.mark.usefixtures("stand_ins")


def test_a_portrait_is_found_cut_out_and_enlarged(tmp_path, photo, capsys):
    written = upres(config(tmp_path, input=str(photo)))
    assert [path.name for path in written] == ["photo.png", "photo-stages.png"]
    made = pixels(written[0])
    assert made.shape == (96, 96, 3)
    # Nothing was added: the 24² of the cut-out face, in blocks softened by the blending of tiles alone.
    assert np.abs(made.astype(int).reshape(24, 4, 24, 4, 3) - made.reshape(24, 4, 24, 4, 3)[:, :1, :, :1]).max() <= 40
    output = capsys.readouterr().out
    assert f"wrote {written[0]}: 32×32 → 96×96" in output
    assert "landmarks found in 1 of 1 pictures" in output
    assert str(written[1]) in output


def test_dlib_finds_the_face(tmp_path, photo, monkeypatch):
    pytest.importorskip("dlib")
    by_hand = upres(config(tmp_path, input=str(photo)))[0]
    expected = pixels(by_hand).astype(int)
    monkeypatch.setattr(commands.upres, "find_finder", find_finder)
    try:
        found = upres(config(tmp_path, input=str(photo), out=str(tmp_path / "found")))[0]
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert np.abs(pixels(found) - expected).mean() < 12  # within a few pixels of the exact landmarks
    assert np.abs(np.roll(pixels(found), 12, axis=1) - expected).mean() > 15


def test_a_portrait_is_framed_alike_wherever_the_face_is_in_the_photo(tmp_path, photo):
    """The same face, tall and with twice the pixels along each axis: the same portrait."""
    large = saved(tmp_path / "large.png", np.asarray(Image.fromarray(PORTRAIT).resize((512, 512))))
    first, second = (upres(config(tmp_path, input=str(path)))[0] for path in (photo, large))
    assert np.abs(pixels(first).astype(int) - pixels(second)).mean() < 2


def test_several_stages_and_sizes(tmp_path, photo):
    options = {"checkpoint": ["face", "print"], "input": str(photo), "contact_sheet": False}
    (path,) = upres(config(tmp_path, size=512, **options))
    assert pixels(path).shape == (512, 512, 3)
    (path,) = upres(config(tmp_path, size=64, **options))
    assert pixels(path).shape == (64, 64, 3)
    with pytest.raises(UserError, match="size=66: the last stage enlarges 4 times; choose 64 or 68"):
        upres(config(tmp_path, size=66, **options))


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_pictures_are_ready_to_print(tmp_path, photo, ending):
    (path,) = upres(config(tmp_path, input=str(photo), contact_sheet=False, format=ending, dpi=250))
    assert path.name == f"photo.{ending}"
    with Image.open(path) as opened:
        assert [round(float(dpi)) for dpi in opened.info["dpi"]] == [250, 250]


def test_a_whole_picture_is_enlarged_as_it_is(tmp_path):
    """A ramp through nearest-neighbour stages: the ramp again, whatever the tiles."""
    y, x = np.mgrid[:45, :70]
    ramp = np.stack([40 + 2 * x, 40 + 3 * y, 200 - x - y], axis=-1).astype(np.uint8)
    path = saved(tmp_path / "ramp.png", ramp)
    (made, sheet) = upres(config(tmp_path, input=str(path), mode="whole"))
    assert sheet.name == "ramp-stages.png"
    expected = ramp.repeat(4, axis=0).repeat(4, axis=1).astype(int)
    assert pixels(made).shape == expected.shape
    assert np.abs(pixels(made) - expected).max() <= 4  # colour correction pulls towards the smooth input
    plain = UpresTilingConfig(colour=0.0)
    made = upres(config(tmp_path, input=str(path), mode="whole", tiling=plain, contact_sheet=False))[0]
    np.testing.assert_array_equal(pixels(made), expected)


def test_whole_sizes(tmp_path):
    path = saved(tmp_path / "wide.png", np.full((30, 60, 3), 90, np.uint8))
    options = {"input": str(path), "mode": "whole", "contact_sheet": False}
    assert pixels(upres(config(tmp_path, **options))[0]).shape == (120, 240, 3)
    assert pixels(upres(config(tmp_path, size=120, **options))[0]).shape == (60, 120, 3)
    assert pixels(upres(config(tmp_path, largest=200, **options))[0]).shape == (100, 200, 3)


@pytest.mark.parametrize("bits", [8, 16])
def test_transparency_profile_exif_and_depth_stay(tmp_path, bits):
    pytest.importorskip("cv2")
    rng = np.random.default_rng(3)
    source = np.full((20, 24, 4), 30000, np.uint16)
    source[..., :3] = np.kron(rng.integers(20000, 40000, (5, 6, 3)), np.ones((4, 4, 1)))
    source[:, :12, 3] = 65535
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x013B] = "A. Painter"
    path = write_picture(tmp_path / "a.png", source, bits=16, icc_profile=profile, exif=exif.tobytes()[6:])
    plain = UpresTilingConfig(colour=0.0)
    options = {"mode": "whole", "input": str(path), "tiling": plain, "contact_sheet": False}
    (made,) = upres(config(tmp_path, bits=bits, dpi=240, **options))
    result = read_picture(made)
    assert (result.bits, result.pixels.shape, round(result.dpi)) == (bits, (80, 96, 4), 240)
    assert result.icc_profile == profile
    with Image.open(made) as opened:
        assert opened.getexif()[0x013B] == "A. Painter"
        assert opened.text["made from"] == "a.png"
    scale = 1 if bits == 16 else 257
    expected = source.repeat(4, axis=0).repeat(4, axis=1) / scale
    assert np.abs(result.pixels[..., :3] - expected[..., :3]).max() <= 1.01
    assert np.abs(result.pixels[:, :40, 3] - expected[:, :40, 3]).max() <= 1
    assert np.abs(result.pixels[:, 60:, 3] - expected[:, 60:, 3]).max() <= 1


@pytest.mark.parametrize("mode", ["whole", "portrait"])
def test_grey_stays_grey(tmp_path, mode):
    path = saved(tmp_path / "grey.png", np.asarray(Image.fromarray(PORTRAIT).convert("L")))
    with Image.open(upres(config(tmp_path, input=str(path), mode=mode, size=96, contact_sheet=False))[0]) as made:
        assert (made.mode, made.size) == ("L", (96, 96))


def test_the_portrait_goes_back_into_its_photo(tmp_path, capsys):
    canvas = np.full((256, 256, 3), 128, np.uint8)
    canvas[40:216, 40:216] = PORTRAIT[40:216, 40:216]
    path = saved(tmp_path / "photo.png", canvas)
    written = upres(config(tmp_path, input=str(path), paste_back=True, size=512, contact_sheet=False))
    assert [path.name for path in written] == ["photo.png", "photo-in-photo.png"]
    pasted = pixels(written[1])
    assert min(pasted.shape[:2]) > 400
    enlarged = np.asarray(Image.fromarray(canvas).resize(pasted.shape[1::-1], Image.Resampling.LANCZOS))
    assert np.abs(pasted.astype(int) - enlarged).mean() < 6
    np.testing.assert_array_equal(pasted[:5], enlarged[:5])
    assert "put back into its photo" in capsys.readouterr().out


def test_pictures_without_a_face_go_on_with_an_empty_guide_in_whole(tmp_path, capsys):
    path = saved(tmp_path / "dark.png", np.zeros((20, 20, 3), np.uint8))
    upres(config(tmp_path, input=str(path), mode="whole"))
    assert "landmarks found in 0 of 1 pictures; 1 had an empty guide" in capsys.readouterr().out
    assert upres(config(tmp_path, input=str(path), mode="whole", landmarks="none"))
    assert "landmarks" not in capsys.readouterr().out


def test_a_stage_without_guide_needs_no_detector_but_to_cut_portraits_out(tmp_path, monkeypatch, photo):
    asked = []
    monkeypatch.setattr(commands.upres, "find_finder", lambda *arguments: asked.append(arguments))
    upres(config(tmp_path, checkpoint="blind", input=str(photo), mode="whole", size=64))
    assert asked == []


def test_metadata_tells_how_a_picture_was_made(tmp_path, photo):
    path = upres(config(tmp_path, input=str(photo)))[0]
    with Image.open(path) as opened:
        texts = opened.text
    assert texts["made from"] == "photo.png"
    assert texts["stages"] == "face"
    assert texts["mode"] == "portrait"
    path = upres(config(tmp_path, input=str(photo), format="jpg"))[0]
    with Image.open(path) as opened:
        assert json.loads(opened.getexif()[0x010E])["made from"] == "photo.png"


def composed(*overrides):
    schemas.register()
    with initialize_config_module("conf", version_base="1.3"):
        return compose("upres", overrides=[free_key(quoted_path(override)) for override in overrides])


def test_the_command_line_reaches_the_command(tmp_path, photo):
    cfg = composed(
        "checkpoint=[face,print]",
        f"input={photo}",
        f"out={tmp_path / 'out'}",
        "size=128",
        "tiling.variants=[plain,flip,flip+contrast:1.1]",
        "device=cpu",
    )
    check_config(cfg)
    written = upres(cfg)
    assert [path.name for path in written] == ["photo.png", "photo-stages.png"]
    assert pixels(written[0]).shape == (128, 128, 3)
    with Image.open(written[0]) as opened:
        assert "mean of plain and flip and flip+contrast:1.1" in opened.text["tiling"]
