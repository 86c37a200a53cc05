"""The crop rectangle of appendix C and the resampling, against closed forms and SciPy in float64."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.errors import UserError
from imago.faces.alignment import OrientedRectangle, align, crop_rectangle
from imago.faces.landmarks import five_points

# An upright face: eyes 40 apart, the mouth 50 below them.
UPRIGHT = np.array([[80.0, 100.0], [120.0, 100.0], [100.0, 120.0], [85.0, 150.0], [115.0, 150.0]])


def rectangle_of(points: np.ndarray) -> OrientedRectangle:
    return crop_rectangle(points[0], points[1], points[3], points[4])


def rotation(degrees: float) -> np.ndarray:
    """Turns clockwise as seen, since y points down."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


def plain(centre: tuple[float, float], side: float, degrees: float = 0.0) -> OrientedRectangle:
    turn = rotation(degrees)
    return OrientedRectangle(np.array(centre), side, turn @ [1.0, 0.0], turn @ [0.0, -1.0])


def spots(shape: tuple[int, int], places: np.ndarray, sigma: float) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    bumps = sum(200 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)) for px, py in places)
    return np.repeat((20 + bumps).round().astype(np.uint8)[..., None], 3, axis=2)


def centroid(image: np.ndarray, near: np.ndarray, radius: int) -> np.ndarray:
    column, row = np.rint(near).astype(int)
    patch = image[row - radius : row + radius + 1, column - radius : column + radius + 1, 0].astype(float)
    patch = np.maximum(patch - 30, 0)
    y, x = np.mgrid[row - radius : row + radius + 1, column - radius : column + radius + 1]
    return np.array([(patch * x).sum(), (patch * y).sum()]) / patch.sum()


def test_the_rectangle_of_an_upright_face() -> None:
    r = rectangle_of(UPRIGHT)
    np.testing.assert_allclose(r.centre, [100, 105])  # a tenth of the way from the eyes to the mouth
    assert r.side == pytest.approx(max(4 * 40, 3.6 * 50))
    np.testing.assert_allclose(r.x_axis, [1, 0], atol=1e-12)
    np.testing.assert_allclose(r.y_axis, [0, -1], atol=1e-12)
    np.testing.assert_allclose(r.corners(), [[10, 15], [10, 195], [190, 195], [190, 15]])


@pytest.mark.parametrize("degrees", [-170, -90, -30, 20, 90, 135])
def test_the_rectangle_turns_and_scales_with_the_face(degrees: float) -> None:
    turn = rotation(degrees)
    moved = rectangle_of(2.5 * UPRIGHT @ turn.T + [7, -3])
    r = rectangle_of(UPRIGHT)
    np.testing.assert_allclose(moved.centre, 2.5 * turn @ r.centre + [7, -3])
    np.testing.assert_allclose(moved.x_axis, turn @ r.x_axis, atol=1e-12)
    np.testing.assert_allclose(moved.y_axis, turn @ r.y_axis, atol=1e-12)
    assert moved.side == pytest.approx(2.5 * r.side)


def test_a_face_in_profile_stays_upright_and_of_its_size() -> None:
    profile = UPRIGHT.copy()
    profile[:2] = [[98.0, 100.0], [102.0, 101.0]]  # hardly apart; their direction alone would tilt the picture by 14°
    r = rectangle_of(profile)
    assert abs(np.degrees(np.arctan2(r.x_axis[1], r.x_axis[0]))) < 1.5
    assert r.side == pytest.approx(3.6 * 49.5)


@pytest.mark.parametrize("bad", [np.zeros((5, 2)), np.full((5, 2), np.nan), UPRIGHT[[1, 0, 2, 4, 3]] * [1, 0.8]])
def test_points_that_determine_no_rectangle(bad: np.ndarray) -> None:
    if bad.any() and np.isfinite(bad).all():
        bad[3:, 1] = bad[0, 1] + 40  # mirrored eyes, as far apart as eyes and mouth: the terms cancel
    with pytest.raises(ValueError, match="do not determine"):
        rectangle_of(bad)


