"""Continuing a photo beyond its edges by a mirror image that goes out of focus.

Karras et al. 2018, appendix C, figure 8 (c, d): "mirror padding and Gaussian filtering to produce a visually pleasing
depth-of-field effect".
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PADDING = 0.3  # least width of a padding, in sides of the rectangle
_BLUR = 0.02  # standard deviation of the blur, in sides of the rectangle
_MEDIAN_SAMPLES = 512  # rows and columns that the median is taken from, evenly spaced
_ROWS = 256  # blended at a time, for the memory: in floats the largest crops would take a gigabyte
_SLACK = 4  # a rectangle that stays this many pixels within the photo needs none


def extend(
    image: NDArray[np.uint8], quad: NDArray[np.float64], side: float, margin: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Pads the edges of a photo that a rectangle comes near or crosses; other edges stay as they are.

    Along a padded edge, with m = 1 − (distance from the new edge) / (width of the padding), which is 0 at the old edge
    and 1 at the new one, the picture turns into its blurred self with weight clip(3m + 1, 0, 1), so from a third of the
    padding's width within the photo on, and then into the photo's median colour with weight clip(m, 0, 1).

    Args:
        image: uint8 ``(H, W, 3)``.
        quad: The rectangle's corners ``(4, 2)``, in pixels from the image's upper left corner (not its pixel's centre).
        side: The rectangle's side, in pixels.
        margin: Pixels wanted around the rectangle.

    Returns:
        The padded image, and the quad within it.
    """
    height, width = image.shape[:2]
    low = np.floor(quad.min(axis=0)).astype(int) - margin
    high = np.ceil(quad.max(axis=0)).astype(int) + margin
    beyond = [-low[0], -low[1], high[0] - width, high[1] - height]  # left, top, right, bottom
    least = round(side * _PADDING)
    pads = [max(int(overhang), least) if overhang > margin - _SLACK else 0 for overhang in beyond]
    if not any(pads):
        return image, quad
    left, top, right, bottom = pads
    padded = np.pad(image, ((top, bottom), (left, right), (0, 0)), mode="reflect")
    blurred = gaussian_blur(padded, side * _BLUR)
    step = -(-max(padded.shape) // _MEDIAN_SAMPLES)
    median = np.median(blurred[::step, ::step], axis=(0, 1)).astype(np.float32)
    across, down = _fade(padded.shape[1], left, right), _fade(padded.shape[0], top, bottom)
    for start in range(0, len(padded), _ROWS):
        rows = slice(start, start + _ROWS)
        fade = np.maximum(across[None, :], down[rows, None])[:, :, None]  # (rows, W, 1)
        if fade.max() <= -1 / 3:
            continue
        blend = padded[rows].astype(np.float32)
        blend += (blurred[rows] - blend) * np.clip(3 * fade + 1, 0, 1)
        blend += (median - blend) * np.clip(fade, 0, 1)
        padded[rows] = np.rint(blend)
    return padded, quad + np.array([left, top])


def gaussian_blur(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Gaussian blur with mirrored edges.

    A wide one is computed on means of k × k pixels and interpolated back, which changes it by a grey level or two and
    makes it k² times cheaper.

    Args:
        image: uint8 ``(H, W, 3)``.
        sigma: Standard deviation in pixels.
    """
    factor = max(1, int(sigma / 4))
    height, width = image.shape[:2]
    # The blocks start at the upper left: at the other edges, what mirrors has to be there before blocks are averaged.
    rows, columns = (-(-(side + int(4 * sigma)) // factor) for side in (height, width))
    fill = ((0, rows * factor - height), (0, columns * factor - width), (0, 0))
    blocks = np.pad(image, fill, mode="symmetric").reshape(rows, factor, columns, factor, -1)
    small = blocks.mean((1, 3), dtype=np.float32)
    # The mean of k pixels and the linear interpolation between means (a triangle) blur too: their variances go off.
    own = (factor**2 - 1) / 12 + factor**2 / 6 if factor > 1 else 0.0
    for axis in (0, 1):
        small = _convolve(small, float(np.sqrt(max(sigma**2 - own, 0.0))) / factor, axis)
    result = np.rint(small).clip(0, 255).astype(np.uint8)
    if factor == 1:
        return result[:height, :width]
    large = Image.fromarray(result).resize((columns * factor, rows * factor), Image.Resampling.BILINEAR)
    return np.asarray(large)[:height, :width]


def _fade(length: int, before: int, after: int) -> NDArray[np.float32]:
    """m along one axis, see :func:`extend`; −1 far from padded edges."""
    place = np.arange(length, dtype=np.float32)
    result = np.full(length, -1, dtype=np.float32)
    if before:
        result = np.maximum(result, 1 - place / before)
    if after:
        result = np.maximum(result, 1 - (length - 1 - place) / after)
    return result


def _convolve(image: NDArray[np.float32], sigma: float, axis: int) -> NDArray[np.float32]:
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return image
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    widths = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
    padded = np.pad(image, widths, mode="symmetric")
    result = np.zeros_like(image)
    for k, tap in enumerate(taps.astype(np.float32)):
        window = [slice(None)] * 3
        window[axis] = slice(k, k + image.shape[axis])
        result += tap * padded[tuple(window)]
    return result
