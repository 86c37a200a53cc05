"""Mirror padding with a depth-of-field effect, against SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from imago.faces.padding import extend, gaussian_blur


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    smooth = ndimage.gaussian_filter(noise, (4, 4, 0))
    return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def square(left: float, top: float, side: float) -> np.ndarray:
    return np.array([[left, top], [left, top + side], [left + side, top + side], [left + side, top]])


@pytest.mark.parametrize("sigma", [0.8, 3.0, 9.0, 20.0])
def test_the_blur_is_gaussian(sigma: float) -> None:
    image = picture(150, 211)
    expected = ndimage.gaussian_filter(image.astype(np.float64), (sigma, sigma, 0), mode="reflect")
    difference = np.abs(gaussian_blur(image, sigma) - expected)
    assert difference.mean() < 0.75
    assert difference[8:-8, 8:-8].max() < (1.0 if sigma < 8 else 3.0)


def test_a_rectangle_well_within_the_photo_needs_no_padding() -> None:
    image = picture(200, 200)
    padded, quad = extend(image, square(50, 50, 100), 100, 10)
    assert padded is image
    np.testing.assert_array_equal(quad, square(50, 50, 100))


def test_padding_is_mirrored_blurred_and_fades_to_the_median() -> None:
    image = picture(200, 240)
    side, margin = 100.0, 10
    padded, quad = extend(image, square(-20, 60, side), side, margin)
    pad = 30  # 0.3 sides; 20 + the margin would do as well
    assert padded.shape == (200, 270, 3)  # the other edges are far enough
    np.testing.assert_array_equal(quad, square(10, 60, side))

    full = np.pad(image.astype(np.float64), ((0, 0), (pad, 0), (0, 0)), mode="reflect")
    mask = (1 - np.arange(270) / pad)[None, :, None]
    blurred = ndimage.gaussian_filter(full, (2, 2, 0), mode="reflect")
    expected = full + (blurred - full) * np.clip(3 * mask + 1, 0, 1)
    expected += (np.median(expected, axis=(0, 1)) - expected) * np.clip(mask, 0, 1)
    assert np.abs(padded - expected).max() < 4  # the median is taken from the blurred picture
    np.testing.assert_array_equal(padded[:, 2 * pad :], image[:, pad:])  # beyond a third of the padding: untouched
    assert np.ptp(padded[:, 0], axis=0).max() <= 1  # the outer edge has one colour


def test_a_photo_smaller_than_its_padding() -> None:
    image = picture(40, 30)
    padded, quad = extend(image, square(-200, -200, 400), 400, 40)
    assert padded.shape[0] >= 440
    assert quad.min() >= 40
    assert (quad.max(axis=0) <= np.array(padded.shape[1::-1]) - 40).all()
