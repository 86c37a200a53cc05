"""The power spectrum of a picture: how far it reaches, and whether one direction stands out.

Karras et al. 2018, appendix C: "a frequency-based quality metric that favors images whose power spectrum contains a
broad range of frequencies and is approximately radially symmetric".
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_LARGEST_TILE = 128  # pixels
_CENTRAL = 0.25  # standard deviation of the weight of tiles, in halves of the picture's sides
_DECADES = 4.0  # of power, from the level of the coarse structure down to what counts as nothing
_QUANTILE = 0.3  # of a ring; below the median, so that the axes (edges of JPEG blocks) and peaks (screens) do not count
_NOISE_MARGIN = 1.5  # the noise in busy parts is underestimated, and its power varies within a ring
_COARSE = 0.047  # cycles per pixel; structure up to here is the level that finer structure is compared to
_RESOLVED = 2.0  # decades below that level, of a frequency that is still there
_ROUNDING = (
    0.04  # power that rounding to whole grey levels leaves: half of its variance of 1/12, colours being averaged
)


@dataclass(frozen=True)
class Spectrum:
    """What the spectrum says about a picture.

    Attributes:
        breadth: 0 … 1, how much of the range of frequencies is filled. Each frequency counts by the logarithm of its
            power times frequency² (natural pictures fall like 1/frequency², so this is flat for a sharp one), freed of
            noise: 1 at the level of the coarse structure, 0 four decades below.
        sharpness: 0 … 1, the share of the range of frequencies up to which there is structure (two decades below the
            level): 1/k to 1.5/k for a sharp picture that was enlarged k times.
        asymmetry: ≥ 0, the largest logarithm over frequencies of (mean / median of the power over directions): 0 for a
            radially symmetric spectrum, about 0.6 for a portrait, 3 and more with a printing screen.
    """

    breadth: float
    sharpness: float
    asymmetry: float


def power_spectrum(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean power spectrum of overlapping windowed tiles; those near the centre of the picture count more.

    A portrait may have a background out of focus, or a busy one; the face is in the centre. White noise of variance s²
    gives s² everywhere (Welch's method with Hann windows).

    Args:
        luma: ``(H, W)``, H, W ≥ 64.

    Returns:
        ``(T, T / 2 + 1)`` as by ``rfft2``; T = 128, less for pictures below 256 pixels.
    """
    tile = min(_LARGEST_TILE, 1 << int(np.log2(min(luma.shape) / 2)))
    step = tile // 2 if min(luma.shape) >= 4 * tile else tile // 4  # of a small picture few would lie near the centre
    window = np.hanning(tile + 1)[:-1].astype(np.float32)
    square = np.outer(window, window) / (window**2).sum()
    tiles = np.lib.stride_tricks.sliding_window_view(luma, (tile, tile))[::step, ::step]
    weights = _central_weights(*tiles.shape[:2])
    power = np.zeros((tile, tile // 2 + 1), dtype=np.float32)
    for row, row_weights in zip(tiles, weights, strict=True):
        transform = np.fft.rfft2((row - row.mean((1, 2), keepdims=True)) * square)
        power += np.tensordot(row_weights, transform.real**2 + transform.imag**2, axes=1)
    return power


def judge_spectrum(power: NDArray[np.float32], noise: float) -> Spectrum:
    """Breadth, sharpness and asymmetry of a spectrum.

    Args:
        power: By :func:`power_spectrum`.
        noise: Standard deviation of white noise in the picture; its power is taken off.
    """
    tile = len(power)
    rings = [power[ring] for ring in _rings(tile)]
    frequency = np.arange(1, len(rings) + 1) / tile  # cycles per pixel
    typical = np.array([np.quantile(ring, _QUANTILE) for ring in rings])
    signal = np.maximum(typical - _NOISE_MARGIN * noise**2 - _ROUNDING, 0) * frequency**2
    coarse = signal[1 : max(2, round(_COARSE * tile))].mean()  # the first ring is the window's
    with np.errstate(divide="ignore"):
        decades = np.log10(signal / coarse) if coarse > 0 else np.full_like(signal, -np.inf)
    level = np.clip(1 + decades / _DECADES, 0, 1)
    lost = np.flatnonzero(decades[1:] < -_RESOLVED)
    sharpness = (lost[0] + 1) / len(level) if len(lost) else 1.0
    ratios = [np.log((ring.mean() + _ROUNDING) / (np.median(ring) + _ROUNDING)) for ring in rings[3:]]
    return Spectrum(float(level[1:].mean()), float(sharpness), max(0.0, float(max(ratios))))


def _central_weights(rows: int, columns: int) -> NDArray[np.float32]:
    y, x = ((np.arange(n) - (n - 1) / 2) / (n / 2) for n in (rows, columns))
    weights = np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * _CENTRAL**2))
    return (weights / weights.sum()).astype(np.float32)


@lru_cache(maxsize=4)
def _rings(tile: int) -> list[tuple[NDArray[np.intp], ...]]:
    """Indices of the frequencies at 1, 2 … T/2 cycles per tile in any direction."""
    radius = np.rint(np.hypot(np.fft.fftfreq(tile)[:, None], np.fft.rfftfreq(tile)[None]) * tile)
    return [np.nonzero(radius == k) for k in range(1, tile // 2 + 1)]
