"""Counter-based randomness: every draw is a function of (seed, purpose, position), so none has to be saved.

A draw is keyed by the run's seed, by what it is for (``"latents/generator"``, ``"flip"``, …) and by a global
position such as ``images_seen``. Any process can compute any slice of any draw at any time, which is what makes a
resumed run equal to one that never stopped and a run on two processes equal to a run on one.

The generator is Philox-4x64 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), used in counter mode
through NumPy. Each sample consumes a fixed number of 64-bit words, so sample *i* starts at a computable counter. Only
the raw words are taken from NumPy; normals are made here by the Box–Muller transform, because NumPy's stream policy
does not promise that its own normals stay the same between releases.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_WORDS_PER_TICK = 4  # one Philox-4x64 counter tick yields four 64-bit words


def _words(seed: int, purpose: str, start: int, count: int, words_per_item: int) -> NDArray[np.uint64]:
    """Raw words of the items [start, start + count): ``(count, words_per_item)``."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
    ticks_per_item = -(-words_per_item // _WORDS_PER_TICK)
    generator = np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64))
    generator.advance(start * ticks_per_item)
    words = generator.random_raw(count * ticks_per_item * _WORDS_PER_TICK)
    return words.reshape(count, ticks_per_item * _WORDS_PER_TICK)[:, :words_per_item]


def uniform(seed: int, purpose: str, start: int, count: int, size: int = 1) -> NDArray[np.float64]:
    """Uniform draws in [0, 1) for the items [start, start + count).

    Args:
        seed: The run's seed.
        purpose: What the draw is for; different purposes are independent streams.
        start: Global position of the first item, ≥ 0.
        count: How many items.
        size: Numbers per item.

    Returns:
        ``(count, size)``. Row *i* depends only on (seed, purpose, size, start + i).
    """
    return (_words(seed, purpose, start, count, size) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(seed: int, purpose: str, start: int, count: int, size: int = 1) -> NDArray[np.float64]:
    """Standard normal draws for the items [start, start + count); see :func:`uniform`.

    Returns:
        ``(count, size)``, by the Box–Muller transform of 53-bit uniforms.
    """
    pairs = -(-size // 2)
    u = (_words(seed, purpose, start, count, 2 * pairs) >> np.uint64(11)) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log1p(-u[:, :pairs]))  # 1 - u is in (0, 1]: the logarithm is finite
    angle = (2.0 * np.pi) * u[:, pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :size]


def permutation(seed: int, purpose: str, index: int, length: int) -> NDArray[np.int64]:
    """The *index*-th random permutation of ``range(length)`` (an epoch's order, say).

    Returns:
        ``(length,)``; the order of 64-bit random keys, ties (which do not happen in practice) by position.
    """
    keys = _words(seed, f"{purpose}/{index}", 0, 1, length)[0]
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)
