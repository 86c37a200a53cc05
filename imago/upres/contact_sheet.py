"""A sheet of all stages of a few pictures, and of what each of the last ones adds.

A row is a picture; its columns are the stages, all shrunk to cells of one size by area means, and behind them the same
part of the face as the last stages show it: the last one pixel by pixel, those before enlarged to the same scale.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from imago.data.contact_sheet import contact_sheet
from imago.images import to_uint8
from imago.upres.pixels import Pixels, to_unit

_BLOCK = 1 << 22  # pixels read at a time
_CAPTION = 16  # height of the lines of text, in pixels


@dataclass(frozen=True)
class Shown:
    """One stage of a picture.

    Attributes:
        caption: Below its cell.
        pixels: ``(C, H, W)``, C = 1, 3 or more (what comes behind RGB is left out): uint8, uint16, or floating point in
            [-1, 1]; may be a memory-mapped file.
        detail: Show a part of it at the scale of the last such stage, too.
    """

    caption: str
    pixels: Pixels
    detail: bool = False


class StageSheet:
    """Collects rows; of each stage no more than its cells are kept.

    Args:
        side: Of a cell, in pixels.
        most: Rows; further ones are counted only.

    Attributes:
        rows: Collected: of each row the cells, uint8 ``(side, side, 3)``, and their captions.
        left_out: Rows that found no place.
    """

    def __init__(self, side: int = 320, most: int = 64) -> None:
        self.side = side
        self.most = most
        self.rows: list[list[tuple[NDArray[np.uint8], str]]] = []
        self.left_out = 0

    def add(self, stages: Sequence[Shown], focus: tuple[float, float] = (0.39, 0.47)) -> None:
        """Adds a row.

        Args:
            stages: From the first to the last.
            focus: Centre of the part that is shown in detail, x then y as shares of the width and the height: an eye.
                By default the left one of an aligned portrait.

        Raises:
            ValueError: There is no stage.
        """
        if not stages:
            raise ValueError("a row of the sheet needs at least one stage")
        if len(self.rows) == self.most:
            self.left_out += 1
            return
        row = [
            (_centred(area_mean(stage.pixels, self._fitted(stage.pixels)), self.side), stage.caption)
            for stage in stages
        ]
        detailed = [stage for stage in stages if stage.detail]
        for stage in detailed:
            part, scale = _detail(stage.pixels, detailed[-1].pixels, focus, self.side)
            row.append((part, f"{stage.caption}, {'1:1' if scale == 1 else f'enlarged {scale:.3g} times'}"))
        self.rows.append(row)

    def picture(self) -> NDArray[np.uint8]:
        """The sheet, uint8 ``(H, W, 3)``, on black; rows with fewer cells are empty at their end.

        Raises:
            ValueError: There is no row.
        """
        if not self.rows:
            raise ValueError("a sheet needs at least one row")
        columns = max(len(row) for row in self.rows)
        empty = (np.zeros((self.side, self.side, 3), np.uint8), "")
        cells = [cell for row in self.rows for cell in row + [empty] * (columns - len(row))]
        pictures, captions = zip(*cells, strict=True)
        return contact_sheet(pictures, captions, columns, self.side, _CAPTION)

    def _fitted(self, pixels: Pixels) -> tuple[int, int]:
        height, width = pixels.shape[1:]
        scale = self.side / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))


def area_mean(pixels: Pixels, extent: tuple[int, int]) -> NDArray[np.uint8]:
    """Shrinks a picture: each pixel of the result is the mean over the area that it covers, in parts of pixels too.

    A picture that is smaller than `extent` shows its pixels as rectangles. Rows are read a few at a time.

    Args:
        pixels: ``(C, H, W)``, see :class:`Shown`.
        extent: (height, width) of the result.

    Returns:
        uint8 RGB ``(height, width, 3)``.
    """
    channels = min(pixels.shape[0], 3)
    height, width = int(pixels.shape[1]), int(pixels.shape[2])
    down, across = _coverage(height, extent[0]), _coverage(width, extent[1])
    result = torch.zeros(channels, *extent)
    rows = max(1, _BLOCK // width)
    for first in range(0, height, rows):
        block = to_unit(pixels[:channels, first : first + rows]).cpu()  # (C, n, W)
        covered = down[:, first : first + rows]
        concerned = covered.sum(1) > 0
        result[:, concerned] += covered[concerned] @ (block @ across.T)
    return to_uint8(result.expand(3, -1, -1)).permute(1, 2, 0).contiguous().numpy()


def _coverage(size: int, cells: int) -> torch.Tensor:
    """``(cells, size)``: the share that each of `size` pixels has in each of `cells` equal parts of their row."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * size / cells
    pixels = torch.arange(size, dtype=torch.float64)
    end = torch.minimum(edges[1:, None], pixels + 1)
    begin = torch.maximum(edges[:-1, None], pixels)
    return ((end - begin).clamp(min=0) * cells / size).float()


def _centred(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    cell = np.zeros((side, side, 3), np.uint8)
    top, left = (side - picture.shape[0]) // 2, (side - picture.shape[1]) // 2
    cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return cell


def _detail(pixels: Pixels, last: Pixels, focus: tuple[float, float], side: int) -> tuple[NDArray[np.uint8], float]:
    """The part of `pixels` that lies in a cell of the pixels of `last` around `focus`; and how much it is enlarged.

    Returns:
        uint8 ``(side, side, 3)``, enlarged by Lanczos' filter; the scale, 1 for `last` itself.
    """
    height, width = int(last.shape[1]), int(last.shape[2])
    part_width, part_height = min(side, width), min(side, height)
    left = min(max(round(focus[0] * width) - part_width // 2, 0), width - part_width)
    top = min(max(round(focus[1] * height) - part_height // 2, 0), height - part_height)
    scale_x, scale_y = pixels.shape[2] / width, pixels.shape[1] / height
    box = (left * scale_x, top * scale_y, (left + part_width) * scale_x, (top + part_height) * scale_y)
    # Some pixels around, which the filter sees; and no more than these of a picture that may lie on the disk.
    x, y = max(math.floor(box[0]) - 4, 0), max(math.floor(box[1]) - 4, 0)
    around = pixels[: min(pixels.shape[0], 3), y : math.ceil(box[3]) + 4, x : math.ceil(box[2]) + 4]
    bytes_ = to_uint8(to_unit(around).cpu().expand(3, -1, -1)).permute(1, 2, 0).contiguous().numpy()
    if pixels.shape[1:] == last.shape[1:]:
        return _centred(bytes_[top - y :, left - x :][:part_height, :part_width], side), 1
    inner: Any = (box[0] - x, box[1] - y, box[2] - x, box[3] - y)
    enlarged = Image.fromarray(bytes_).resize((part_width, part_height), Image.Resampling.LANCZOS, box=inner)
    return _centred(np.asarray(enlarged), side), 1 / scale_x
