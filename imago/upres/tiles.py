"""Any picture through a network of fixed extent: overlapping tiles, feathered and merged (Tyka 2017).

**Grid.** Along each axis the tiles are as few as keep neighbours at most a stride apart, spread evenly, the first and
the last flush with the picture. A picture smaller than a tile is continued by reflection to a tile around it, and cut
again.

**Windows.** The weight of a tile falls off from its middle to its border as a raised cosine, sin²(π (j + ½) / n) at
pixel *j* of *n*: positive at every pixel, near zero at the border, so that no tile ends visibly. Where only one tile
lies it is brought to one; at half a tile's stride two of them sum to one by themselves. The origins of the tiles form
a product grid and the window is a product, so dividing by the sum *along each axis* (in float64) makes the weights of
the picture sum to one, and no map of weights is kept.

**Memory.** Tiles run in rows from the top. Only one band of the result, as high as a tile, is being summed up; rows
that no later tile touches are handed on.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from imago.errors import UserError
from imago.upres.execution import Network, TileNetwork, TilingReport, in_batches
from imago.upres.pixels import Emit, Pixels, Sink, Stack, as_stack, check_out, write_to

Progress = Callable[[int, int], None]


def window(extent: int) -> Tensor:
    """The raised cosine of a tile: float64 ``(extent,)`` in (0, 1], symmetric."""
    return torch.sin(torch.pi * (torch.arange(extent, dtype=torch.float64) + 0.5) / extent).square()


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis of a picture, in pixels of that.

    Attributes:
        length: Extent of the picture, ≥ 1.
        tile: Extent of a tile.
        stride: How far apart neighbours lie at most: 1 to `tile`.

    Raises:
        UserError: Another stride, or no extent.
    """

    length: int
    tile: int
    stride: int

    def __post_init__(self) -> None:
        if self.length < 1 or self.tile < 1:
            raise UserError(f"cannot lay tiles of {self.tile} pixels over {self.length} pixels")
        if not 1 <= self.stride <= self.tile:
            raise UserError(f"stride={self.stride}: tiles of {self.tile} pixels need a stride from 1 to {self.tile}")

    @property
    def padded(self) -> int:
        """The extent that the tiles cover: the picture, or one tile if that is larger."""
        return max(self.length, self.tile)

    @property
    def before(self) -> int:
        """Pixels that the picture is continued by in front of its first."""
        return (self.padded - self.length) // 2

    @cached_property
    def origins(self) -> tuple[int, ...]:
        """First pixel of each tile, in the padded picture, ascending."""
        span = self.padded - self.tile
        steps = -(-span // self.stride)
        return tuple((2 * i * span + steps) // (2 * steps) for i in range(steps + 1)) if steps else (0,)

    def weights(self, factor: int) -> Tensor:
        """What each tile contributes to its pixels of the result.

        Returns:
            float64 ``(tiles, factor · tile)``, positive; over all tiles they sum to one at every pixel.
        """
        shape = window(factor * self.tile)
        total = torch.zeros(factor * self.padded, dtype=torch.float64)
        places = [slice(factor * origin, factor * (origin + self.tile)) for origin in self.origins]
        for place in places:
            total[place] += shape
        return torch.stack([shape / total[place] for place in places])

    def reflected(self) -> Tensor:
        """For a picture smaller than a tile: the pixel of the picture that each pixel of the tile shows.

        Reflected about its outermost pixels, back and forth if need be; a single pixel is repeated.
        """
        period = max(2 * (self.length - 1), 1)
        position = (torch.arange(self.tile) - self.before) % period
        return torch.minimum(position, (period - position) % period if self.length > 1 else position)


@dataclass(frozen=True)
class Grid:
    """Tiles over a picture, numbered row by row from the top left."""

    rows: Axis
    columns: Axis

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return len(self.rows.origins), len(self.columns.origins)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self.shape[0] * self.shape[1]

    def load(self, stack: Stack, first: int, number: int, device: torch.device | str = "cpu") -> Tensor:
        """Tiles `first` and on: float32 ``(number, C, tile, tile)``."""
        tiles = []
        for index in range(first, first + number):
            row, column = divmod(index, self.shape[1])
            (top, down), (left, across) = (_cut(self.rows, row), _cut(self.columns, column))
            tile = stack.read(top, left, device)
            if down is not None:
                tile = tile.index_select(1, down.to(device))
            if across is not None:
                tile = tile.index_select(2, across.to(device))
            tiles.append(tile)
        return torch.stack(tiles)


def _cut(axis: Axis, number: int) -> tuple[slice, Tensor | None]:
    """What to read for a tile along one axis, and how to continue it where the picture is smaller."""
    if axis.length < axis.tile:
        return slice(0, axis.length), axis.reflected()
    origin = axis.origins[number]
    return slice(origin, origin + axis.tile), None


def grid_over(shape: tuple[int, ...], tile: int, stride: int) -> Grid:
    """The grid of square tiles over a stack ``(C, h, w)``.

    Raises:
        UserError: A stride that does not fit the tile.
    """
    return Grid(Axis(int(shape[-2]), tile, stride), Axis(int(shape[-1]), tile, stride))


class _Band:
    """The part of the result that tiles still add to: `factor · tile` rows of the padded picture."""

    def __init__(self, grid: Grid, factor: int, emit: Emit, device: torch.device | str) -> None:
        self.grid, self.factor, self.emit = grid, factor, emit
        self.extent = factor * grid.rows.tile
        self.down = grid.rows.weights(factor).to(device, torch.float32)
        self.across = grid.columns.weights(factor).to(device, torch.float32)
        self.rows = torch.zeros(3, self.extent, factor * grid.columns.padded, device=device)
        self.row = 0

    def add(self, index: int, output: Tensor) -> None:
        """Adds the output ``(3, factor · tile, factor · tile)`` of a tile; they come in order."""
        row, column = divmod(index, self.grid.shape[1])
        if row > self.row:
            self.hand_on(self.grid.rows.origins[row] - self.grid.rows.origins[row - 1])
            self.row = row
        left = self.factor * self.grid.columns.origins[column]
        weights = torch.outer(self.down[row], self.across[column])
        self.rows[:, :, left : left + self.extent].addcmul_(output, weights)

    def hand_on(self, low_rows: int) -> None:
        """Emits the uppermost rows, cut to the picture, and moves the others up."""
        number = self.factor * low_rows
        # What was padded lies in the first and the last rows; a padded axis has a single tile.
        before, width = self.factor * self.grid.rows.before, self.factor * self.grid.columns.length
        left = self.factor * self.grid.columns.before
        first = self.factor * self.grid.rows.origins[self.row] - before
        last = min(first + number, self.factor * self.grid.rows.length)
        start = max(first, 0)
        self.emit(start, self.rows[:, start - first : last - first, left : left + width])
        for top in range(0, self.extent - number, number):  # in pieces that do not overlap
            piece = min(number, self.extent - number - top)
            self.rows[:, top : top + piece] = self.rows[:, top + number : top + number + piece]
        self.rows[:, self.extent - number :] = 0


def blend_tiles(
    function: Callable[[int, Tensor], Tensor],
    stack: Stack,
    grid: Grid,
    factor: int,
    emit: Emit,
    *,
    batch: int,
    report: TilingReport,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> None:
    """Runs all tiles and hands on the blended result, row by row.

    Args:
        function: function(first, tiles ``(B, C, t, t)``) → float32 ``(B, 3, factor · t, factor · t)``: the outputs of
            tiles number `first` and on.
        stack: ``(C, h, w)``.
        grid: Of that extent.
        factor: How much larger the result is.
        emit: Takes rows of the result, ``(3, n, factor · w)`` on the device, each once, from the top; their numbers
            are multiples of the factor.
        batch: Tiles at a time; fewer from when memory runs out.
        report: Told about what happens.
        device: Where tiles and the band are held.
        progress: progress(tiles done, tiles in all), after each batch.

    Raises:
        UserError: Memory does not suffice for a single tile.
    """
    band = _Band(grid, factor, emit, device)

    def load(first: int, number: int) -> Tensor:
        return grid.load(stack, first, number, device)

    with torch.no_grad():
        for first, outputs in in_batches(function, load, grid.count, batch, report):
            for index, output in zip(itertools.count(first), outputs, strict=False):
                band.add(index, output)
            if progress is not None:
                progress(first + len(outputs), grid.count)
            del outputs
        band.hand_on(grid.rows.tile)


def run_tiles(
    network: Network,
    source: Pixels | Stack,
    out: Sink | None = None,
    *,
    tile: int = 32,
    factor: int = 8,
    stride: int = 16,
    batch: int = 16,
    device: str = "cpu",
    precision: str = "float32",
    report: TilingReport | None = None,
) -> Sink:
    """A network over a stack of any extent, tile by tile, without variants or correction.

    Args:
        network: ``(B, C, tile, tile)`` → ``(B, 3, factor · tile, factor · tile)``.
        source: ``(C, h, w)``: tensor, array, memory map or :class:`~imago.upres.pixels.Stack`.
        out: ``(3, factor · h, factor · w)`` of the type wanted (uint8, uint16, floating point): tensor, array, memory
            map, or anything that takes ``out[:, a:b] = rows``; None: a float32 tensor is made.
        tile: Extent that the network was trained on.
        factor: How much larger its output is.
        stride: Pixels between neighbouring tiles, at most.
        batch: Tiles at a time.
        device: Where the network is.
        precision: "float32", "bfloat16" or "float16", by autocast.
        report: Filled in, if given.

    Returns:
        `out`.

    Raises:
        UserError: Settings or shapes that do not fit, memory that does not suffice for one tile, output that is not
            finite.
    """
    if batch < 1:
        raise UserError(f"batch={batch}: must be at least 1")
    stack = as_stack(source)
    grid = grid_over(stack.shape, tile, stride)
    height, width = factor * stack.shape[1], factor * stack.shape[2]
    result: Sink = torch.empty(3, height, width) if out is None else out
    check_out(result, 3, height, width)
    report = TilingReport() if report is None else report
    checked = TileNetwork(network, factor, device, precision, report=report)
    blend_tiles(
        lambda first, tiles: checked(tiles),
        stack,
        grid,
        factor,
        write_to(result),
        batch=batch,
        report=report,
        device=device,
    )
    return result
