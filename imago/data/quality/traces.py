"""Traces of noise and of JPEG's blocks."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_TILE = 16  # pixels
_QUIET = 20  # percentile of the tiles that show noise and little else
_BLACK, _WHITE = 20.0, 235.0  # grey levels beyond which strong noise is clipped
_LEAST_EXPOSED = 0.05  # share of the tiles between these that is enough to go by
_STRONGEST = 40.0  # grey levels; an edge of the picture is not to outweigh a thousand edges of blocks
_PERIODS = (5.0, 40.0)  # pixels; JPEG's 8 (16 in colour) after shrinking by 1.6 or enlarging by 5


def noise_level(luma: NDArray[np.float32]) -> float:
    """Standard deviation of white noise, in grey levels, from the quieter parts of the picture.

    Immerkær 1996 ("Fast noise variance estimation"): the mean magnitude of the response to a filter that planes and
    straight edges along the axes leave at zero. It is taken tile by tile, and the level that a fifth of the tiles stay
    below is the result, so that texture does not count as noise. Black and white parts are left out: there noise is
    clipped. Without any quiet part the estimate is too high.

    Args:
        luma: ``(H, W)``, 0 … 255.
    """
    rows = luma[:-2] - 2 * luma[1:-1] + luma[2:]
    response = np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:])
    levels, mean = _tile_means(response), _tile_means(luma[1:-1, 1:-1])
    exposed = (mean > _BLACK) & (mean < _WHITE)
    if exposed.mean() >= _LEAST_EXPOSED:
        levels = levels[exposed]
    return float(np.percentile(levels, _QUIET) * np.sqrt(np.pi / 2) / 6)


def blockiness(luma: NDArray[np.float32]) -> float:
    """How strongly a regular grid runs through the fine structure, as the blocks of a crushed JPEG do.

    The signs of steps between blocks are random, so the grid hardly shows in the spectrum of the picture, but it does
    in that of the magnitude of its Laplacian: as a peak at the grid's frequency, wherever the grid starts, and also
    after the picture has been scaled or turned.

    Args:
        luma: ``(H, W)``, 0 … 255.

    Returns:
        ≥ 0, the amplitude of the strongest peak beyond what chance gives, in means of the magnitude. About 0.05 for a
        JPEG of good quality, 0.2 at quality 20, 0.4 at quality 5.
    """
    centre = luma[1:-1, 1:-1]
    laplacian = np.abs(4 * centre - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:])
    magnitude = np.minimum(laplacian, _STRONGEST)
    mean = float(magnitude.mean())
    height, width = magnitude.shape
    down, across = np.hanning(height).astype(np.float32), np.hanning(width).astype(np.float32)
    amplitude = np.abs(np.fft.rfft2((magnitude - mean) * down[:, None] * across)) / (down.sum() * across.sum())
    rings, counts, within = _rings(height, width)
    usual = np.bincount(rings, weights=amplitude.ravel()) / counts
    # The largest of n amplitudes without a grid, in means (Rayleigh's distribution): 3.0 at 128², 3.8 at 1024².
    chance = math.sqrt(4 / math.pi * math.log(len(within)))
    excess = amplitude.ravel()[within] - chance * usual[rings[within]]
    # A fifth of a grey level: what is left of the fine structure of a picture without any is rounding.
    return max(0.0, float(excess.max(initial=0.0))) / (mean + 0.2)


def _tile_means(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of whole tiles, ``(H // tile, W // tile)``."""
    down, across = values.shape[0] // _TILE, values.shape[1] // _TILE
    return values[: down * _TILE, : across * _TILE].reshape(down, _TILE, across, _TILE).mean((1, 3))


@lru_cache(maxsize=4)
def _rings(height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Of each frequency its ring (up to 64 along an axis), frequencies per ring, and those of a grid."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]).ravel()
    rings = np.rint(frequency * min(128, min(height, width))).astype(np.intp)
    within = np.flatnonzero((frequency > 1 / _PERIODS[1]) & (frequency < 1 / _PERIODS[0]))
    return rings, np.maximum(np.bincount(rings), 1), within
