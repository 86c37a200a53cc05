"""Latents: drawing them, pulling them together (truncation), and seamless paths through latent space.

Every draw is counter-based (:mod:`imago.randomness`): picture number *k* of a seed is the same picture however many are
drawn around it. PGGAN normalises each latent to the hypersphere before its first layer (Karras et al. 2018, section
4.2 and the official code), so for its generators only a latent's direction matters. Generators that do not normalise
expect vectors about as long as N(0, 1) draws, √size, which is the radius that the paths keep to.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imago import randomness

# Section 6.3 blurs with σ = 45 frames at 60 Hz; in seconds, the same film comes out at every frame rate.
PATH_SIGMA_SECONDS = 45 / 60

_TINY = 1e-12


def draw_latents(seed: int, start: int, count: int, size: int, purpose: str = "latents") -> NDArray[np.float32]:
    """Standard normal latents number ``start`` to ``start + count - 1`` of a seed.

    Args:
        seed: The seed.
        start: Number of the first latent, ≥ 0.
        count: How many latents.
        size: Components of a latent.
        purpose: What they are for; different purposes are independent streams.

    Returns:
        ``(count, size)``. Row *i* depends only on (seed, purpose, size, start + i).
    """
    return randomness.normal(seed, purpose, start, count, size).astype(np.float32)


def draw_centre(seed: int, size: int) -> NDArray[np.float32]:
    """The latent of a seed that :func:`truncate` pulls towards: ``(size,)``, standard normal."""
    return draw_latents(seed, 0, 1, size, purpose="latents/centre")[0]


def truncate(latents: ArrayLike, centre: ArrayLike, truncation: float) -> NDArray[np.float32]:
    """Pull latents towards a centre on the hypersphere: fewer differences between pictures, the nearer to 0 the fewer.

    Each latent is turned towards the centre, along the great circle, until ``truncation`` times its angle to the centre
    is left; its length is kept. Two independent latents of many components are 90° apart and 90° from any centre; at
    truncation *t* they are left with the cosine cos²(90° · t), so 60° at 0.5 and 31° at 0.25.

    This plays the part of StyleGAN's ψ (Karras et al. 2019, section 2 of the supplement) and works whether or not the
    generator normalises its latents. It differs in one respect worth knowing: on PGGAN's sphere no direction is more
    typical than another, so there is no average face to pull towards. The centre is a random picture, and truncation
    gives variations on it; it does not by itself make pictures better.

    Args:
        latents: ``(..., size)``.
        centre: ``(size,)``; usually :func:`draw_centre`.
        truncation: Fraction of the angle that is left, in (0, 1]; 1 returns the latents as they are.

    Returns:
        ``(..., size)``, a copy.

    Raises:
        ValueError: If truncation lies outside (0, 1].
    """
    if not 0 < truncation <= 1:
        raise ValueError(f"truncation must lie in (0, 1], not {truncation}")
    if truncation == 1:
        return np.array(latents, dtype=np.float32)
    z = np.asarray(latents, dtype=np.float64)
    length = np.linalg.norm(z, axis=-1, keepdims=True)
    centres = np.broadcast_to(np.asarray(centre, dtype=np.float64), z.shape)
    return (_slerp(centres, z, np.asarray(truncation)) * length).astype(np.float32)


def gaussian_path(seed: int, frames: int, grid: int, size: int, fps: float) -> NDArray[np.float32]:
    """The interpolation film of Karras et al. 2018, section 6.3: noise, blurred over time, on the hypersphere.

    "We first randomize a latent code for each frame (512 components sampled individually from N(0, 1)), then blur the
    latents across time with a Gaussian (σ = 45 frames @ 60Hz), and finally normalize each vector to lie on a
    hypersphere." The blur wraps around, so the film loops. Each picture of a grid follows a path of its own, which does
    not depend on how many others there are.

    A film shorter than about 3 s (4 σ) barely moves, because so wide a blur leaves little but the mean over the loop.

    Args:
        seed: The seed.
        frames: Frames in the loop, ≥ 1.
        grid: Pictures shown at once.
        size: Components of a latent.
        fps: Frames per second; σ is 0.75 s.

    Returns:
        ``(frames, grid, size)``, each vector of length √size.
    """
    path = np.empty((frames, grid, size), dtype=np.float32)
    for cell in range(grid):  # one at a time: the float64 spectra of a large grid would not fit in memory
        noise = randomness.normal(seed, f"latents/path/{cell}", 0, frames, size)
        path[:, cell] = math.sqrt(size) * _normalised(wrapped_gaussian_blur(noise, PATH_SIGMA_SECONDS * fps))
    return path


def slerp_path(keyframes: ArrayLike, frames: int) -> NDArray[np.float32]:
    """A loop through keyframes along great circles: constant angular speed in a segment, a corner at each keyframe.

    Args:
        keyframes: ``(K, ..., size)`` with K ≥ 2.
        frames: Frames in the loop, shared out evenly among the K segments (the last leads back to the first keyframe).

    Returns:
        ``(frames, ..., size)``. A frame that falls on a keyframe equals it up to rounding; between two, the length
        changes linearly.

    Raises:
        ValueError: If there are fewer than two keyframes.
    """
    keys, index, t = _segments(keyframes, frames)
    following = np.roll(keys, -1, axis=0)
    direction = _slerp(keys[index], following[index], t)
    return (direction * _lengths_between(keys, index, t)).astype(np.float32)


def cubic_path(keyframes: ArrayLike, frames: int) -> NDArray[np.float32]:
    """A smooth loop through keyframes: a periodic Catmull–Rom spline, projected back onto the hypersphere.

    The direction of movement is continuous at the keyframes too, unlike that of :func:`slerp_path`; the speed varies a
    little within a segment.

    Args:
        keyframes: ``(K, ..., size)`` with K ≥ 2.
        frames: Frames in the loop, shared out evenly among the K segments (the last leads back to the first keyframe).

    Returns:
        ``(frames, ..., size)``. A frame that falls on a keyframe equals it up to rounding; between two, the length
        changes smoothly and monotonically.

    Raises:
        ValueError: If there are fewer than two keyframes.
    """
    keys, index, t = _segments(keyframes, frames)
    before, here, after, beyond = (np.roll(keys, shift, axis=0)[index] for shift in (1, 0, -1, -2))
    spline = here + 0.5 * t * (
        (after - before)
        + t * (2 * before - 5 * here + 4 * after - beyond)
        + t * t * (3 * (here - after) + beyond - before)
    )
    eased = t * t * (3 - 2 * t)  # linear lengths would put a corner back at each keyframe
    return (_normalised(spline) * _lengths_between(keys, index, eased)).astype(np.float32)


def wrapped_gaussian_blur(signal: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Blur along the first axis with a Gaussian that wraps around.

    The kernel is sampled, cut at 4 σ and normalised, as in ``scipy.ndimage.gaussian_filter1d(mode="wrap")``, which the
    official code uses; folding it onto the loop and multiplying spectra costs the same for every σ.

    Args:
        signal: ``(frames, ...)``.
        sigma: Standard deviation in frames, ≥ 0.

    Returns:
        ``(frames, ...)`` in float64.
    """
    frames = signal.shape[0]
    radius = int(4.0 * sigma + 0.5)
    if radius == 0:
        return np.array(signal, dtype=np.float64)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = np.bincount(offsets % frames, weights=weights / weights.sum(), minlength=frames)
    transfer = np.fft.rfft(kernel).reshape(-1, *([1] * (signal.ndim - 1)))
    return np.fft.irfft(np.fft.rfft(signal, axis=0) * transfer, n=frames, axis=0)


