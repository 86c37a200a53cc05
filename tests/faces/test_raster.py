"""Coverage against points that are inside or not by the angle that a polygon turns around them, and known areas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imago.faces.raster import coverage

FINE = 64  # points per pixel and line


def turns(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How often a closed polygon (K, 2) goes around each point (P, 2): the sum of the angles that it is seen under."""
    start = polygon[None] - points[:, None]  # (P, K, 2)
    end = np.roll(start, -1, axis=1)
    cross = start[..., 0] * end[..., 1] - start[..., 1] * end[..., 0]
    return np.rint(np.arctan2(cross, (start * end).sum(axis=-1)).sum(axis=1) / (2 * np.pi)).astype(int)


def by_points(polygon: np.ndarray, extent: tuple[int, int], supersample: int) -> np.ndarray:
    """The share of the points within each pixel, on as many lines, that the polygon goes around."""
    height, width = extent
    y = (np.arange(height * supersample) + 0.5) / supersample - 0.5
    x = (np.arange(width * FINE) + 0.5) / FINE - 0.5
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    inside = turns(polygon, grid) != 0
    return inside.reshape(height, supersample, width, FINE).mean(axis=(1, 3))


def area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(3, 9), st.integers(1, 4))
def test_any_polygon_covers_what_it_goes_around(seed: int, corners: int, supersample: int) -> None:
    """Partly outside of the picture, and crossing itself."""
    polygon = np.random.default_rng(seed).uniform((-4, -4), (13, 10), (corners, 2))
    result = coverage(polygon, (7, 9), supersample)
    expected = by_points(polygon, (7, 9), supersample)
    assert result.shape == (7, 9)
    np.testing.assert_allclose(result, expected, rtol=0, atol=corners / (2 * FINE) + 1e-9)
    assert abs((result - expected).mean()) < 2e-3
    assert result.min() >= 0
    assert result.max() <= 1 + 1e-12


@pytest.mark.parametrize("direction", [1, -1])
def test_a_rectangle_covers_its_area_in_each_pixel(direction: int) -> None:
    """From x = 0.25 to 3.625, from the edge between two lines of pixels to half of a pixel."""
    corners = np.array([[0.25, 0.5], [3.625, 0.5], [3.625, 3.0], [0.25, 3.0]])[::direction]
    columns = np.array([0.25, 1, 1, 1, 0.125])  # pixel 0 reaches from -0.5 to 0.5
    rows = np.array([0, 1, 1, 0.5])
    for supersample in (2, 4, 8):
        np.testing.assert_allclose(coverage(corners, (4, 5), supersample), np.outer(rows, columns), atol=1e-12)


def test_the_area_of_a_polygon_is_covered() -> None:
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    wobbly = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (9 + 3 * np.cos(5 * angles))[:, None] + [14.3, 15.7]
    for supersample, tolerance in ((1, 2e-2), (4, 3e-3), (16, 5e-4)):
        assert coverage(wobbly, (32, 30), supersample).sum() == pytest.approx(area(wobbly), rel=tolerance)


def test_what_is_gone_around_twice_or_backwards_is_inside() -> None:
    square = np.array([[0.5, 0.5], [4.5, 0.5], [4.5, 4.5], [0.5, 4.5]])
    once = coverage(square, (6, 6))
    np.testing.assert_allclose(once[1:5, 1:5], 1)
    assert once.sum() == pytest.approx(16)
    np.testing.assert_allclose(coverage(np.concatenate([square, square]), (6, 6)), once)
    bow = np.array([[0.5, 0.5], [4.5, 4.5], [4.5, 0.5], [0.5, 4.5]])  # one half clockwise, the other not
    assert coverage(bow, (6, 6), 16).sum() == pytest.approx(8, rel=1e-3)


def test_a_pentagram_is_filled_in_the_middle() -> None:
    angles = np.pi / 2 + np.arange(5) * 4 * np.pi / 5
    star = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 10 + 10
    assert coverage(star, (21, 21))[10, 10] == 1


def test_a_mirrored_polygon_covers_mirrored_pixels() -> None:
    polygon = np.random.default_rng(3).uniform(-3, 15, (7, 2))
    mirrored = polygon * [-1, 1] + [11, 0]
    np.testing.assert_allclose(coverage(mirrored, (9, 12)), coverage(polygon, (9, 12))[:, ::-1], atol=1e-12)
    upside_down = polygon * [1, -1] + [0, 8]
    np.testing.assert_allclose(coverage(upside_down, (9, 12)), coverage(polygon, (9, 12))[::-1], atol=1e-12)


@pytest.mark.parametrize(
    "polygon",
    [
        [[-9, 2], [-3, 2], [-3, 5]],  # to the left
        [[30, 2], [40, 2], [35, 5]],
        [[2, -9], [5, -9], [3, -2]],
        [[2, 30], [5, 40], [3, 50]],
        [[1e9, 1e9], [2e9, 1e9], [1e9, 2e9]],
        [[2, 3], [2, 3], [2, 3]],  # a point
        [[2, 3], [6, 3], [4, 3]],  # a line along the pixels
        [[2, 3.125], [6, 3.125], [4, 3.125]],  # a line on a line
        [[1, 1], [5, 6]],  # two corners
    ],
)
def test_nothing_is_covered_by(polygon: list[list[float]]) -> None:
    assert coverage(np.array(polygon, dtype=np.float64), (8, 8)).max() < 1e-9


def test_what_encloses_the_picture_covers_all_of_it() -> None:
    around = np.array([[-1e9, -1e9], [1e9, -1e9], [1e9, 1e9], [-1e9, 1e9]])
    np.testing.assert_allclose(coverage(around, (5, 7)), 1)
