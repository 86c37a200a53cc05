"""The source of aligned faces, over photos that are drawn."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.data.sources.aligned import AlignedFaces
from imago.data.sources.drawn import DrawnPortraits
from imago.data.sources.source import Item, UnreadableImageError, read_all
from imago.errors import UserError
from imago.faces.landmarks import Face, five_points

SMALL = {"size": 64, "supersample": 128}


class Photos:
    """Photos that are given as they are."""

    name = "photos"

    def __init__(self, items: list[Item]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def fingerprint(self) -> str:
        return f"photos {len(self.items)}"

    def item_name(self, index: int) -> str:
        return self.items[index].name

    def read(self, index: int) -> Item:
        return self.items[index]


class FixedDetector:
    """Finds the same faces everywhere."""

    def __init__(self, faces: list[Face]) -> None:
        self.faces = faces

    def detect(self, image: np.ndarray) -> list[Face]:
        return self.faces


def double(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(2, axis=0).repeat(2, axis=1)


def broken(pixels: np.ndarray) -> np.ndarray:
    raise RuntimeError("out of magic")


def portrait(index: int = 0, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    return draw_portrait(sample_attributes(3, index), size)


def test_annotated_landmarks_align_and_move_along() -> None:
    source = AlignedFaces(DrawnPortraits(3, 128, seed=3), "annotation", **SMALL)
    assert len(source) == 3
    for index in range(3):
        item = source.read(index)
        assert item.image.shape == (64, 64, 3)
        assert item.name == source.item_name(index) == f"drawn_{index:07d}"
        assert item.labels == DrawnPortraits(3, 128, seed=3).read(index).labels
        assert item.landmarks is not None
        eye0, eye1, _, mouth0, mouth1 = five_points(item.landmarks)
        assert eye0[1] == pytest.approx(eye1[1], abs=2.5)
        assert np.mean([eye0, eye1], axis=0)[0] == pytest.approx(31.5, abs=1.0)
        assert np.mean([mouth0, mouth1], axis=0)[1] > 40


def test_five_annotated_points_go_before_68_and_leave_no_landmarks_alone() -> None:
    image, landmarks = portrait()
    points = five_points(landmarks)
    both = Item(image, "a", None, landmarks, points + np.array([4.0, 0.0]))
    five = Item(image, "a", None, None, points + np.array([4.0, 0.0]))
    aligned_both = AlignedFaces(Photos([both]), "annotation", **SMALL).read(0)
    aligned_five = AlignedFaces(Photos([five]), "auto", **SMALL).read(0)
    np.testing.assert_array_equal(aligned_both.image, aligned_five.image)
    assert aligned_both.landmarks is not None
    assert aligned_five.landmarks is None
    assert aligned_five.five_points is None
    middle = five_points(aligned_both.landmarks)[:2].mean(axis=0)[0]
    assert middle < 31  # the picture was centred four pixels of the photo to the right of the eyes


def test_photos_without_annotation_are_unreadable_where_one_is_asked_for() -> None:
    image, _ = portrait()
    source = AlignedFaces(Photos([Item(image, "a")]), "annotation", **SMALL)
    with pytest.raises(UnreadableImageError, match="a: no landmarks annotated"):
        source.read(0)


def crowd(*sizes: float) -> list[Face]:
    _, landmarks = portrait()
    faces = []
    for size in sizes:
        half = size / 2
        faces.append(Face(64 - half, 64 - half, 64 + half, 64 + half, 1.0, landmarks.astype(float)))
    return faces


def with_faces(faces: list[Face], which: str) -> AlignedFaces:
    image, _ = portrait()
    source = AlignedFaces(Photos([Item(image, "a.jpg", {"Smile": "yes"})]), "auto", faces=which, **SMALL)
    source.__dict__["_detector"] = FixedDetector(faces)
    return source


def test_which_faces_of_a_photo_are_used() -> None:
    names = [item.name for item in read_all(with_faces(crowd(20, 30), "all"), 0)]
    assert names == ["a.jpg#0", "a.jpg#1"]
    assert [item.labels for item in read_all(with_faces(crowd(20, 30), "all"), 0)] == [{"Smile": "yes"}] * 2
    assert [item.name for item in read_all(with_faces(crowd(20), "all"), 0)] == ["a.jpg"]
    assert [item.name for item in read_all(with_faces(crowd(20, 30), "largest"), 0)] == ["a.jpg"]
    assert [item.name for item in read_all(with_faces(crowd(20), "none"), 0)] == ["a.jpg"]
    with pytest.raises(UnreadableImageError, match=r"a\.jpg: 2 faces"):
        with_faces(crowd(20, 30), "none").read(0)
    with pytest.raises(UnreadableImageError, match=r"a\.jpg: no face found"):
        with_faces([], "largest").read(0)


def test_a_face_of_impossible_landmarks_leaves_the_others() -> None:
    faces = crowd(20, 30)
    impossible = Face(0, 0, 9, 9, 1.0, np.zeros((68, 2)))
    assert [item.name for item in read_all(with_faces([impossible, *faces], "all"), 0)] == ["a.jpg#1", "a.jpg#2"]
    with pytest.raises(UnreadableImageError, match="do not determine"):
        with_faces([impossible], "all").read(0)


def test_small_faces_are_refused_with_their_size() -> None:
    image, landmarks = portrait()
    photos = Photos([Item(image, "a", None, landmarks)])
    with pytest.raises(UnreadableImageError, match=r"a: face crop of \d+ pixels"):
        AlignedFaces(photos, minimum_face=500, **SMALL).read(0)
    assert AlignedFaces(photos, minimum_face=20, **SMALL).read(0).image.shape == (64, 64, 3)


def test_precomputed_landmarks(tmp_path: Path) -> None:
    image, landmarks = portrait()
    path = tmp_path / "landmarks.csv"
    path.write_text("b.jpg," + ",".join(map(str, landmarks.ravel())) + "\nempty.jpg\n")
    photos = Photos([Item(image, "x/b.jpg"), Item(image, "empty.jpg"), Item(image, "other.jpg")])
    source = AlignedFaces(photos, "precomputed", landmarks_file=path, **SMALL)
    expected = AlignedFaces(Photos([Item(image, "b", None, landmarks)]), **SMALL).read(0)
    np.testing.assert_array_equal(source.read(0).image, expected.image)
    with pytest.raises(UnreadableImageError, match="no face found"):
        source.read(1)
    with pytest.raises(UnreadableImageError, match="not in the landmarks file"):
        source.read(2)


def test_the_enhancer_is_named_in_a_configuration_and_its_errors_are_told() -> None:
    image, landmarks = portrait()
    photos = Photos([Item(image, "a.jpg", None, landmarks)])
    plain = AlignedFaces(photos, **SMALL).read(0)
    by_name = AlignedFaces(photos, enhance=f"{__name__}:double", **SMALL)
    given = AlignedFaces(photos, enhance=double, **SMALL)
    np.testing.assert_array_equal(by_name.read(0).image, given.read(0).image)
    np.testing.assert_array_equal(by_name.read(0).landmarks, plain.landmarks)
    assert by_name.fingerprint() == given.fingerprint() != AlignedFaces(photos, **SMALL).fingerprint()
    with pytest.raises(UserError, match=r"enhance=.*broken failed on a\.jpg: RuntimeError: out of magic"):
        AlignedFaces(photos, enhance=broken, **SMALL).read(0)
    with pytest.raises(UserError, match=r"package\.module:function"):
        AlignedFaces(photos, enhance="double", **SMALL)
    with pytest.raises(UserError, match="no_such_module"):
        AlignedFaces(photos, enhance="no_such_module:f", **SMALL)
    with pytest.raises(UserError, match="is not a function"):
        AlignedFaces(photos, enhance=f"{__name__}:SMALL", **SMALL)


def test_wrong_parameters_are_told(tmp_path: Path) -> None:
    photos = DrawnPortraits(1, 64)
    with pytest.raises(UserError, match="auto, annotation, dlib, precomputed"):
        AlignedFaces(photos, "yolo")
    with pytest.raises(UserError, match="largest, all, none"):
        AlignedFaces(photos, faces="first")
    with pytest.raises(UserError, match="landmarks_file"):
        AlignedFaces(photos, "precomputed")
    with pytest.raises(UserError, match="landmarks_file"):
        AlignedFaces(photos, "auto", landmarks_file=tmp_path / "a.csv")
    with pytest.raises(UserError, match="multiple"):
        AlignedFaces(photos, size=1000)


def test_the_fingerprint_covers_every_parameter(tmp_path: Path) -> None:
    path = tmp_path / "landmarks.csv"
    path.write_text("a,1,2,3,4,5,6,7,8,9,10\n")
    photos = DrawnPortraits(2, 64)
    sources = [
        AlignedFaces(photos),
        AlignedFaces(DrawnPortraits(2, 64, seed=1)),
        AlignedFaces(photos, "annotation"),
        AlignedFaces(photos, faces="all"),
        AlignedFaces(photos, size=512),
        AlignedFaces(photos, supersample=2048),
        AlignedFaces(photos, minimum_face=99),
        AlignedFaces(photos, enhance=double),
        AlignedFaces(photos, predictor_path=tmp_path / "other.dat"),
        AlignedFaces(photos, "precomputed", landmarks_file=path),
    ]
    prints = {source.fingerprint() for source in sources}
    path.write_text("a,1,2,3,4,5,6,7,8,9,11\n")
    prints.add(AlignedFaces(photos, "precomputed", landmarks_file=path).fingerprint())
    assert len(prints) == len(sources) + 1
    assert AlignedFaces(photos).fingerprint() == sources[0].fingerprint()


def test_it_is_pickled_to_workers() -> None:
    source = AlignedFaces(DrawnPortraits(1, 128, seed=3), enhance=double, **SMALL)
    before = source.read(0)
    after = pickle.loads(pickle.dumps(source)).read(0)
    np.testing.assert_array_equal(before.image, after.image)


def test_dlib_aligns_a_photo_without_annotation_like_its_annotation() -> None:
    pytest.importorskip("dlib")
    image, landmarks = portrait(1, 256)
    try:
        source = AlignedFaces(Photos([Item(image, "a")]), "dlib", **SMALL)
    except UserError as error:
        pytest.skip(str(error))
    found = source.read(0)
    exact = AlignedFaces(Photos([Item(image, "a", None, landmarks)]), "annotation", **SMALL).read(0)
    assert found.landmarks is not None
    assert exact.landmarks is not None
    assert np.linalg.norm(five_points(found.landmarks) - five_points(exact.landmarks), axis=1).max() < 3


def test_framing_moves_the_eyes_as_the_formulas_say() -> None:
    """Moving the eyes by k of y, from mouth to eyes, leaves the given ones (0.1 − 0.9 k)·|y| above the centre."""
    portraits = DrawnPortraits(3, 128, seed=3)
    for index in range(3):
        five = five_points(portraits.read(index).landmarks)
        y = five[:2].mean(axis=0) - five[3:].mean(axis=0)
        across = np.linalg.norm(five[1] - five[0])
        for framing, k in (("ffhq", 0.0), ("celeba_hq", 0.033)):
            item = AlignedFaces(portraits, "annotation", framing=framing, **SMALL).read(index)
            side = max(4.0 * across, 3.6 * (1 + k) * np.linalg.norm(y))
            expected = 64 * (0.5 - (0.1 - 0.9 * k) * np.linalg.norm(y) / side) - 0.5
            assert five_points(item.landmarks)[:2, 1].mean() == pytest.approx(expected, abs=1e-3)
    with pytest.raises(UserError, match="framing='tight': must be one of celeba_hq, ffhq"):
        AlignedFaces(portraits, "annotation", framing="tight")
