"""Landmarks of a film, steadied: a detector's jitter would make the guide, and all that is drawn from it, tremble."""

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from imago.errors import UserError
from imago.latents import wrapped_gaussian_blur

_JUMP = 0.25  # of the face's extent, from one frame to the next: another face, or another scene


def smooth_landmarks(
    tracks: NDArray[np.floating], sigma_frames: float, loop: bool = False, hold: int = 12
) -> NDArray[np.float64]:
    """Smooths landmarks over time with a Gaussian.

    Where a face is lost, its last landmarks stay for `hold` frames (in a loop, those of the end hold into the start);
    they count in the smoothing as found ones do. Where landmarks jump by more than a quarter of the face's extent, on
    average, another face or another scene begins: nothing is smoothed, but also nothing held, across it. The weights
    of frames without a face, and of those beyond the ends of the film, go to the rest.

    Args:
        tracks: ``(T, 68, 2)`` (or any number of points), x then y, in pixels; NaN where no face was found.
        sigma_frames: Standard deviation in frames, ≥ 0; 0 only fills the gaps.
        loop: The film is closed: its last frame is followed by its first.
        hold: Frames for which lost landmarks are kept, ≥ 0.

    Returns:
        float64, the shape of `tracks`; frames where no face was found for longer than `hold` are NaN.

    Raises:
        UserError: A shape, σ or hold that makes no sense.
    """
    found: NDArray[np.float64] = np.asarray(tracks, dtype=np.float64)
    if found.ndim != 3 or found.shape[2] != 2:
        raise UserError(f"landmarks of a film have the shape (frames, points, 2), not {found.shape}")
    if not (math.isfinite(sigma_frames) and sigma_frames >= 0):
        raise UserError(f"landmarks are smoothed over a number of frames, at least 0, not {sigma_frames}")
    if hold < 0:
        raise UserError(f"lost landmarks are held for a number of frames, at least 0, not {hold}")
    filled = _hold(found, loop, hold)
    starts = _jumps(_hold(found, loop, len(found)), loop)
    if loop and len(starts) == 0:
        return _smoothed(filled, sigma_frames, loop=True)
    # From the first jump on, a loop is a film with two ends.
    turn = int(starts[0]) if loop else 0
    turned = np.roll(filled, -turn, axis=0)
    bounds = sorted({0, *(int(start) - turn for start in starts), len(found)})
    for first, end in itertools.pairwise(bounds):
        turned[first:end] = _smoothed(turned[first:end], sigma_frames, loop=False)
    return np.roll(turned, turn, axis=0)


def _found(tracks: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which frames have landmarks, ``(T,)``."""
    return np.asarray(np.isfinite(tracks).all(axis=(1, 2)))


def _hold(tracks: NDArray[np.float64], loop: bool, hold: int) -> NDArray[np.float64]:
    """Missing frames as the last found before them, at most `hold` frames old; NaN throughout otherwise."""
    found = _found(tracks)
    filled = np.where(found[:, None, None], tracks, np.nan)
    last = int(np.flatnonzero(found)[-1]) - len(tracks) if loop and found.any() else None
    for number in range(len(tracks)):
        if found[number]:
            last = number
        elif last is not None and number - last <= hold:
            filled[number] = tracks[last]
    return filled


def _jumps(tracks: NDArray[np.float64], loop: bool) -> NDArray[np.int64]:
    """Numbers of the frames whose landmarks are far from those of the frame before (in a loop, 0 is among them)."""
    before = np.roll(tracks, 1, axis=0)
    moved = np.linalg.norm(tracks - before, axis=2).mean(axis=1)  # (T,)
    extent = (before.max(axis=1) - before.min(axis=1)).max(axis=1)
    with np.errstate(invalid="ignore"):
        far = moved > _JUMP * extent
    if not loop and len(far) > 0:
        far[0] = False
    return np.flatnonzero(far)


def _smoothed(tracks: NDArray[np.float64], sigma: float, loop: bool) -> NDArray[np.float64]:
    """The mean over the frames that have landmarks, weighted with the Gaussian of their distance in time."""
    found = _found(tracks)
    if sigma == 0 or not found.any():
        return tracks
    # Beyond the ends of an open film there is nothing: zeros, as wide as the kernel, keep the ends apart.
    beyond = 0 if loop else int(4 * sigma + 0.5)
    room = ((0, beyond), (0, 0), (0, 0))
    centre = tracks[found].mean(axis=0)  # removed on the way, so that rounding is that of the motion alone
    values = np.pad(np.where(found[:, None, None], tracks - centre, 0.0), room)
    weights = np.pad(found.astype(np.float64)[:, None, None], room)
    total = wrapped_gaussian_blur(values, sigma)[: len(tracks)]
    weight = wrapped_gaussian_blur(weights, sigma)[: len(tracks)]
    smooth = np.full_like(tracks, np.nan)
    smooth[found] = total[found] / weight[found] + centre
    return smooth
