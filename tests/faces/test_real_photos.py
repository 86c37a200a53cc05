"""Real photos, where IMAGO_TEST_DATA names the folder that holds them."""

import io
import os
import xml.etree.ElementTree
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imago.data.quality import score_image
from imago.errors import MissingDependencyError
from imago.faces.alignment import crop_rectangle
from imago.faces.landmarks import DlibLandmarks, ScoredBox, five_points


@pytest.fixture(scope="module")
def folder() -> Path:
    path = os.environ.get("IMAGO_TEST_DATA")
    if not path:
        pytest.skip("IMAGO_TEST_DATA is not set")
    return Path(path)


@pytest.fixture(scope="module")
def detector() -> DlibLandmarks:
    try:
        return DlibLandmarks(upsample=1)
    except MissingDependencyError as error:
        pytest.skip(str(error))


def pictures(archive: Path, every: int, limit: int) -> list[np.ndarray]:
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not there")
    with zipfile.ZipFile(archive) as files:
        names = sorted(name for name in files.namelist() if name.endswith(".jpg"))[::every][:limit]
        return [np.asarray(Image.open(io.BytesIO(files.read(name))).convert("RGB")) for name in names]


def test_aligning_a_picture_of_celeba_hq_again_hardly_moves_it(folder: Path, detector: DlibLandmarks) -> None:
    centres, sides, tilts = [], [], []
    for image in pictures(folder / "celebahq_sample.zip", 9, 10):
        small = np.asarray(Image.fromarray(image).resize((512, 512), Image.Resampling.BOX))
        points = 2 * five_points(max(detector.detect(small), key=lambda face: face.area).landmarks) + 0.5
        rectangle = crop_rectangle(points[0], points[1], points[3], points[4])
        centres.append(rectangle.centre)
        sides.append(rectangle.side)
        tilts.append(np.degrees(np.arctan2(rectangle.x_axis[1], rectangle.x_axis[0])))
    # CelebA's annotators put the eyes 8 pixels above the middle of dlib's points.
    np.testing.assert_allclose(np.mean(centres, axis=0), [511.5, 511.5 + 8], atol=6)
    assert np.mean(sides) == pytest.approx(1024, rel=0.03)
    assert abs(np.mean(tilts)) < 1.5


class OnGivenBoxes(DlibLandmarks):
    """Fits landmarks in boxes that are given."""

    boxes: list[ScoredBox]

    def _boxes(self, image: np.ndarray) -> list[ScoredBox]:
        return self.boxes


def test_the_landmarks_are_those_that_dlib_itself_publishes(folder: Path, detector: DlibLandmarks) -> None:
    """The annotations were made with the same model: this checks boxes, rounding and coordinates, not accuracy."""
    archive = folder / "in_the_wild.zip"
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not there")
    fitting = OnGivenBoxes()
    on_boxes, on_detected = [], []
    with zipfile.ZipFile(archive) as files:
        document = xml.etree.ElementTree.fromstring(files.read("groups/training_with_face_landmarks.xml"))
        for entry in document.iter("image"):
            photo = np.asarray(Image.open(io.BytesIO(files.read(f"groups/{entry.attrib['file']}"))).convert("RGB"))
            found = detector.detect(photo)
            for box in entry.iter("box"):
                parts = sorted(box.iter("part"), key=lambda part: part.attrib["name"])
                wanted = np.array([(float(part.attrib["x"]), float(part.attrib["y"])) for part in parts])
                left, top, width, height = (int(box.attrib[name]) for name in ("left", "top", "width", "height"))
                fitting.boxes = [((left, top, left + width - 1, top + height - 1), 0.0)]
                scale = 68 * np.linalg.norm(wanted[36] - wanted[45])
                on_boxes.append(np.linalg.norm(fitting.detect(photo)[0].landmarks - wanted, axis=1).sum() / scale)
                distances = [np.linalg.norm(face.landmarks - wanted, axis=1).sum() for face in found]
                on_detected.append(min(distances) / scale)
    assert np.median(on_boxes) == 0  # to the pixel
    assert np.mean(on_boxes) < 0.01
    assert np.mean(on_detected) < 0.04


def test_shrinking_and_enlarging_again_lowers_the_quality_of_real_faces(folder: Path) -> None:
    for image in pictures(folder / "celebahq_sample.zip", 18, 5):
        picture = Image.fromarray(image)
        soft = picture.resize((400, 400), Image.Resampling.LANCZOS).resize((1024, 1024), Image.Resampling.BICUBIC)
        assert score_image(np.asarray(soft))["quality"] < score_image(image)["quality"] - 0.05
