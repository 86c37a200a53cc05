"""Landmarks of a packed data set: its own, or those that a detector finds, once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from face_packs import face_pack

import imago.faces.pack_landmarks as module
from imago.data import PackedDataset
from imago.errors import MissingDependencyError, UserError
from imago.faces.landmarks import Face
from imago.faces.pack_landmarks import landmarks_of_pack


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """Four portraits, of which one has no landmarks."""
    return face_pack(tmp_path_factory.mktemp("packs") / "known", 32, 4, unknown=(2,))


@pytest.fixture(scope="module")
def unknown(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """The same portraits, none with landmarks."""
    return face_pack(tmp_path_factory.mktemp("packs") / "unknown", 32, 4, unknown=None)


class Scripted:
    """Finds what it is told to find in one picture after the other, and keeps what it was shown."""

    def __init__(self, faces: list[list[Face]]) -> None:
        self.faces = list(faces)
        self.shown: list[np.ndarray] = []

    def detect(self, image: np.ndarray) -> list[Face]:
        assert image.flags.c_contiguous
        self.shown.append(image)
        return self.faces[len(self.shown) - 1]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[list[Face]]], Scripted]:
    def put_in(faces: list[list[Face]]) -> Scripted:
        detector = Scripted(faces)
        monkeypatch.setattr(module, "DlibLandmarks", lambda: detector)
        return detector

    return put_in


def face(scale: float) -> Face:
    return Face.from_landmarks(np.stack([np.arange(68) * scale, np.arange(68) * scale / 2 + 1], axis=1))


FOUR = [[face(0.1)], [], [face(0.05), face(0.2), face(0.1)], [face(0.15)]]


@pytest.mark.parametrize("where_from", ["auto", "pack"])
def test_the_packs_own_landmarks_are_taken(where_from: str, known: PackedDataset, tmp_path: Path, found) -> None:
    detector = found(FOUR)
    marks = landmarks_of_pack(known, where_from, tmp_path)
    assert marks is not None
    np.testing.assert_array_equal(marks, known.landmarks)
    assert np.isnan(marks[2]).all()
    assert not detector.shown
    assert not list(tmp_path.iterdir())


def test_none_is_asked_for(known: PackedDataset, tmp_path: Path) -> None:
    assert landmarks_of_pack(known, "none", tmp_path) is None


@pytest.mark.parametrize("where_from", ["auto", "dlib"])
def test_the_largest_face_of_each_picture_is_found_and_kept(
    where_from: str, unknown: PackedDataset, tmp_path: Path, found
) -> None:
    detector = found(FOUR)
    marks = landmarks_of_pack(unknown, where_from, tmp_path / "cache")
    assert marks is not None
    assert marks.dtype == np.float32
    for mark, expected in zip(marks, (face(0.1), None, face(0.2), face(0.15)), strict=True):
        if expected is None:
            assert np.isnan(mark).all()
        else:
            np.testing.assert_allclose(mark, expected.landmarks, atol=1e-5)
    pictures = unknown.images(np.arange(4), 32)
    assert all(
        np.array_equal(image, picture.transpose(1, 2, 0))
        for image, picture in zip(detector.shown, pictures, strict=True)
    )
    again = found([])
    np.testing.assert_array_equal(landmarks_of_pack(unknown, where_from, tmp_path / "cache"), marks)
    assert not again.shown
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_dlib_overrules_the_packs_own(known: PackedDataset, tmp_path: Path, found) -> None:
    found(FOUR)
    marks = landmarks_of_pack(known, "dlib", tmp_path)
    assert marks is not None
    np.testing.assert_allclose(marks[0], face(0.1).landmarks, atol=1e-5)


def test_large_pictures_are_looked_at_smaller(unknown: PackedDataset, tmp_path: Path, found, monkeypatch) -> None:
    """At 8² of 32²: pixel k of the small picture has its centre at 4k + 1.5 of the large one."""
    monkeypatch.setattr(module, "_DETECTION_HEIGHT", 15)
    detector = found(FOUR)
    marks = landmarks_of_pack(unknown, "auto", tmp_path)
    assert marks is not None
    assert {image.shape for image in detector.shown} == {(8, 8, 3)}
    np.testing.assert_allclose(marks[0], 4 * face(0.1).landmarks + 1.5, atol=1e-4)


def test_other_packs_have_files_of_their_own(unknown: PackedDataset, tmp_path: Path, found) -> None:
    other = face_pack(tmp_path / "other", 32, 4, unknown=None, seed=2)
    found(FOUR)
    first = landmarks_of_pack(unknown, "dlib", tmp_path / "cache")
    found(FOUR[::-1])
    second = landmarks_of_pack(other, "dlib", tmp_path / "cache")
    assert first is not None
    np.testing.assert_array_equal(second, first[::-1])
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", None])
def test_a_damaged_cache_is_made_again(damage: bytes | None, unknown: PackedDataset, tmp_path: Path, found) -> None:
    found(FOUR)
    marks = landmarks_of_pack(unknown, "dlib", tmp_path)
    (path,) = tmp_path.iterdir()
    if damage is None:
        np.save(path, np.zeros((3, 68, 2), dtype=np.float32))
    else:
        path.write_bytes(damage)
    detector = found(FOUR)
    np.testing.assert_array_equal(landmarks_of_pack(unknown, "dlib", tmp_path), marks)
    assert len(detector.shown) == 4


def test_mistakes(unknown: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"data\.landmarks=eyes: must be one of auto, pack, dlib, none"):
        landmarks_of_pack(unknown, "eyes", tmp_path)
    with pytest.raises(UserError, match=r"holds no landmarks; data\.landmarks=dlib finds them, none does without"):
        landmarks_of_pack(unknown, "pack", tmp_path)

    def missing() -> None:
        raise MissingDependencyError("dlib", "finding faces", "faces")

    monkeypatch.setattr(module, "DlibLandmarks", missing)
    with pytest.raises(UserError, match=r"holds no landmarks: .*dlib.*; or go without, by data\.landmarks=none"):
        landmarks_of_pack(unknown, "auto", tmp_path)
    assert not list(tmp_path.iterdir())
