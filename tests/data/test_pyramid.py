"""Crop, resize and pyramid against block means, and landmarks against where bright dots go."""

import numpy as np
import pytest
from PIL import Image

from imago.data.pyramid import crop_box, fit, level_heights, pyramid, resize
from imago.data.sources.source import Item
from imago.errors import UserError


def block_mean(images: np.ndarray, factor: int) -> np.ndarray:
    n, h, w, c = images.shape
    return images.reshape(n, h // factor, factor, w // factor, factor, c).astype(np.float64).mean((2, 4))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_each_level_is_the_rounded_mean_of_the_largest(channels: int):
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 32, channels), dtype=np.uint8)
    levels = pyramid(images, 4)
    assert [level.shape[1:3] for level in levels] == [(2, 4), (4, 8), (8, 16), (16, 32)]
    for factor, level in zip((8, 4, 2, 1), levels, strict=True):
        np.testing.assert_array_equal(level, np.rint(block_mean(images, factor)))


def test_every_sum_of_a_block_is_rounded_to_the_nearest():
    sums = np.arange(1021)  # blocks of all sums 0 … 1020, so that each rounding case is met
    parts = [np.minimum(255, np.maximum(0, sums - 255 * k)) for k in range(4)]
    blocks = np.stack(parts, axis=1).reshape(1021, 2, 2, 1).astype(np.uint8)
    np.testing.assert_array_equal(pyramid(blocks, 2)[0].ravel(), np.rint(sums / 4))


def test_pyramid_keeps_the_mean_brightness():
    rng = np.random.default_rng(1)
    images = (rng.integers(0, 200, (128, 1, 1, 3)) + rng.integers(0, 50, (128, 64, 64, 3))).astype(np.uint8)
    assert abs(pyramid(images, 5)[0].mean() - images.mean()) < 0.02  # rounding halves up at each level adds 4/8


def test_level_heights():
    assert level_heights(64, (4, 4)) == [4, 8, 16, 32, 64]
    assert level_heights(24, (3, 2)) == [3, 6, 12, 24]
    assert level_heights(4, (4, 4)) == [4]
    with pytest.raises(UserError, match="nearest: 64 or 128"):
        level_heights(100, (4, 4))
    with pytest.raises(UserError, match="nearest: 4"):
        level_heights(2, (4, 4))
    with pytest.raises(UserError, match="base"):
        level_heights(4, (0, 4))


def test_crop_box():
    assert crop_box(10, 16, (4, 4)) == (3, 0, 13, 10)
    assert crop_box(16, 10, (4, 4)) == (0, 3, 10, 13)
    assert crop_box(218, 178, (4, 4)) == (0, 20, 178, 198)
    assert crop_box(100, 100, (4, 3)) == (12, 0, 87, 100)
    assert crop_box(1, 50, (64, 16)) == (24, 0, 25, 1)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_powers_of_two_shrink_by_the_exact_mean(factor: int):
    image = np.random.default_rng(2).integers(0, 256, (1, 8 * factor, 6 * factor, 3), dtype=np.uint8)
    small = np.asarray(resize(Image.fromarray(image[0]), 8, 6))
    np.testing.assert_array_equal(small, np.floor(block_mean(image, factor)[0] + 0.5))


def test_other_sizes_do_not_alias():
    # Stripes finer than the result can show must become grey, not new stripes.
    stripes = np.zeros((90, 90, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    small = np.asarray(resize(Image.fromarray(stripes), 32, 32)).astype(float)
    assert np.abs(small[:, 2:-2] - 127.5).max() < 12


def dot_positions(image: np.ndarray) -> np.ndarray:
    """Centre of mass (x, y) of the red, the green and the blue channel."""
    weight = image.astype(np.float64)
    rows, columns, _ = np.ogrid[: image.shape[0], : image.shape[1], :1]
    return np.stack([(columns * weight).sum((0, 1)), (rows * weight).sum((0, 1))], axis=1) / weight.sum((0, 1))[:, None]


@pytest.mark.parametrize("size", [(96, 128), (128, 96), (64, 64), (48, 40), (150, 101)])
@pytest.mark.parametrize("crop", ["center", "stretch"])
def test_landmarks_go_where_dots_go(size: tuple[int, int], crop: str):
    height, width = size
    points = np.array([[width * 0.4, height * 0.45], [width * 0.6, height * 0.6], [width * 0.5, height * 0.35]])
    rows, columns = np.mgrid[:height, :width]
    dots = [np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18) for x, y in points]
    image = np.rint(255 * np.stack(dots, axis=2)).astype(np.uint8)
    landmarks = np.tile(points, (23, 1))[:68]
    fitted, moved, enlarged = fit(Item(image, "dots", landmarks=landmarks), 64, 64, 3, crop)
    assert fitted.shape == (64, 64, 3)
    assert enlarged == (min(size) < 64)
    np.testing.assert_allclose(moved[:3], dot_positions(fitted), atol=0.05)


def test_channels_and_missing_landmarks():
    grey = np.random.default_rng(3).integers(0, 256, (8, 8, 1), dtype=np.uint8)
    pixels, landmarks, _ = fit(Item(grey, "x"), 8, 8, 3, "center")
    np.testing.assert_array_equal(pixels, np.repeat(grey, 3, axis=2))
    assert np.isnan(landmarks).all()
    np.testing.assert_array_equal(fit(Item(grey, "x"), 8, 8, 1, "center")[0], grey)
    with pytest.raises(UserError, match="transparency"):
        fit(Item(np.zeros((8, 8, 4), np.uint8), "x"), 8, 8, 3, "center")
    with pytest.raises(TypeError, match="uint8"):
        fit(Item(np.zeros((8, 8, 3), np.float32), "x"), 8, 8, 3, "center")  # type: ignore[arg-type]
