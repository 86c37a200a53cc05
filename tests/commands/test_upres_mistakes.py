"""What upres.py says to mistakes: one line, before anything is written."""

import numpy as np
import pytest

import commands.upres
from commands.upres import upres
from conf.upres_schema import UpresFilmConfig, UpresTilingConfig
from imago.errors import MissingDependencyError, UserError
from imago.faces.finding import LandmarkFinder
from imago.faces.landmarks import DlibLandmarks
from upres_stand_ins import config, photo, pixels, saved, stand_ins

__all__ = ["photo", "stand_ins"]  # fixtures

pytestmark = pytest.mark.usefixtures("stand_ins")


def test_without_dlib_it_is_told_what_to_do(tmp_path, monkeypatch, photo):
    def missing(*arguments):
        raise MissingDependencyError("dlib", "to find faces", "faces")

    monkeypatch.setattr(commands.upres, "find_finder", missing)
    with pytest.raises(UserError, match=r"pip install 'imago\[faces\]'$"):
        upres(config(tmp_path, input=str(photo)))
    with pytest.raises(UserError, match=r"pip install 'imago\[faces\]', or choose landmarks=none"):
        upres(config(tmp_path, input=str(photo), mode="whole"))


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
        ({"film": UpresFilmConfig(k=1)}, "^film.k=1: must be"),
        ({"tiling": UpresTilingConfig(variants=["mirror"])}, "^tiling.variants: unknown variant 'mirror'"),
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


def test_a_picture_of_one_pixel(tmp_path, monkeypatch):
    pytest.importorskip("dlib")
    try:
        finder = LandmarkFinder({"dlib": DlibLandmarks()})
    except MissingDependencyError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(commands.upres, "find_finder", lambda *arguments: finder)
    path = saved(tmp_path / "dot.png", np.full((1, 1, 4), 200, np.uint8))
    with pytest.raises(UserError, match=r"dot.png: no face found"):
        upres(config(tmp_path, input=str(path)))
    made = upres(config(tmp_path, input=str(path), mode="whole", contact_sheet=False))[0]
    assert pixels(made).shape == (4, 4, 4)


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
