"""Seams: whether a picture changes more across the borders of its tiles than elsewhere.

**Borders.** With overlap, a tile can show where it begins and where it ends, so the borders along an axis are all first
pixels and all ends of tiles but those of the picture itself. The energy of a border is the mean absolute difference of
the two lines of pixels on either side of it.

**What it is held against.** Not all other pixels: borders lie on multiples of the factor, where up-resolution has a
grain of its own (repeated pixels have all their differences there, transposed convolutions their checkerboards), and
the outermost stretch of a portrait, before the first border, is mostly plain background. Each border is compared with
the two lines half a stride before and after it, themselves on multiples of the factor and no borders; where these are
taken, with the next nearer pair. What the picture has more of in its middle, or grows steadily in any direction, then
counts on both sides alike.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from imago.upres.pixels import Pixels, to_unit
from imago.upres.tiles import Grid


def borders(origins: Sequence[int], tile: int, length: int) -> list[int]:
    """Where tiles begin or end along an axis, inside the picture: first pixel after each border, in low pixels."""
    return sorted({place for origin in origins for place in (origin, origin + tile) if 0 < place < length})


def references(places: Sequence[int], stride: int, length: int) -> dict[int, tuple[int, int]]:
    """For each border the two lines that it is compared with; borders that have none are left out.

    Args:
        places: Borders, in low pixels.
        stride: Of the grid.
        length: Of the picture, in low pixels.
    """
    taken = set(places)
    found = {}
    for place in places:
        for distance in range(stride // 2, 0, -1):
            pair = (place - distance, place + distance)
            if pair[0] > 0 and pair[1] < length and not taken & set(pair):
                found[place] = pair
                break
    return found


def seam_energy(picture: Pixels, grid: Grid, factor: int) -> float:
    """The mean absolute difference across borders of tiles, divided by that at the lines of comparison.

    Args:
        picture: The result ``(C, factor · h, factor · w)``: tensor, array or memory map; integers or floating point.
        grid: The tiles that made it, see :func:`~imago.upres.tiles.grid_over`.
        factor: How much larger the result is than what the tiles lie on.

    Returns:
        1 where there is no seam, more where there is; also 1 for a plain picture, infinity for one that changes at
        borders only. NaN where nothing can be compared: a single tile, or a stride of 1.
    """
    across, beside = [], []
    for dim, axis in ((1, grid.rows), (2, grid.columns)):
        if axis.length < axis.tile:
            continue
        pairs = references(borders(axis.origins, axis.tile, axis.length), axis.stride, axis.length)
        for border, reference in pairs.items():
            across.append(_difference(picture, dim, border * factor))
            beside.append(sum(_difference(picture, dim, place * factor) for place in reference) / 2)
    if not across:
        return float("nan")
    at_borders, elsewhere = sum(across), sum(beside)
    if elsewhere == 0:
        return 1.0 if at_borders == 0 else float("inf")
    return at_borders / elsewhere


def _difference(picture: Pixels, dim: int, place: int) -> float:
    """Mean absolute difference between the lines of pixels before and at a place."""
    two = slice(place - 1, place + 1)
    lines: Tensor = to_unit(picture[:, two] if dim == 1 else picture[:, :, two])
    return float(torch.diff(lines.double(), dim=dim).abs().mean())
