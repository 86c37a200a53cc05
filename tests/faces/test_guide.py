"""The guide: colours where the features are, the mirror image of a mirrored face, the same at every size."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from imago.data.drawn_portraits import sample_attributes
from imago.data.drawn_portraits.geometry import frontal_landmarks, landmarks_in_picture
from imago.errors import UserError
from imago.faces.guide import FEATURES, GUIDE_STYLES, MIRRORED, draw_guide, guide_channels, mirror_landmarks

STYLES = [style for style in GUIDE_STYLES if style != "none"]
NAMES = list(FEATURES)


def drawn(index: int, size: int = 64) -> np.ndarray:
    """The exact landmarks of a drawn portrait, turned and tilted as it is."""
    return landmarks_in_picture(sample_attributes(1, index), size).astype(np.float64)


def area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def upright(size: int) -> np.ndarray:
    """Of one that looks straight ahead, with its mouth open."""
    attributes = sample_attributes(1, 0)
    pose = dataclasses.replace(attributes.pose, roll=0.0, yaw=0.0, pitch=0.0, scale=0.25, centre=(0.5, 0.45))
    shape = dataclasses.replace(attributes.shape, mouth_open=0.3)
    return landmarks_in_picture(dataclasses.replace(attributes, pose=pose, shape=shape), size).astype(np.float64)


# --- mirroring --------------------------------------------------------------------------------------------------------


def test_mirroring_twice_changes_nothing() -> None:
    assert sorted(MIRRORED) == list(range(68))
    np.testing.assert_array_equal(MIRRORED[MIRRORED], np.arange(68))


def test_mirroring_keeps_parts_and_their_middles() -> None:
    """Sagonas et al. 2013: which of the 68 points are which part, and which lie in the middle of the face."""
    for first, last in ((0, 17), (27, 31), (31, 36), (48, 60), (60, 68)):
        assert set(MIRRORED[first:last]) == set(range(first, last))
    assert set(MIRRORED[17:22]) == set(range(22, 27))
    assert set(MIRRORED[36:42]) == set(range(42, 48))
    middles = [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    assert [i for i in range(68) if MIRRORED[i] == i] == middles


@pytest.mark.parametrize("index", range(4))
def test_a_face_from_the_front_is_its_own_mirror_image(index: int) -> None:
    """Drawn faces are laid out symmetrically about x = 0."""
    face = frontal_landmarks(sample_attributes(1, index).shape)
    np.testing.assert_allclose(face[MIRRORED] * [-1, 1], face, atol=1e-12)


def test_mirrored_landmarks_lie_where_the_mirrored_pixels_do() -> None:
    picture = np.zeros((40, 50))
    face = np.stack([np.arange(68) % 50, np.arange(68) // 2], axis=1).astype(np.float64)
    for x, y in face.astype(int):
        picture[y, x] += 1
    for x, y in mirror_landmarks(face, 50).astype(int):
        picture[:, ::-1][y, x] -= 1
    assert not picture.any()
    assert mirror_landmarks(np.zeros((3, 68, 2)), 50).shape == (3, 68, 2)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("index", range(6))
def test_the_guide_of_a_mirrored_portrait_is_the_mirrored_guide(index: int, style: str) -> None:
    face = drawn(index)
    guide = draw_guide([face], (64, 64), style)
    assert guide.amax() == 1
    mirrored = draw_guide([mirror_landmarks(face, 64)], (64, 64), style)
    torch.testing.assert_close(mirrored, guide.flip(-1), rtol=0, atol=1e-6)
    assert (guide - guide.flip(-1)).abs().mean() > 1e-3  # it has two sides


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from(STYLES), st.integers(1, 3), st.booleans())
def test_the_guide_of_mirrored_points_is_the_mirrored_guide(seed: int, style: str, count: int, whole: bool) -> None:
    """Of any points, in no order that a face has, also outside of the picture or at whole pixels."""
    faces = np.random.default_rng(seed).normal(15, 12, (count, 68, 2))
    faces = np.rint(faces) if whole else faces
    guide = draw_guide(list(faces), (24, 31), style)
    mirrored = draw_guide(list(mirror_landmarks(faces, 31)), (24, 31), style)
    torch.testing.assert_close(mirrored, guide.flip(-1), rtol=0, atol=1e-6)
    assert 0 <= guide.min() <= guide.max() <= 1


# --- what is drawn ----------------------------------------------------------------------------------------------------


def test_channels_of_each_style() -> None:
    assert {style: guide_channels(style) for style in GUIDE_STYLES} == {"rgb": 3, "channels": 6, "none": 0}
    with pytest.raises(UserError, match="rgb, channels, none, not 'grey'"):
        guide_channels("grey")  # type: ignore[arg-type]
    for style in GUIDE_STYLES:
        guide = draw_guide([drawn(0)], (20, 30), style)
        assert guide.shape == (guide_channels(style), 20, 30)
        assert guide.dtype == torch.float32


def test_colours_lie_a_side_of_the_cube_apart_from_each_other_and_from_nothing() -> None:
    colours = [(0.0, 0.0, 0.0), *FEATURES.values()]
    assert len(set(colours)) == 7
    assert all(value in (0, 1) for colour in colours for value in colour)


PLACES = {
    "face": lambda p: (p[3] + p[30]) / 2,  # a cheek
    "brows": lambda p: p[24],
    "nose": lambda p: p[[27, 31, 35]].mean(axis=0),
    "eyes": lambda p: p[36:42].mean(axis=0),
    "lips": lambda p: (p[51] + p[62]) / 2,
    "mouth": lambda p: (p[62] + p[66]) / 2,
}


@pytest.mark.parametrize("name", NAMES)
def test_features_have_their_colours_where_they_are(name: str) -> None:
    face = upright(256)
    x, y = np.rint(PLACES[name](face)).astype(int)
    assert draw_guide([face], (256, 256))[:, y, x].tolist() == list(FEATURES[name])
    channels = draw_guide([face], (256, 256), "channels")[:, y, x].tolist()
    assert channels[NAMES.index(name)] == 1
    under = {"face", name} | ({"lips"} if name == "mouth" else set())  # each channel holds all of its feature
    assert channels == [float(other in under) for other in NAMES]


def test_the_face_reaches_from_the_chin_to_above_the_brows() -> None:
    face = upright(256)
    covered = draw_guide([face], (256, 256), "channels")[0]
    rows, columns = torch.nonzero(covered > 0.5, as_tuple=True)
    assert rows.max().item() == pytest.approx(face[8, 1], abs=1)
    assert columns.min().item() == pytest.approx(face[0, 0], abs=1)
    assert columns.max().item() == pytest.approx(face[16, 0], abs=1)
    ears = (face[0, 1] + face[16, 1]) / 2
    assert rows.min().item() == pytest.approx(ears - 2 / 3 * (face[8, 1] - ears), abs=1.5)
    assert rows.min().item() < face[17:27, 1].min() - 5


def test_eyes_and_lips_cover_their_area() -> None:
    face = upright(128)
    guide = draw_guide([face], (128, 128), "channels")
    for name, parts in (("eyes", [face[36:42], face[42:48]]), ("lips", [face[48:60]]), ("mouth", [face[60:68]])):
        expected = sum(area(part) for part in parts)
        assert guide[NAMES.index(name)].sum().item() == pytest.approx(expected, rel=0.02)


# --- size and place ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [4, 8])
@pytest.mark.parametrize("index", range(3))
def test_drawing_large_and_averaging_areas_is_the_same(index: int, factor: int) -> None:
    """As the post draws it. Channels to float precision; where colours meet in a pixel, close to it."""
    face, large = drawn(index, 32), drawn(index, 32 * factor)
    np.testing.assert_allclose((face + 0.5) * factor - 0.5, large, atol=1e-3)
    large = (face + 0.5) * factor - 0.5
    for style, tolerance, mean in (("channels", 1e-6, 1e-6), ("rgb", 0.2, 5e-4)):
        guide = draw_guide([face], (32, 32), style, supersample=factor)
        shrunk = F.avg_pool2d(draw_guide([large], (32 * factor, 32 * factor), style, supersample=1), factor)
        torch.testing.assert_close(guide, shrunk, rtol=0, atol=tolerance)
        assert (guide - shrunk).abs().mean() < mean


@pytest.mark.parametrize("style", STYLES)
def test_a_face_that_is_cut_off_is_drawn_as_in_a_larger_picture(style: str) -> None:
    face = drawn(2, 64)
    whole = draw_guide([face], (64, 64), style)
    part = draw_guide([face - [20, 30]], (25, 40), style)
    torch.testing.assert_close(part, whole[:, 30:55, 20:60], rtol=0, atol=1e-6)


@pytest.mark.parametrize("offset", [(1000, 0), (-1000, 0), (0, 1000), (0, -1000), (1e12, -1e12)])
def test_a_face_far_outside_leaves_the_guide_empty(offset: tuple[float, float]) -> None:
    assert not draw_guide([drawn(0) + offset], (64, 64)).any()


# --- several faces, and none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_faces_apart_are_drawn_each_by_itself(style: str) -> None:
    faces = [drawn(0, 48), drawn(1, 48) + np.array([48, 0])]
    together = draw_guide(faces, (48, 96), style)
    apart = [draw_guide([face], (48, 96), style) for face in faces]
    assert all(one.any() for one in apart)
    torch.testing.assert_close(together, apart[0] + apart[1], rtol=0, atol=1e-6)


def test_the_larger_face_is_in_front_whatever_the_order() -> None:
    near = upright(64)
    far = (near - [32, 30]) * 0.7 + [32, 36]
    both, alone = draw_guide([near, far], (64, 64)), draw_guide([near], (64, 64))
    assert torch.equal(both, draw_guide([far, near], (64, 64)))
    covered = draw_guide([near], (64, 64), "channels")[0] == 1
    assert torch.equal(both[:, covered], alone[:, covered])


@pytest.mark.parametrize("style", STYLES)
def test_faces_that_are_not_known_are_not_drawn(style: str) -> None:
    unknown, partly = np.full((68, 2), np.nan), drawn(1)
    partly[40, 1] = np.nan
    infinite = drawn(1)
    infinite[3, 0] = np.inf
    for faces in ([], [unknown], [partly], [infinite]):
        assert not draw_guide(faces, (64, 64), style).any()
    known = draw_guide([drawn(0)], (64, 64), style)
    assert torch.equal(draw_guide([unknown, drawn(0), partly], (64, 64), style), known)


@pytest.mark.parametrize("style", STYLES)
def test_a_face_in_one_point_is_no_error(style: str) -> None:
    assert draw_guide([np.full((68, 2), 7.0)], (16, 16), style).max() <= 1


def test_other_landmarks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(68, 2\), not \[\(5, 2\)\]"):
        draw_guide([np.zeros((5, 2))], (16, 16))
