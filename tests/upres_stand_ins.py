"""What the tests of upres.py share: stages that add nothing, and a detector that knows where the face is."""

import numpy as np
import pytest
from PIL import Image

import commands.upres
from conf.upres_schema import UpresConfig
from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.faces.finding import LandmarkFinder
from imago.faces.landmarks import Face
from imago.upres.stages import Stage
from tile_networks import nearest

PORTRAIT, EXACT = draw_portrait(sample_attributes(1, 0), 256)

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


@pytest.fixture
def stand_ins(monkeypatch):
    """Puts them into the command."""
    monkeypatch.setattr(commands.upres, "load_stage", lambda path, device: STAGES[str(path)])
    monkeypatch.setattr(
        commands.upres,
        "find_finder",
        lambda backend, *others: None if backend == "none" else LandmarkFinder({"known": KnownFace()}),
    )


@pytest.fixture
def photo(tmp_path):
    """A portrait in a file."""
    return saved(tmp_path / "photo.png", PORTRAIT)


def config(tmp_path, **options):
    """Options of the command; results go to ``out``."""
    return UpresConfig(**{"checkpoint": "face", "out": str(tmp_path / "out"), "device": "cpu", **options})


def saved(path, pixels):
    """Writes a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def pixels(path):
    """Reads a picture."""
    with Image.open(path) as opened:
        return np.asarray(opened)
