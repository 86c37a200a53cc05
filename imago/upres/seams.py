"""Seams: whether a picture changes more across the borders of its tiles than elsewhere.

**Borders.** With overlap, a tile can show where it begins and where it ends, so the borders along an axis are all first
pixels and all ends of tiles but those of the picture itself. The energy of a line is the mean absolute difference of
the pixels on either side of it.

**Elsewhere.** Not all other pixels: borders lie on multiples of the factor, where up-resolution has a grain of its own
(repeated pixels have all their differences there, transposed convolutions their checkerboards), and the outermost
stretch of a portrait, before the first border, is mostly plain background. Each border is compared with pairs of lines
as far before it as after it, at all distances up to half a stride, on multiples of the factor themselves and no
borders. What the picture has more of in its middle, or grows steadily in any direction, then counts on both sides
alike.

**Two kinds.** At half a tile's stride, one tile alone makes the pixels at a border and two are averaged half a stride
away: where tiles do not agree on fine detail, it is softer there. The default sees that as well as sharp lines; with
``reach=1``, only lines next to a border are compared, and only sharp lines show.

**Noise.** A picture's own edges fall on borders by chance: single pictures without any seam scatter by some percent,
drawn portraits by a fifth. Take the mean over many pictures, or give a control of the same content: the original, or
the result of the same network on tiles that lie elsewhere.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imago.upres.pixels import Pixels, to_unit
from imago.upres.tiles import Axis, Grid

_ROWS = 256  # of the picture, looked at together


def borders(origins: Sequence[int], tile: int, length: int) -> list[int]:
    """Where tiles begin or end along an axis, inside the picture: first pixel after each border, in low pixels."""
    return sorted({place for origin in origins for place in (origin, origin + tile) if 0 < place < length})


def references(places: Sequence[int], reach: int, length: int) -> dict[int, list[int]]:
    """For each border the lines that it is compared with, in pairs; borders that have none are left out.

    Args:
        places: Borders, in low pixels.
        reach: How far the lines lie at most from the border.
        length: Of the picture, in low pixels.
    """
    taken, found = set(places), {}
    for place in places:
        pairs = [(place - distance, place + distance) for distance in range(1, reach + 1)]
        free = [line for pair in pairs if pair[0] > 0 and pair[1] < length and not taken & set(pair) for line in pair]
        if free:
            found[place] = free
    return found


def seam_energy(
    picture: Pixels, grid: Grid, factor: int, reach: int | None = None, control: Pixels | None = None
) -> float:
    """The mean absolute difference across borders of tiles, divided by that elsewhere.

    Args:
        picture: The result ``(C, factor · h, factor · w)``: tensor, array or memory map; integers or floating point.
        grid: The tiles that made it, see :func:`~imago.upres.tiles.grid_over`.
        factor: How much larger the result is than what the tiles lie on.
        reach: How far from a border lines are compared with it, in low pixels; None: half a stride.
        control: A picture of the same content and extent that has no borders there: the result is divided by its own.

    Returns:
        1 where there is no seam, more where there is; also 1 for a plain picture, infinity for one that changes at
        borders only. NaN where nothing can be compared: a single tile, or a stride of 1.
    """
    if control is not None:
        return seam_energy(picture, grid, factor, reach) / seam_energy(control, grid, factor, reach)
    energies = line_energies(picture, factor)
    at_borders, elsewhere = [], []
    for axis, energy in zip((grid.rows, grid.columns), energies, strict=True):
        for border, lines in _compared(axis, reach).items():
            at_borders.append(energy[border - 1])
            elsewhere.append(np.mean([energy[line - 1] for line in lines]))
    if not at_borders:
        return float("nan")
    above, below = float(np.sum(at_borders)), float(np.sum(elsewhere))
    if below == 0:
        return 1.0 if above == 0 else float("inf")
    return above / below


def line_energies(picture: Pixels, factor: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean absolute differences across all lines at multiples of the factor, in [-1, 1]'s units.

    Returns:
        Of the horizontal lines ``(h - 1,)`` and the vertical ones ``(w - 1,)``.
    """
    channels, height, width = picture.shape
    down = np.zeros(height // factor - 1)
    across = np.zeros(width // factor - 1)
    for top in range(0, height, _ROWS):
        first = max(top - 1, 0)  # the row before it too, for the line between
        pixels = to_unit(picture[:, first : top + _ROWS]).double().cpu().numpy()
        lines = np.arange(-(-max(top, 1) // factor) * factor, min(top + _ROWS, height), factor)
        down[lines // factor - 1] = np.abs(pixels[:, lines - first] - pixels[:, lines - first - 1]).mean(axis=(0, 2))
        own = pixels[:, top - first :]
        between = np.arange(factor, width, factor)
        across += np.abs(own[:, :, between] - own[:, :, between - 1]).sum(axis=(0, 1)) / (channels * height)
    return down, across


def _compared(axis: Axis, reach: int | None) -> dict[int, list[int]]:
    if axis.length < axis.tile:
        return {}
    places = borders(axis.origins, axis.tile, axis.length)
    return references(places, axis.stride // 2 if reach is None else reach, axis.length)
