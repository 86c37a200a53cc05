"""Between pictures' whole numbers and what networks see.

A byte v is v / 127.5 - 1, sixteen bits are v / 32767.5 - 1; alpha is v / 255 or v / 65535. Back, values are cut to the
range and rounded once, to the nearest.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601-2, as the readers of data sets take it


def pixels_to_unit(pixels: NDArray[Any]) -> tuple[Tensor, Tensor | None]:
    """A picture as networks see it.

    Args:
        pixels: uint8 or uint16 ``(H, W, C)``, C = 1 (grey, repeated), 3 (RGB) or 4 (RGBA).

    Returns:
        The colours, float32 ``(3, H, W)`` in [-1, 1], and the alpha, float32 ``(1, H, W)`` in [0, 1], or None.
    """
    height, width, channels = pixels.shape
    largest = float(np.iinfo(pixels.dtype).max)
    colours = np.empty((3, height, width), np.float32)
    np.multiply(pixels[..., :3].transpose(2, 0, 1), np.float32(2 / largest), out=colours, dtype=np.float32)
    colours -= 1
    if channels != 4:
        return torch.from_numpy(colours), None
    alpha = pixels[None, :, :, 3].astype(np.float32) / np.float32(largest)
    return torch.from_numpy(colours), torch.from_numpy(alpha)


def unit_to_pixels(
    colours: Tensor,
    alpha: Tensor | None = None,
    *,
    bits: int = 8,
    grey: bool = False,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """The inverse of :func:`pixels_to_unit`, a few rows at a time: `colours` and `out` may be memory-mapped files.

    Args:
        colours: Floating point ``(3, H, W)``, about [-1, 1].
        alpha: Floating point ``(1, H, W)``, about [0, 1]; makes the result RGBA.
        bits: 8 or 16.
        grey: One channel, the luma of the colours. With alpha the luma is repeated: three equal colours.
        out: Takes the result; by default a new array.

    Returns:
        uint8 or uint16 ``(H, W, C)``, C = 1, 3 or 4.

    Raises:
        ValueError: `out` does not fit.
    """
    height, width = colours.shape[1:]
    channels = 4 if alpha is not None else 1 if grey else 3
    kind = np.dtype(np.uint16 if bits == 16 else np.uint8)
    if out is None:
        out = np.empty((height, width, channels), kind)
    elif out.shape != (height, width, channels) or out.dtype != kind:
        raise ValueError(f"{out.dtype} {out.shape} does not hold {bits} bits {(height, width, channels)}")
    largest = 65535.0 if bits == 16 else 255.0
    rows = max(1, (1 << 20) // width)
    for first in range(0, height, rows):
        part = slice(first, first + rows)
        unit = (colours[:, part].detach().float().cpu() + 1) / 2  # (3, n, W) in [0, 1]
        if grey:
            unit = (unit * torch.tensor(_LUMA)[:, None, None]).sum(0, keepdim=True)
        if alpha is not None:
            unit = torch.cat([unit.expand(3, -1, -1), alpha[:, part].detach().float().cpu()])
        out[part] = (unit.clamp(0, 1) * largest).round().permute(1, 2, 0).numpy().astype(kind)
    return out
