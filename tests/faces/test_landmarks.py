"""Landmarks: the five points, the choice among faces, dlib."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.errors import MissingDependencyError, UserError
from imago.faces.landmarks import DlibLandmarks, Face, choose_faces, find_predictor, five_points


def face(size: float) -> Face:
    return Face(0.0, 0.0, size - 1, size - 1, 1.0, np.zeros((68, 2)))


@pytest.fixture(scope="module")
def detector() -> DlibLandmarks:
    pytest.importorskip("dlib")
    try:
        return DlibLandmarks()
    except MissingDependencyError as error:
        pytest.skip(str(error))


def test_the_five_points_are_eye_centres_nose_tip_and_mouth_corners() -> None:
    landmarks = np.stack([np.arange(68), 100 + np.arange(68)], axis=1)
    expected_x = [38.5, 44.5, 30, 48, 54]
    np.testing.assert_array_equal(five_points(landmarks), np.stack([expected_x, np.add(expected_x, 100)], axis=1))
    np.testing.assert_array_equal(five_points(landmarks[:5]), landmarks[:5])
    with pytest.raises(ValueError, match="landmarks"):
        five_points(landmarks[:6])


def test_the_choice_among_faces() -> None:
    faces = [face(10), face(30), face(20)]
    assert choose_faces(faces, "largest") == [faces[1]]
    assert choose_faces(faces, "all") == faces
    assert choose_faces(faces, "none") == []
    for which in ("largest", "all", "none"):
        assert choose_faces(faces[:1], which) == faces[:1]
        assert choose_faces([], which) == []
    with pytest.raises(UserError, match="largest, all, none"):
        choose_faces(faces, "first")


def test_a_face_of_landmarks_alone_has_their_box_and_no_score() -> None:
    found = Face.from_landmarks(np.array([[1.0, 2.0], [5.0, 4.0], [3.0, 9.0], [2.0, 3.0], [2.0, 8.0]]))
    assert (found.left, found.top, found.right, found.bottom) == (1, 2, 5, 9)
    assert found.area == 5 * 8
    assert np.isnan(found.score)


def test_dlib_finds_the_landmarks_of_drawn_portraits(detector: DlibLandmarks) -> None:
    errors = []
    for index in range(8):
        picture, exact = draw_portrait(sample_attributes(1, index), 256)
        (found,) = detector.detect(picture)
        assert found.score > 0
        assert found.left < exact[27:68, 0].min()
        assert found.right > exact[27:68, 0].max()
        between_eyes = np.linalg.norm(five_points(exact)[0] - five_points(exact)[1])
        errors.append(np.linalg.norm(found.landmarks - exact, axis=1).mean() / between_eyes)
    assert np.mean(errors) < 0.06


def test_a_large_photo_is_shrunk_to_look_for_faces_but_not_for_landmarks(detector: DlibLandmarks) -> None:
    picture, exact = draw_portrait(sample_attributes(1, 0), 256)
    large = np.asarray(Image.fromarray(picture).resize((1536, 1536), Image.Resampling.BICUBIC))
    shrinking = DlibLandmarks(detection_side=300, upsample=1)
    (found,) = shrinking.detect(large)
    expected = (exact + 0.5) * 6 - 0.5
    between_eyes = np.linalg.norm(five_points(expected)[0] - five_points(expected)[1])
    assert np.linalg.norm(found.landmarks - expected, axis=1).mean() / between_eyes < 0.06
    # Fitted in the small picture and scaled up, they would all lie on a grid of 5.12 pixels.
    assert len(np.unique(np.mod(found.landmarks[:, 0], 5.12).round(2))) > 20
    (small,) = detector.detect(picture)
    assert found.area == pytest.approx(36 * small.area, rel=0.4)


def test_a_small_face_is_looked_for_in_the_doubled_photo(detector: DlibLandmarks) -> None:
    picture, _ = draw_portrait(sample_attributes(1, 3), 128)
    canvas = np.full((500, 500, 3), 128, np.uint8)
    canvas[200:328, 100:228] = picture
    (found,) = detector.detect(canvas)
    assert 90 < found.left < found.right < 240
    assert DlibLandmarks(upsample=0).detect(np.zeros((64, 64, 3), np.uint8)) == []


def test_a_face_that_fills_the_photo_is_found_with_a_border(detector: DlibLandmarks) -> None:
    picture, exact = draw_portrait(sample_attributes(1, 0), 512)
    (whole,) = detector.detect(picture)
    left, top, right, bottom = (int(side) for side in (whole.left, whole.top, whole.right, whole.bottom))
    cut = (right - left) // 5
    close_up = picture[top + cut : bottom - cut, left + cut : right - cut]
    assert DlibLandmarks(upsample=0).detect(close_up) == []
    (found,) = detector.detect(close_up)
    expected = exact - [left + cut, top + cut]
    between_eyes = np.linalg.norm(five_points(expected)[0] - five_points(expected)[1])
    assert np.linalg.norm(found.landmarks - expected, axis=1).mean() / between_eyes < 0.15


@pytest.mark.parametrize("extent", [(1, 1), (1, 4), (4, 1), (3, 3)])
def test_a_picture_of_a_few_pixels_has_no_face(detector: DlibLandmarks, extent: tuple[int, int]) -> None:
    assert detector.detect(np.zeros((*extent, 4), np.uint8)[..., :3]) == []


def test_the_detector_survives_pickling_and_opens_its_models_anew(detector: DlibLandmarks) -> None:
    picture, _ = draw_portrait(sample_attributes(1, 0), 256)
    before = detector.detect(picture)
    content = pickle.dumps(detector)
    assert len(content) < 10_000  # the path, not the 100 MB of the model
    after = pickle.loads(content).detect(picture)
    np.testing.assert_array_equal(before[0].landmarks, after[0].landmarks)


def test_the_model_is_found_without_importing_its_package() -> None:
    pytest.importorskip("dlib")
    code = (
        "import sys; from imago.faces.landmarks import find_predictor; "
        "print(find_predictor()); assert 'face_recognition_models' not in sys.modules and 'dlib' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if "MissingDependencyError" in result.stderr:
        pytest.skip("face_recognition_models is not installed")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith("shape_predictor_68_face_landmarks.dat")


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no such file"):
        find_predictor(tmp_path / "none.dat")
    with pytest.raises(UserError, match="doublings"):
        DlibLandmarks(upsample=9)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"face_recognition_models.*imago\[faces\]"):
        find_predictor()
    with pytest.raises(MissingDependencyError, match=r"dlib.*imago\[faces\]"):
        DlibLandmarks()


def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    pytest.importorskip("dlib")
    path = tmp_path / "model.dat"
    path.write_bytes(b"not a model")
    with pytest.raises(UserError, match="not a dlib shape predictor"):
        DlibLandmarks(path).detect(np.zeros((100, 100, 3), np.uint8))
