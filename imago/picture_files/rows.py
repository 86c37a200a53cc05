"""Pixels a few rows at a time, so that a picture in a memory-mapped file is never copied as a whole."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 22  # samples: 8 MiB at 16 bits


def row_blocks(pixels: NDArray[Any], bits: int, rows: int | None = None) -> Iterator[NDArray[Any]]:
    """A picture from the top to the bottom, at the depth that is wanted.

    Args:
        pixels: uint8 or uint16 ``(H, W, C)``, in any memory layout.
        bits: 8 or 16; bytes become ``257 · v``, sixteen bits become ``round(v / 257)``.
        rows: In each block but the last; by default about four million samples.

    Yields:
        uint8 or uint16 ``(n, W, C)``, contiguous.
    """
    height, width, channels = pixels.shape
    rows = rows or max(1, _BLOCK // (width * channels))
    for first in range(0, height, rows):
        yield np.ascontiguousarray(at_depth(pixels[first : first + rows], bits))


def at_depth(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """uint8 or uint16 of any shape as `bits` = 8 or 16 bits; the same array if it has that depth."""
    if bits == 16 and pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * np.uint16(257)
    if bits == 8 and pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return pixels
