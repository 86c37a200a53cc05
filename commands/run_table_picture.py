"""A table of runs as one picture, with a thumbnail beside each: to paste somewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from commands.compare import RunTable

_ROW, _LINE = 1.3, 0.19  # inches
_PICTURE = 1.9  # inches, with its margin


def write_picture(table: RunTable, out: Path) -> None:
    """Draws a table: for each run a thumbnail and its columns as lines.

    Args:
        table: The runs.
        out: The PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [
        [f"{title}: {text}" for title, text in zip(table.columns[1:], cells[1:], strict=True) if text]
        for cells in table.cells
    ]
    row = max(_ROW, _LINE * (max(map(len, lines)) / 2 + 2))
    figure = Figure(figsize=(9, row * len(lines) + 0.4))
    for i, (run, cells, texts) in enumerate(zip(table.runs, table.cells, lines, strict=True)):
        bottom = 1 - (0.4 + row * (i + 1)) / figure.get_figheight()
        height = row / figure.get_figheight()
        axis = figure.add_axes((0.01, bottom + 0.05 * height, _PICTURE / 9, 0.9 * height))
        axis.axis("off")
        if run.samples is not None and (pixels := _pixels(run.samples)) is not None:
            axis.imshow(pixels, interpolation="nearest")
        left, top = (_PICTURE + 0.25) / 9, bottom + 0.93 * height
        figure.text(left, top, cells[0], fontsize=10, weight="bold", va="top", parse_math=False)
        below = top - 1.3 * _LINE / figure.get_figheight()
        half = -(-len(texts) // 2)
        for j, part in enumerate((texts[:half], texts[half:])):
            figure.text(left + 0.38 * j, below, "\n".join(part), fontsize=8, va="top", parse_math=False)
    figure.text(0.01, 1 - 0.25 / figure.get_figheight(), f"sorted by {table.sorted_by}", fontsize=9, parse_math=False)
    FigureCanvasAgg(figure).print_png(str(out))


def _pixels(path: Path) -> np.ndarray | None:
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
            small.thumbnail((480, 480), Image.Resampling.BOX)
            return np.asarray(small)
    except (OSError, UnidentifiedImageError):
        return None
