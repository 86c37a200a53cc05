"""The order of the data as a pure function of the clock: nothing to save, nothing to restore.

Position p of a run (the number of images shown before it) lies in epoch p // count, and each epoch is a random
permutation of its own. Every process can compute any slice of the order at any time.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from imago.randomness import permutation, uniform


@lru_cache(maxsize=2)  # a batch touches one epoch, or two where it crosses into the next
def _epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    order = permutation(seed, "data order", epoch, count)
    order.flags.writeable = False  # shared between calls
    return order


def sample_indices(seed: int, count: int, start: int, number: int) -> NDArray[np.int64]:
    """Which images are shown at the positions [start, start + number).

    Args:
        seed: The run's seed.
        count: Images in the data set, ≥ 1.
        start: ``images_seen`` before the first of them, ≥ 0.
        number: How many, ≥ 0; may exceed `count`.

    Returns:
        ``(number,)`` in [0, count). Each epoch of `count` positions shows every image once.

    Raises:
        ValueError: `count` < 1, `start` < 0 or `number` < 0.
    """
    if count < 1 or start < 0 or number < 0:
        raise ValueError(f"need count ≥ 1, start ≥ 0 and number ≥ 0, got {count=}, {start=}, {number=}")
    result = np.empty(number, dtype=np.int64)
    filled = 0
    while filled < number:
        epoch, offset = divmod(start + filled, count)
        take = min(count - offset, number - filled)
        result[filled : filled + take] = _epoch_order(seed, epoch, count)[offset : offset + take]
        filled += take
    return result


def flips(seed: int, start: int, number: int) -> NDArray[np.bool_]:
    """Which of the positions [start, start + number) show their image mirrored: fair coins, ``(number,)``."""
    return uniform(seed, "flip", start, number)[:, 0] < 0.5
