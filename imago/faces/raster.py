"""Filled polygons with soft edges."""

import numpy as np
from numpy.typing import NDArray


def coverage(polygon: NDArray[np.floating], extent: tuple[int, int], supersample: int = 4) -> NDArray[np.float64]:
    """The share of each pixel that a polygon covers.

    Exact along ``supersample`` horizontal lines per pixel, and the mean of these: a mirrored polygon covers mirrored
    pixels, which scan conversion to whole pixels does not promise.

    Args:
        polygon: ``(K, 2)`` x, y of its corners in order, pixel centres at integers. It may cross itself: what it goes
            around, however often and in either direction, is inside.
        extent: (height, width) of the picture.
        supersample: Lines per pixel, ≥ 1.

    Returns:
        float64 ``(H, W)`` in [0, 1].
    """
    height, width = extent
    result = np.zeros((height, width))
    start = np.asarray(polygon, dtype=np.float64)
    end = np.roll(start, -1, axis=0)
    top = max(0, int(np.floor(start[:, 1].min() + 0.5)))
    bottom = min(height, int(np.ceil(start[:, 1].max() + 0.5)))
    left = max(0, int(np.floor(start[:, 0].min() + 0.5)))
    right = min(width, int(np.ceil(start[:, 0].max() + 0.5)))
    if bottom <= top or right <= left:
        return result
    lines = top - 0.5 + (np.arange((bottom - top) * supersample) + 0.5) / supersample  # (L,), their y
    above = start[:, 1] <= lines[:, None]  # (L, K)
    crossing = above != (end[:, 1] <= lines[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (lines[:, None] - start[:, 1]) / (end[:, 1] - start[:, 1])
        x = np.where(crossing, start[:, 0] + share * (end[:, 0] - start[:, 0]), np.inf)
    order = np.argsort(x, axis=1, kind="stable")
    most = int(crossing.sum(axis=1).max())
    order = order[:, :most]
    x = np.take_along_axis(x, order, axis=1)  # (L, most), from left to right; infinite after the last
    turns = np.take_along_axis(np.where(crossing, np.where(above, 1, -1), 0), order, axis=1).cumsum(axis=1)
    edges = np.arange(left, right + 1) - 0.5
    covered = np.zeros((len(lines), right - left))
    for k in range(most - 1):
        inside = (turns[:, k] != 0) & np.isfinite(x[:, k + 1])
        if inside.any():
            # Between two crossings: how far its right end and its left end have come at each edge of the pixels.
            reach = np.clip(edges, x[inside, k, None], x[inside, k + 1, None])
            covered[inside] += np.diff(reach, axis=1)
    result[top:bottom, left:right] = covered.reshape(bottom - top, supersample, -1).mean(axis=1)
    return result
