"""upres.py on pictures and folders, with stages that add nothing and a detector that knows where the face is."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from PIL import Image, ImageCms

import commands.upres
import commands.upres_noise
from commands.app import IncompleteError, check_config, free_key, quoted_path
from commands.upres import upres
from conf import schemas
from conf.upres_schema import UpresConfig, UpresTilingConfig
from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.errors import MissingDependencyError, UserError
from imago.faces.finding import LandmarkFinder, find_finder
from imago.faces.landmarks import Face
from imago.picture_files import read_picture, write_picture
from imago.upres.stages import Stage

PORTRAIT, EXACT = draw_portrait(sample_attributes(1, 0), 256)


def nearest(factor):
    def network(stacks):
        return stacks[:, :3].repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)

    return network


STAGES = {
    "face": Stage(nearest(4), 4, tile=16, face_size=32, low_size=24),  # 32² → 24² → 96²
    "print": Stage(nearest(4), 4, tile=16, face_size=96, low_size=64),  # 96² → 64² → 256²
    "blind": Stage(nearest(4), 4, tile=16, face_size=32, low_size=24, guide_channels=0, guide_style="none"),
}


class KnownFace:
    """Finds the drawn face, scaled to the picture; none in a picture that is dark."""

    def detect(self, image):
        if image.mean() < 30:
            return []
        ratio = np.array([image.shape[1] / 256, image.shape[0] / 256])
        return [Face.from_landmarks((EXACT.astype(np.float64) + 0.5) * ratio - 0.5)]


@pytest.fixture(autouse=True)
def stages(monkeypatch):
    monkeypatch.setattr(commands.upres, "load_stage", lambda path, device: STAGES[str(path)])
    monkeypatch.setattr(
        commands.upres,
        "find_finder",
        lambda backend, *others: None if backend == "none" else LandmarkFinder({"known": KnownFace()}),
    )


def config(tmp_path, **options):
    return UpresConfig(**{"checkpoint": "face", "out": str(tmp_path / "out"), "device": "cpu", **options})


def saved(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photo(tmp_path):
    return saved(tmp_path / "photo.png", PORTRAIT)


def pixels(path):
    with Image.open(path) as opened:
        return np.asarray(opened)


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


def test_a_folder_goes_on_past_what_fails(tmp_path, capsys):
    folder = tmp_path / "photos"
    saved(folder / "a.png", PORTRAIT)
    saved(folder / "deep" / "er" / "b.jpg", PORTRAIT)
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "desktop.ini").write_text("x")
    saved(folder / "dark.png", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(IncompleteError) as caught:
        upres(config(tmp_path, input=str(folder)))
    assert str(caught.value).startswith("2 of 4 files failed: broken.png (")
    assert "dark.png (no face found; mode=whole enlarges the entire picture)" in str(caught.value)
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert names == ["a.png", "contact-sheet.png", "deep/er/b.png"]
    assert "landmarks found in 2 of 3 pictures" in capsys.readouterr().out


def test_what_is_there_is_left_out(tmp_path, capsys):
    folder = tmp_path / "photos"
    for name in ("a", "b"):
        saved(folder / f"{name}.png", PORTRAIT)
    options = {"input": str(folder), "skip_existing": True, "contact_sheet": False}
    first = upres(config(tmp_path, **options))
    first[0].write_bytes(b"mine")
    first[1].unlink()
    again = upres(config(tmp_path, **options))
    assert again == [first[1]]
    assert first[0].read_bytes() == b"mine"
    assert "1 of 2 results are in" in capsys.readouterr().out
    assert upres(config(tmp_path, **options)) == []


def test_pictures_of_one_name_do_not_replace_each_other_nor_results_their_sources(tmp_path):
    folder = tmp_path / "photos"
    saved(folder / "a.png", PORTRAIT)
    saved(folder / "a.jpg", PORTRAIT)
    written = upres(config(tmp_path, input=str(folder), contact_sheet=False))
    assert sorted(path.name for path in written) == ["a_jpg.png", "a_png.png"]
    # A folder inside the folder: what it made is not its input the next time.
    inside = folder / "big"
    assert len(upres(config(tmp_path, input=str(folder), out=str(inside), contact_sheet=False))) == 2
    assert len(upres(config(tmp_path, input=str(folder), out=str(inside), contact_sheet=False))) == 2
    with pytest.raises(UserError, match="is the folder of the pictures"):
        upres(config(tmp_path, input=str(folder), out=str(folder)))
    with pytest.raises(UserError, match="would be overwritten"):
        upres(config(tmp_path, input=str(folder / "a.png"), out=str(folder)))


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


def test_without_dlib_it_is_told_what_to_do(tmp_path, monkeypatch, photo):
    def missing(*arguments):
        raise MissingDependencyError("dlib", "to find faces", "faces")

    monkeypatch.setattr(commands.upres, "find_finder", missing)
    with pytest.raises(UserError, match=r"pip install 'imago\[faces\]'$"):
        upres(config(tmp_path, input=str(photo)))
    with pytest.raises(UserError, match=r"pip install 'imago\[faces\]', or choose landmarks=none"):
        upres(config(tmp_path, input=str(photo), mode="whole"))


def test_memory_that_runs_out_lowers_the_batch_for_good(tmp_path, monkeypatch, photo, capsys):
    sizes = []

    def hungry(stacks):
        sizes.append(len(stacks))
        if len(stacks) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return nearest(4)(stacks)

    monkeypatch.setitem(STAGES, "face", replace(STAGES["face"], network=hungry))
    folder = tmp_path / "photos"
    for name in ("a", "b"):
        saved(folder / f"{name}.png", PORTRAIT)
    upres(config(tmp_path, input=str(folder), contact_sheet=False, tiling=UpresTilingConfig(batch=4)))
    assert sizes == [4, 2, 2, 2, 2]
    assert capsys.readouterr().out.count("going on with tiling.batch=2") == 1


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint": ""}, "checkpoint= is missing"),
        ({"checkpoint": "???"}, "checkpoint= is missing"),
        ({"checkpoint": []}, "checkpoint= is missing"),
        ({"input": None}, "neither is given"),
        ({"generator": "runs/low"}, "both are given"),
        ({"input": "phto.png"}, r"input=.*: no such file or folder; did you mean .*photo.png"),
        ({"mode": "hole"}, "choose one of portrait, whole"),
        ({"what": "film"}, "what=film is for generator="),
        ({"format": "gif"}, "choose one of png, tif, jpg"),
        ({"bits": 12}, "bits=12"),
        ({"bits": 16, "format": "jpg"}, "JPEG holds 8"),
        ({"dpi": 0}, "dpi must be at least 1"),
        ({"size": 0}, "size=0"),
        ({"size": 20000}, "from 1 to largest=16384"),
        ({"landmarks": "mtcnn"}, "choose one of dlib, face_alignment, none"),
        ({"landmarks": "none"}, "mode=portrait needs landmarks"),
        ({"mode": "whole", "paste_back": True}, "needs mode=portrait"),
        ({"truncation": 0.5}, "for generator="),
        ({"device": "gpu"}, "device=gpu is unknown"),
        ({"precision": "half"}, "float32, bfloat16, float16"),
        ({"out": "big.png"}, "out is a folder"),
        ({"tiling": UpresTilingConfig(stride=17)}, "stride=17"),
        ({"tiling": UpresTilingConfig(stride=0)}, "tiling.stride=0"),
        ({"tiling": UpresTilingConfig(variants=["mirror"])}, "unknown variant 'mirror'"),
        (
            {"tiling": UpresTilingConfig(variants=["plain", "flip"], combine="best", score="discriminator")},
            "no discrim",
        ),
    ],
)
def test_mistakes_are_told_in_one_line_before_anything_is_written(tmp_path, monkeypatch, photo, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        upres(config(tmp_path, **{"input": "photo.png", **options}))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_a_single_picture_without_a_face(tmp_path):
    path = saved(tmp_path / "dark.png", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(UserError, match=r"dark.png: no face found; mode=whole enlarges the entire picture"):
        upres(config(tmp_path, input=str(path)))


def test_an_empty_folder_and_out_that_is_a_file(tmp_path, photo):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures in this folder"):
        upres(config(tmp_path, input=str(tmp_path / "empty")))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file; give a folder"):
        upres(config(tmp_path, input=str(photo), out=str(tmp_path / "file")))
    with pytest.raises(UserError, match="cannot write to"):
        upres(config(tmp_path, input=str(photo), out=str(tmp_path / "file" / "below")))
    assert (tmp_path / "file").read_text() == "mine"


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
