"""Drawn portraits: determinism, labels, landmarks, and faces that dlib takes for faces."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from imago.data.drawn_portraits import VOCABULARY, PortraitAttributes, draw_portrait, sample_attributes
from imago.data.drawn_portraits.attributes import Pose
from imago.data.drawn_portraits.geometry import Projection, frontal_landmarks, landmarks_in_picture
from imago.data.sources.drawn import DrawnPortraits
from imago.errors import UserError

# The values in c&z.csv of the Curtó & Zarza faces, by column.
CURTO_VALUES = {
    "Age": "baby kid teenager early_adulthood adult middle_aged senior retirement elderly",
    "Ethnicity": "black white east_asian south_asian",
    "Eyes Color": "brown other blue green",
    "Facial Hair": "no light_mustache light_goatee light_beard thick_mustache thick_goatee thick_beard",
    "Gender": "male female",
    "Glasses": "no eyeglasses sunglasses",
    "Hair Color": "black brown other blonde white red",
    "Hair Covered": "no turban cap helmet",
    "Hair Style": "short_straight long_straight short_curly long_curly bald other",
    "Smile": "yes no",
    "Visible Forehead": "yes no",
}
FRONTAL = Pose(roll=0.0, yaw=0.0, pitch=0.0, scale=0.22, centre=(0.5, 0.46))
# Where each landmark goes when the picture is mirrored.
FLIPPED = np.concatenate(
    [
        np.arange(16, -1, -1),  # jaw
        np.arange(26, 16, -1),  # brows
        [27, 28, 29, 30, 35, 34, 33, 32, 31],  # nose
        [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40],  # eyes
        [*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65],  # mouth
    ]
)


def first(seed: int, **wanted: str) -> PortraitAttributes:
    """The first portrait of a collection with the attributes wanted."""
    candidates = (sample_attributes(seed, index) for index in range(5000))
    return next(a for a in candidates if all(getattr(a, name) == value for name, value in wanted.items()))


def colour_at(picture: np.ndarray, attributes: PortraitAttributes, x: float, y: float, radius: int = 2) -> np.ndarray:
    """Mean colour around a point of the face frame: ``(3,)``."""
    projection = Projection(attributes.pose, attributes.shape.nose_tip)
    column, row = np.rint(projection.to_picture(np.array([[x, y]]), picture.shape[0])[0] - 0.5).astype(int)
    patch = picture[row - radius : row + radius + 1, column - radius : column + radius + 1]
    return patch.reshape(-1, 3).mean(0)


def test_a_portrait_depends_on_seed_and_index_only() -> None:
    assert sample_attributes(3, 7) == sample_attributes(3, 7)
    assert sample_attributes(3, 7) != sample_attributes(3, 8)
    assert sample_attributes(3, 7) != sample_attributes(4, 7)
    one, two = draw_portrait(sample_attributes(3, 7), 64), draw_portrait(sample_attributes(3, 7), 64)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


@pytest.mark.parametrize("size", [16, 32, 50, 64, 128])
def test_picture_and_landmarks_have_the_promised_form(size: int) -> None:
    picture, landmarks = draw_portrait(sample_attributes(0, 0), size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    assert landmarks.shape == (68, 2)
    assert landmarks.dtype == np.float32


@pytest.mark.parametrize("size", [15, 0, -4, 4097])
def test_sizes_out_of_range_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="pixels wide"):
        draw_portrait(sample_attributes(0, 0), size)


def test_a_negative_index_is_refused() -> None:
    with pytest.raises(ValueError, match="index"):
        sample_attributes(0, -1)


def test_the_same_face_at_every_size() -> None:
    differences = []
    for index in range(24):
        attributes = sample_attributes(5, index)
        small, small_landmarks = draw_portrait(attributes, 64)
        large, large_landmarks = draw_portrait(attributes, 256)
        reduced = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
        differences.append(np.abs(reduced - small).mean())
        np.testing.assert_allclose((large_landmarks + 0.5) / 4 - 0.5, small_landmarks, atol=1e-3)
    assert np.mean(differences) < 1.5
    assert np.max(differences) < 3.0


def test_landmarks_lie_in_the_picture() -> None:
    for index in range(2000):
        landmarks = landmarks_in_picture(sample_attributes(1, index), 128)
        assert landmarks.min() >= 0
        assert landmarks.max() <= 127


def test_landmarks_come_in_ibug_order() -> None:
    for index in range(50):
        points = frontal_landmarks(sample_attributes(2, index).shape)
        left_eye, right_eye = points[36:42].mean(0), points[42:48].mean(0)
        assert left_eye[0] < 0 < right_eye[0]
        np.testing.assert_allclose(right_eye[0] - left_eye[0], 1.0, atol=0.02)
        assert points[8, 1] == points[:, 1].max()  # the chin is lowest
        assert points[0, 0] == points[:, 0].min()  # the jaw starts at the ear on the left of the picture
        assert points[16, 0] == points[:, 0].max()
        assert (np.diff(points[17:27, 0]) > 0).all()  # brows from left to right
        assert (np.diff(points[27:31, 1]) > 0).all()  # down the bridge of the nose
        assert (np.diff(points[31:36, 0]) > 0).all()
        assert points[48, 0] < points[51, 0] < points[54, 0]
        assert points[57, 1] > points[66, 1] > points[62, 1] > points[51, 1]
        assert points[33, 1] < points[51, 1]


def test_a_frontal_face_is_symmetric() -> None:
    for index in range(20):
        attributes = dataclasses.replace(sample_attributes(2, index), pose=FRONTAL)
        landmarks = landmarks_in_picture(attributes, 256)
        mirrored = landmarks[FLIPPED] * [-1, 1] + [255, 0]
        np.testing.assert_allclose(mirrored, landmarks, atol=1e-3)


def test_turning_the_head_moves_the_nose_further_than_the_jaw() -> None:
    attributes = dataclasses.replace(sample_attributes(2, 0), pose=FRONTAL)
    turned = dataclasses.replace(attributes, pose=dataclasses.replace(FRONTAL, yaw=0.2))
    motion = landmarks_in_picture(turned, 256)[:, 0] - landmarks_in_picture(attributes, 256)[:, 0]
    assert motion[30] > 2  # the tip
    assert motion[30] > motion[[0, 16]].max() + 5


def test_the_vocabulary_is_that_of_the_curto_faces() -> None:
    assert list(VOCABULARY) == list(CURTO_VALUES)
    for column, values in CURTO_VALUES.items():
        assert set(VOCABULARY[column]) == set(values.split())


def test_every_value_occurs_and_combinations_make_sense() -> None:
    seen: dict[str, set[str]] = {column: set() for column in CURTO_VALUES}
    for index in range(4000):
        attributes = sample_attributes(0, index)
        labels = attributes.labels()
        assert list(labels) == list(CURTO_VALUES)
        for column, value in labels.items():
            seen[column].add(value)
        if labels["Facial Hair"] != "no":
            assert labels["Gender"] == "male"
            assert labels["Age"] not in ("baby", "kid", "teenager")
        if labels["Hair Covered"] in ("turban", "helmet"):
            assert labels["Hair Style"] == "other"
        if labels["Hair Style"] == "bald" and labels["Hair Covered"] == "no":
            assert labels["Visible Forehead"] == "yes"
        if labels["Glasses"] == "sunglasses":
            assert labels["Eyes Color"] == "other"
    assert seen == {column: set(values.split()) for column, values in CURTO_VALUES.items()}


def test_sunglasses_darken_the_eyes_and_eyeglasses_let_them_through() -> None:
    for index in range(12):
        bare = dataclasses.replace(sample_attributes(6, index), glasses="no", eyes_color="brown")
        pictures = {
            kind: draw_portrait(dataclasses.replace(bare, glasses=kind), 128)[0] for kind in VOCABULARY["Glasses"]
        }
        under_eye = {kind: colour_at(picture, bare, -0.5, 0.15, radius=1).mean() for kind, picture in pictures.items()}
        assert under_eye["sunglasses"] < 0.85 * under_eye["no"]
        assert under_eye["eyeglasses"] > 0.75 * under_eye["no"]


def test_a_smile_raises_the_corners_of_the_mouth() -> None:
    for index in range(300):
        attributes = sample_attributes(7, index)
        points = frontal_landmarks(attributes.shape)
        raised = points[62, 1] - points[[48, 54], 1].mean()
        assert (raised > 0.04) == (attributes.smile == "yes")


def test_a_broad_smile_shows_teeth() -> None:
    candidates = (sample_attributes(8, index) for index in range(500))
    broad = next(a for a in candidates if a.shape.mouth_open > 0.12)
    picture, _ = draw_portrait(broad, 256)
    teeth = colour_at(picture, broad, 0.0, broad.shape.mouth + 0.055, radius=1)
    assert teeth.min() > 170


def test_a_dark_thick_beard_covers_the_chin() -> None:
    bearded = first(0, facial_hair="thick_beard", hair_color="black", ethnicity="white")
    shaved = dataclasses.replace(bearded, facial_hair="no")
    y = bearded.shape.chin - 0.12
    covered = colour_at(draw_portrait(bearded, 128)[0], bearded, 0.0, y)
    bare = colour_at(draw_portrait(shaved, 128)[0], shaved, 0.0, y)
    assert covered.mean() < 0.6 * bare.mean()


def test_the_forehead_is_visible_when_the_label_says_so() -> None:
    for index in range(120):
        attributes = sample_attributes(9, index)
        bare = dataclasses.replace(
            attributes, hair_style="bald", hair_covered="no", glasses="no", visible_forehead="yes"
        )
        with_hair = colour_at(draw_portrait(attributes, 64)[0], attributes, 0.0, -0.64, radius=0)
        without = colour_at(draw_portrait(bare, 64)[0], bare, 0.0, -0.64, radius=0)
        changed = np.abs(with_hair - without).max() / without.max()
        if attributes.visible_forehead == "yes":
            assert changed < 0.35
        else:
            # Hair or a hat may happen to be as light or as dark as the skin beneath, but seldom in every channel.
            assert changed > 0.02


def test_the_source_reads_items() -> None:
    source = DrawnPortraits(count=3, size=32, seed=4)
    assert len(source) == 3
    item = source.read(2)
    expected, landmarks = draw_portrait(sample_attributes(4, 2), 32)
    np.testing.assert_array_equal(item.image, expected)
    assert item.labels == sample_attributes(4, 2).labels()
    assert item.landmarks is not None
    np.testing.assert_array_equal(item.landmarks, landmarks)
    assert len({source.read(index).name for index in range(3)}) == 3
    with pytest.raises(IndexError):
        source.read(3)


def test_the_fingerprint_names_the_collection() -> None:
    prints = {
        DrawnPortraits(count, size, seed).fingerprint()
        for count, size, seed in ((3, 32, 0), (4, 32, 0), (3, 64, 0), (3, 32, 1))
    }
    assert len(prints) == 4
    assert DrawnPortraits(3, 32).fingerprint() == DrawnPortraits(3, 32).fingerprint()


@pytest.mark.parametrize(("count", "size"), [(0, 64), (-1, 64), (5, 8)])
def test_impossible_collections_are_refused(count: int, size: int) -> None:
    with pytest.raises(UserError):
        DrawnPortraits(count, size)


def check_detection(size: int, count: int) -> None:
    dlib = pytest.importorskip("dlib")
    detector = dlib.get_frontal_face_detector()
    missed, inside = [], []
    for index in range(count):
        picture, landmarks = draw_portrait(sample_attributes(1, index), size)
        boxes = detector(picture, 1)
        if len(boxes) != 1:
            missed.append(index)
            continue
        box = boxes[0]
        low, high = np.array([box.left(), box.top()]), np.array([box.right(), box.bottom()])
        inside.append(((landmarks >= low) & (landmarks <= high)).all(1).mean())
    assert len(missed) <= 0.01 * count, f"not exactly one face in portraits {missed}"
    assert np.mean(inside) > 0.85
    assert np.min(inside) > 0.5


@pytest.mark.parametrize("size", [128, 256])
def test_dlib_finds_one_face(size: int) -> None:
    check_detection(size, 60)


@pytest.mark.slow
@pytest.mark.parametrize("size", [128, 256])
def test_dlib_finds_one_face_in_many(size: int) -> None:
    check_detection(size, 500)


def test_the_68_point_model_agrees_with_the_landmarks() -> None:
    dlib = pytest.importorskip("dlib")
    models = importlib.util.find_spec("face_recognition_models")  # importing it would need pkg_resources
    if models is None or models.origin is None:
        pytest.skip("face_recognition_models is not installed")
    predictor = dlib.shape_predictor(
        str(Path(models.origin).parent / "models" / "shape_predictor_68_face_landmarks.dat")
    )
    detector = dlib.get_frontal_face_detector()
    errors = []
    for index in range(60):
        picture, landmarks = draw_portrait(sample_attributes(1, index), 256)
        for box in detector(picture, 1)[:1]:
            found = np.array([(part.x, part.y) for part in predictor(picture, box).parts()])
            between_eyes = np.linalg.norm(landmarks[36:42].mean(0) - landmarks[42:48].mean(0))
            errors.append(np.linalg.norm(found - landmarks, axis=1).mean() / between_eyes)
    assert np.mean(errors) < 0.06


@pytest.mark.slow
def test_a_4096_portrait_is_the_same_face() -> None:
    attributes = sample_attributes(5, 1)
    large, _ = draw_portrait(attributes, 4096)
    small, _ = draw_portrait(attributes, 128)
    reduced = large.reshape(128, 32, 128, 32, 3).mean((1, 3), dtype=np.float32)
    assert np.abs(reduced - small).mean() < 1.5
