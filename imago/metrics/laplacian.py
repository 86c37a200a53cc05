"""Laplacian pyramids of images (Burt & Adelson 1983, "The Laplacian pyramid as a compact image code").

Every filter is the 5×5 binomial kernel, the outer product of [1, 4, 6, 4, 1] / 16 with itself, applied along one axis
after the other. Images are continued beyond their borders by reflection about the outermost pixel (SciPy's "mirror",
PyTorch's "reflect"), before a level is enlarged also: its zeros in between are reflected with it.
"""

import torch
from torch import Tensor

from imago.errors import UserError

_LARGE_PLANE = 1 << 15  # pixels


def level_sizes(height: int, width: int, smallest: int = 16) -> list[tuple[int, int]]:
    """Sizes of the levels of a pyramid, finest first: halved, rounding up, while the shorter side is ≥ `smallest`.

    Raises:
        UserError: The images themselves are smaller.
    """
    if min(height, width) < smallest:
        size = f"{height}×{width}"
        raise UserError(f"images of {size} are too small: their pyramid ends at a shorter side of {smallest} pixels")
    sizes = [(height, width)]
    while min(halved := ((height + 1) // 2, (width + 1) // 2)) >= max(smallest, 2):
        height, width = halved
        sizes.append(halved)
    return sizes


def laplacian_pyramid(images: Tensor, smallest: int = 16) -> list[Tensor]:
    """What each resolution adds to the next lower one; the last level is the low-pass image itself.

    Summing from the end, each sum enlarged by :func:`enlarge` before the next level is added, gives the images again.

    Args:
        images: ``(N, C, H, W)`` of any type; bytes are taken as 0 to 255, which is the scale of the levels.
        smallest: Shorter side that no level falls below, in pixels.

    Returns:
        float32 (float64 for float64 images) ``(N, C, h, w)`` per size of :func:`level_sizes`.

    Raises:
        UserError: See :func:`level_sizes`.
    """
    sizes = level_sizes(images.shape[-2], images.shape[-1], smallest)
    current = images if images.dtype == torch.float64 else images.float()
    levels = []
    for height, width in sizes[:-1]:
        smaller = reduce(current)
        levels.append(current.sub(enlarge(smaller, height, width)))
        current = smaller
    return [*levels, current]


def reduce(images: Tensor) -> Tensor:
    """Blurs and keeps every second pixel of every second row, from the first.

    ``(..., H, W)`` with sides of at least 3 → ``(..., ⌈H/2⌉, ⌈W/2⌉)``.
    """
    return _transposed(_reduce_rows(_transposed(_reduce_rows(images))))


def enlarge(images: Tensor, height: int, width: int) -> Tensor:
    """Puts zeros between pixels and blurs, at four times the kernel: ``(..., ⌈H/2⌉, ⌈W/2⌉)`` → ``(..., H, W)``."""
    return _enlarge_rows(_transposed(_enlarge_rows(_transposed(images), width)), height)


def _transposed(images: Tensor) -> Tensor:
    """Copied, since rows next to each other are what makes the sums below run at the speed of memory."""
    *batch, rows, columns = images.shape
    if images.device.type != "cpu" or rows * columns < _LARGE_PLANE:
        return images.transpose(-1, -2).contiguous()
    result = images.new_empty((*batch, columns, rows))
    for plane, copied in zip(images.reshape(-1, rows, columns), result.view(-1, columns, rows), strict=True):
        copied.copy_(plane.T)  # only matrices does PyTorch transpose block by block, several times as fast
    return result


def _reduce_rows(x: Tensor) -> Tensor:
    rows = x.shape[-2]
    padded = torch.cat([x[..., 2:3, :], x[..., 1:2, :], x, x[..., -2:-1, :], x[..., -3:-2, :]], dim=-2)
    taps = [padded[..., tap : tap + rows : 2, :] for tap in range(5)]  # each (..., ⌈rows/2⌉, W)
    result = (taps[0] + taps[4]).add_(taps[2], alpha=6)
    return result.add_(taps[1], alpha=4).add_(taps[3], alpha=4).mul_(1 / 16)


def _enlarge_rows(x: Tensor, rows: int) -> Tensor:
    """Even rows see the odd taps of the kernel, odd rows the even ones, as the rest are zeros."""
    # The row beyond the last: reflection about it if it is the last of the result too, otherwise about the zeros after.
    beyond = x[..., -2:-1, :] if rows % 2 else x[..., -1:, :]
    padded = torch.cat([x[..., 1:2, :], x, beyond], dim=-2)
    before, after = padded[..., :-2, :], padded[..., 2:, :]
    result = x.new_empty((*x.shape[:-2], rows, x.shape[-1]))
    result[..., 0::2, :] = (before + after).add_(x, alpha=6).mul_(1 / 8)
    odd = rows // 2
    torch.add(x[..., :odd, :], after[..., :odd, :], out=result[..., 1::2, :]).mul_(1 / 2)
    return result