@pytest.mark.parametrize(("side", "size"), [(90.0, 64), (200.0, 64), (400.0, 64), (1000.0, 64), (40.0, 64), (13.0, 64)])
def test_a_ramp_stays_the_same_ramp_at_every_scale(side: float, size: int) -> None:
    extent = int(3 * side)
    y, x = np.mgrid[:extent, :extent].astype(float)
    slope = 120 / extent
    ramp = np.stack([30 + slope * x, 30 + slope * y, 30 + slope * (x + y) / 2], axis=2)
    dithered = np.floor(ramp + np.random.default_rng(0).uniform(size=ramp.shape)).astype(np.uint8)
    image = dithered if side > 300 else np.rint(ramp).astype(np.uint8)
    aligned = align(image, plain((extent / 2 + 3.3, extent / 2 - 1.7), side, 33), size, 4 * size)
    rows, columns = np.mgrid[:size, :size]
    places = aligned.transform.to_photo(np.stack([columns, rows], axis=-1))
    expected = np.stack([30 + slope * places[..., 0], 30 + slope * places[..., 1]], axis=2)
    difference = aligned.image[..., :2] - expected
    assert abs(difference.mean(axis=(0, 1))).max() < 0.1 + 0.02 * slope  # a shift by half a pixel would show
    assert np.abs(difference).max() < 1.6


@pytest.mark.parametrize("side", [70.0, 150.0, 250.0])
def test_the_resampling_is_bilinear_then_a_box(side: float) -> None:
    """Against SciPy's linear interpolation in float64, for rectangles that are neither shrunk nor enlarged first."""
    image = np.random.default_rng(1).integers(0, 256, (420, 440, 3), dtype=np.uint8)
    image = ndimage.gaussian_filter(image.astype(float), (1, 1, 0)).astype(np.uint8)
    size, factor = 64, 4
    aligned = align(image, plain((219.4, 203.1), side, -21), size, size * factor)
    fine = (np.arange(size * factor) + 0.5) / factor - 0.5  # pixels of the result, four times as dense
    places = aligned.transform.to_photo(np.stack(np.meshgrid(fine, fine), axis=-1))
    for channel in range(3):
        source = image[..., channel].astype(np.float64)
        sampled = ndimage.map_coordinates(source, [places[..., 1], places[..., 0]], order=1)
        expected = sampled.reshape(size, factor, size, factor).mean((1, 3))
        difference = aligned.image[..., channel] - expected
        assert np.abs(difference).max() <= 0.5 + 1e-3  # one rounding
        assert abs(difference.mean()) < 0.02


@pytest.mark.parametrize("side", [30.0, 100.0, 330.0, 900.0])
@pytest.mark.parametrize("degrees", [0.0, 40.0])
def test_points_land_where_the_transform_says(side: float, degrees: float) -> None:
    extent, size = int(2.2 * side), 96
    r = plain((extent / 2 + 0.3, extent / 2 - 0.2), side, degrees)
    offsets = np.array([[-0.2, -0.1], [0.21, -0.12], [0.03, 0.22]]) * side
    places = r.centre + offsets
    aligned = align(spots((extent, extent), places, max(1.2, side / 30)), r, size, 4 * size)
    for place, landed in zip(places, aligned.transform.to_crop(places), strict=True):
        np.testing.assert_allclose(centroid(aligned.image, landed, 9), landed, atol=0.12)
        np.testing.assert_allclose(aligned.transform.to_photo(landed), place, atol=1e-9)


def test_a_turned_scaled_and_shifted_portrait_is_aligned_to_the_same_picture() -> None:
    portrait, landmarks = draw_portrait(sample_attributes(2, 4), 256)
    matrix, shift = 1.37 * rotation(24), np.array([60.3, -20.6])
    moved_landmarks = landmarks @ matrix.T + shift
    # SciPy's coordinates are (row, column); the inverse map takes a pixel of the new picture to one of the old.
    inverse = np.linalg.inv(matrix)[::-1, ::-1]
    moved = np.stack(
        [
            ndimage.affine_transform(
                portrait[..., c].astype(float), inverse, -inverse @ shift[::-1], (480, 480), order=3, mode="reflect"
            )
            for c in range(3)
        ],
        axis=2,
    )
    size = 128
    before = align(portrait, rectangle_of(five_points(landmarks)), size, 4 * size)
    after = align(
        moved.clip(0, 255).round().astype(np.uint8), rectangle_of(five_points(moved_landmarks)), size, 4 * size
    )
    np.testing.assert_allclose(after.transform.to_crop(moved_landmarks), before.transform.to_crop(landmarks), atol=1e-4)
    # The eyes lie where the formulas put them: c is a tenth of eyes-to-mouth below their middle.
    eye0, eye1, _, mouth0, mouth1 = five_points(landmarks)
    down = np.linalg.norm((mouth0 + mouth1) / 2 - (eye0 + eye1) / 2) / before.transform.rectangle.side * size
    eyes = five_points(after.transform.to_crop(moved_landmarks))[:2].mean(axis=0)
    assert np.linalg.norm(eyes - (size - 1) / 2) == pytest.approx(0.1 * down, abs=1e-3)
    # And so do their pixels: sub-pixel registration of the two pictures by the phase of their cross spectrum.
    inner = slice(24, 104)
    one, two = (picture.image[inner, inner].mean(axis=2) for picture in (before, after))
    assert np.abs(one - two).mean() < 2.5
    np.testing.assert_allclose(registered_shift(one, two), 0, atol=0.05)


