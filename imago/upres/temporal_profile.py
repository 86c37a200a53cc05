"""One line of pixels of a film, over time: things in a stable film draw smooth curves, flicker is noise."""

import math

import torch
from torch import Tensor

from imago.errors import UserError
from imago.images import to_uint8

LINES = ("row", "column")


class TemporalProfile:
    """Collects one row or column of every frame.

    Args:
        line: "row": time goes down. "column": time goes to the right.
        position: Which: 0 is the first row or column, 1 the last.

    Raises:
        UserError: A line that is neither, or a position outside [0, 1].
    """

    def __init__(self, line: str = "row", position: float = 0.5) -> None:
        if line not in LINES:
            raise UserError(f"a temporal profile shows a {' or a '.join(LINES)}, not a {line!r}")
        if not (math.isfinite(position) and 0 <= position <= 1):
            raise UserError(f"the position of a temporal profile lies from 0 to 1, not at {position}")
        self.line, self.position = line, position
        self.lines: list[Tensor] = []

    def add(self, frame: Tensor) -> None:
        """Takes the next frame, ``(3, H, W)`` in [-1, 1]."""
        extent = frame.shape[1] if self.line == "row" else frame.shape[2]
        index = min(int(self.position * extent), extent - 1)
        line = frame[:, index] if self.line == "row" else frame[:, :, index]
        self.lines.append(to_uint8(line).cpu())

    def picture(self, stretch: int = 1) -> Tensor:
        """The lines side by side.

        Args:
            stretch: Pixels for each frame.

        Returns:
            uint8 ``(3, T · stretch, W)`` of a row, ``(3, H, T · stretch)`` of a column.

        Raises:
            UserError: A film without frames, or a stretch below 1.
        """
        if not self.lines:
            raise UserError("a film without frames has no temporal profile")
        if stretch < 1:
            raise UserError(f"each frame of a temporal profile takes at least one pixel, not {stretch}")
        along = 1 if self.line == "row" else 2
        return torch.stack(self.lines, dim=along).repeat_interleave(stretch, dim=along)
