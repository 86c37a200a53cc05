"""The ladder from one detector to the next, the choice among faces, and the counts."""

import sys
import types

import numpy as np
import pytest
from PIL import Image

from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.errors import MissingDependencyError, UserError
from imago.faces.finding import Enlarged, FaceAlignmentLandmarks, LandmarkFinder, find_finder, most_prominent
from imago.faces.landmarks import DlibLandmarks, Face, five_points

PICTURE = np.zeros((100, 200, 3), dtype=np.uint8)


def face(x: float, y: float, size: float = 20.0, points: int = 68) -> Face:
    """A face whose box is centred at (x, y)."""
    half = (size - 1) / 2
    landmarks = np.full((points, 2), [x, y], dtype=np.float64)
    return Face(x - half, y - half, x + half, y + half, 1.0, landmarks)


class Scripted:
    """Finds what it was told to, picture after picture; remembers what it was shown."""

    def __init__(self, *answers: list[Face]) -> None:
        self.answers = list(answers)
        self.shown: list[tuple[int, ...]] = []

    def detect(self, image: np.ndarray) -> list[Face]:
        self.shown.append(image.shape)
        return self.answers.pop(0)


def test_a_detector_is_asked_only_where_those_before_it_found_nothing() -> None:
    first, second = Scripted([face(10, 10)], [], []), Scripted([face(30, 30)], [])
    finder = LandmarkFinder({"first": first, "second": second})
    found = [finder.face(PICTURE) for _ in range(3)]
    assert [None if f is None else f.left for f in found] == [0.5, 20.5, None]
    assert len(second.shown) == 2
    assert (finder.pictures, dict(finder.found)) == (3, {"first": 1, "second": 1})
    assert finder.summary() == "landmarks found in 2 of 3 faces (first 1, second 1); 1 had an empty guide"


def test_the_summary_names_the_detectors_only_if_the_first_did_not_find_all() -> None:
    finder = LandmarkFinder({"dlib": Scripted([face(10, 10)], [face(10, 10)], [])})
    finder.face(PICTURE)
    finder.face(PICTURE)
    assert finder.summary() == "landmarks found in 2 of 2 faces"
    finder.face(PICTURE)
    finder.held(1)
    assert finder.summary("frames") == "landmarks found in 3 of 3 frames (dlib 2, the frame before 1)"
    assert LandmarkFinder({}).summary() == "landmarks found in 0 of 0 faces"


def test_a_face_of_five_points_is_not_enough_for_a_guide() -> None:
    finder = LandmarkFinder({"five": Scripted([face(10, 10, points=5)]), "all": Scripted([face(30, 30)])})
    found = finder.face(PICTURE)
    assert found is not None
    assert found.landmarks.shape == (68, 2)


@pytest.mark.parametrize(
    ("faces", "chosen"),
    [
        ([face(20, 20, 20), face(60, 20, 30)], 1),  # larger
        ([face(20, 20, 20), face(99.5, 49.5, 20)], 1),  # of equal size: nearer to the middle
        ([face(5, 5, 22), face(99.5, 49.5, 20)], 1),  # a little larger, but in the corner
        ([face(5, 5, 40), face(99.5, 49.5, 20)], 0),  # four times the area wins even there
    ],
)
def test_the_most_prominent_face_is_large_and_central(faces: list[Face], chosen: int) -> None:
    assert most_prominent(faces, (100, 200)) is faces[chosen]
    found = LandmarkFinder({"it": Scripted(faces)}).faces(PICTURE)
    assert found[0] is faces[chosen]
    assert len(found) == 2


def test_a_film_stays_with_its_face() -> None:
    frames = [[face(50, 50, 20)], [face(150, 50, 30), face(52, 50, 20)], [], [face(150, 50, 30), face(60, 50, 18)]]
    finder = LandmarkFinder({"it": Scripted(*frames, frames[1])})
    places = [None if f is None else f.landmarks[0, 0] for f in (finder.next_face(PICTURE) for _ in range(4))]
    assert places == [50, 52, None, 60]
    another = finder.fresh()
    first = another.next_face(PICTURE)
    assert first is not None
    assert first.landmarks[0, 0] == 150
    assert (finder.pictures, another.pictures) == (4, 1)


def test_an_enlarged_picture_gives_coordinates_of_the_picture_itself() -> None:
    # A box over the pixels 20 to 39 of the large picture covers 10 to 19 of the small one.
    large = Face(20.0, 40.0, 39.0, 59.0, 1.0, np.array([[20.0, 40.0]] * 68))
    detector = Scripted([large])
    (found,) = Enlarged(detector).detect(PICTURE)
    assert detector.shown == [(200, 400, 3)]
    assert (found.left, found.top, found.right, found.bottom) == (10, 20, 19, 29)
    # The centre of large pixel 20 is a quarter of a pixel left of that of small pixel 10.
    np.testing.assert_array_equal(found.landmarks[0], [9.75, 19.75])
    assert Enlarged(detector, below=200).detect(PICTURE) == []


def test_dlib_finds_small_faces_once_they_are_enlarged() -> None:
    pytest.importorskip("dlib")
    try:
        dlib = DlibLandmarks()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    finder = LandmarkFinder({"dlib": dlib, "dlib enlarged": Enlarged(dlib)})
    errors = []
    for index in range(6):
        picture, exact = draw_portrait(sample_attributes(1, index), 256)
        small = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BOX))
        found = finder.face(small)
        if found is None:
            continue
        points = (exact + 0.5) / 8 - 0.5
        apart = np.linalg.norm(five_points(points)[0] - five_points(points)[1])
        errors.append(np.linalg.norm(found.landmarks - points, axis=1).mean() / apart)
    assert finder.found["dlib enlarged"] >= 4 > finder.found["dlib"]
    assert np.mean(errors) < 0.15


def test_face_alignment_is_read_as_its_own_documentation_says(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.arange(136, dtype=np.float32).reshape(68, 2)

    class Network:
        def __init__(self, kind: object, device: str, compile: bool) -> None:
            assert (kind, device, compile) == ("2D", "cpu", False)

        def get_landmarks_from_image(self, image: np.ndarray, return_bboxes: bool) -> tuple:
            assert return_bboxes
            return ([points], None, [np.array([1, 2, 11, 12, 0.9])]) if image.any() else (None, None, None)

    module = types.ModuleType("face_alignment")
    module.FaceAlignment, module.LandmarksType = Network, types.SimpleNamespace(TWO_D="2D")  # type: ignore[attr-defined]
    module.__spec__ = types.SimpleNamespace(name="face_alignment")  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "face_alignment", module)
    detector = FaceAlignmentLandmarks()
    assert detector.detect(PICTURE) == []
    (found,) = detector.detect(PICTURE + 1)
    assert (found.left, found.bottom, found.score) == (1, 12, 0.9)
    np.testing.assert_array_equal(found.landmarks, points)

    def broken(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(module, "FaceAlignment", broken)
    with pytest.raises(UserError, match="cannot load its weights: no route to host"):
        FaceAlignmentLandmarks().detect(PICTURE)


def test_the_ladder_of_each_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_finder("none") is None
    with pytest.raises(UserError, match="choose one of dlib, face_alignment, none"):
        find_finder("mtcnn")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"imago\[faces\]"):
        find_finder("dlib")
    with pytest.raises(UserError, match="pip install face-alignment"):
        find_finder("face_alignment")