def registered_shift(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Least-squares translation between two nearly equal pictures, in pixels (Lucas and Kanade)."""
    gy, gx = np.gradient((one + two) / 2)
    gradients = np.stack([gx.ravel(), gy.ravel()], axis=1)
    return np.linalg.lstsq(gradients, (one - two).ravel(), rcond=None)[0]


def test_a_face_at_the_edge_is_continued_by_its_mirror_image() -> None:
    portrait, landmarks = draw_portrait(sample_attributes(2, 4), 256)
    r = rectangle_of(five_points(landmarks))
    cut = int(r.centre[0] - r.side * 0.2)
    shifted = OrientedRectangle(r.centre - [cut, 0], r.side, r.x_axis, r.y_axis)
    whole, half = align(portrait, r, 64, 256), align(portrait[:, cut:], shifted, 64, 256)
    np.testing.assert_allclose(half.image[:, 40:56], whole.image[:, 40:56], atol=2)
    assert half.image[:, :8].std(axis=(0, 1)).max() < 0.75 * half.image[:, 24:40].std(axis=(0, 1)).max()
    assert half.image.min() > 0 or whole.image.min() == 0  # no black fill


def test_no_pixel_of_an_extended_crop_is_black() -> None:
    image = np.full((50, 60, 3), 200, np.uint8)
    for centre in ((0.0, 0.0), (59.0, 10.0), (30.0, 49.0)):
        aligned = align(image, plain(centre, 80, 30), 32, 128)
        np.testing.assert_allclose(aligned.image, 200, atol=1)


def repeated(factor: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: pixels.repeat(factor, axis=0).repeat(factor, axis=1)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_an_enhanced_crop_keeps_its_place(factor: int) -> None:
    side, size = 100.0, 96
    r = plain((110.3, 109.8), side, 15)
    places = r.centre + np.array([[-0.2, -0.1], [0.21, -0.12], [0.03, 0.22]]) * side
    aligned = align(spots((220, 220), places, 3.5), r, size, 4 * size, enhance=repeated(factor))
    for landed in aligned.transform.to_crop(places):
        np.testing.assert_allclose(centroid(aligned.image, landed, 9), landed, atol=0.12)


def test_the_enhancer_sees_the_grid_of_jpeg_blocks_in_place() -> None:
    y, x = np.mgrid[:300, :300]
    image = np.stack([x % 8 * 10, y % 8 * 10, 0 * x], axis=2).astype(np.uint8)
    seen = []
    align(image, plain((151.0, 163.0), 90), 32, 128, enhance=lambda pixels: (seen.append(pixels), pixels)[1])
    np.testing.assert_array_equal(seen[0][0, :, 0] // 10, np.arange(seen[0].shape[1]) % 8)
    np.testing.assert_array_equal(seen[0][:, 0, 1] // 10, np.arange(seen[0].shape[0]) % 8)


@pytest.mark.parametrize(
    "enhance",
    [lambda p: p.astype(np.float32), lambda p: p[:-1], lambda p: p[..., 0], lambda p: p.repeat(2, axis=0)],
)
def test_what_an_enhancer_must_give(enhance: Callable[[np.ndarray], np.ndarray]) -> None:
    with pytest.raises(UserError, match="enhance must turn"):
        align(np.zeros((100, 100, 3), np.uint8), plain((50.0, 50.0), 40), 32, 128, enhance=enhance)


def test_grey_photos_give_rgb_and_wrong_parameters_are_told() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (100, 100, 1), dtype=np.uint8)
    aligned = align(grey, plain((50.0, 50.0), 40), 32, 128)
    assert aligned.image.shape == (32, 32, 3)
    assert np.ptp(aligned.image, axis=2).max() == 0
    with pytest.raises(UserError, match="multiple of size"):
        align(grey, plain((50.0, 50.0), 40), 32, 100)
    with pytest.raises(UserError, match="channels=3"):
        align(np.zeros((100, 100, 4), np.uint8), plain((50.0, 50.0), 40), 32, 128)
    with pytest.raises(ValueError, match="outside"):
        align(grey, plain((900.0, 50.0), 40), 32, 128)