def _segments(keyframes: ArrayLike, frames: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Keyframes in float64, each frame's segment ``(frames,)`` and position in it, shaped to broadcast, in [0, 1)."""
    keys = np.asarray(keyframes, dtype=np.float64)
    if keys.ndim < 2 or len(keys) < 2:
        raise ValueError(f"a path needs at least two keyframes (K, ..., size), not an array of shape {keys.shape}")
    # Integers first: i · K / frames in floating point may fall just short of a keyframe that it should hit.
    index, remainder = np.divmod(np.arange(frames, dtype=np.int64) * len(keys), frames)
    return keys, index, (remainder / frames).reshape(-1, *([1] * (keys.ndim - 1)))


def _lengths_between(
    keys: NDArray[np.float64], index: NDArray[np.int64], t: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Vector lengths, linear from each keyframe to the next: ``(frames, ..., 1)``."""
    lengths = np.linalg.norm(keys, axis=-1, keepdims=True)
    return (1 - t) * lengths[index] + t * np.roll(lengths, -1, axis=0)[index]


def _normalised(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _TINY)


def _slerp(a: NDArray[np.float64], b: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors at the fraction t of the great circle from the direction of a to that of b (Shoemake 1985)."""
    a, b = _normalised(a), _normalised(b)
    cosine = np.sum(a * b, axis=-1, keepdims=True)
    across = b - cosine * a
    sine = np.linalg.norm(across, axis=-1, keepdims=True)
    if np.any(opposite := (sine < 1e-9) & (cosine < 0)):
        # Opposite directions have no shortest way between them: take one over the axis most nearly orthogonal to a.
        axis = np.zeros_like(a)
        np.put_along_axis(axis, np.argmin(np.abs(a), axis=-1)[..., None], 1.0, axis=-1)
        across = np.where(opposite, axis - np.sum(axis * a, axis=-1, keepdims=True) * a, across)
    angle = t * np.arctan2(sine, cosine)
    return np.cos(angle) * a + np.sin(angle) * _normalised(across)
