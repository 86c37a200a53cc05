"""Confusion matrices as pictures."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from imago.atomic import atomic_path

_CELL = 0.62  # inches


def figure_name(attribute: str) -> str:
    """``confusion-eyes_color.png`` of "Eyes Color": whatever the name, a file in the same folder."""
    return f"confusion-{re.sub(r'[^a-z0-9]+', '_', attribute.casefold()).strip('_') or 'attribute'}.png"


def confusion_figure(
    path: Path, attribute: str, values: Sequence[str], confusions: Mapping[str, Sequence[Sequence[int]]]
) -> None:
    """Draws confusion matrices side by side: the colour is the share of the row, the number the count.

    Args:
        path: A ``.png``, written whole or not at all.
        attribute: For the title.
        values: Of rows and columns.
        confusions: Title → counts ``[true][predicted]``.
    """
    from matplotlib.figure import Figure  # without pyplot there is no window and nothing to close

    names = [value.replace("_", " ") for value in values]
    longest = max(map(len, names))
    side = _CELL * max(len(values), 3)
    margin = 0.5 + 0.075 * longest
    figure = Figure(figsize=((side + 0.3) * len(confusions) + margin, side + margin + 0.5), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(confusions), sharey=True))
    for i, (axis, (title, counts)) in enumerate(zip(axes, confusions.items(), strict=True)):
        matrix = np.array(counts)
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                colour = "white" if shares[row, column] > 0.55 else "black"
                axis.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.set_xlabel("predicted", fontsize=9)
        if i == 0:
            axis.set_ylabel("true", fontsize=9)
        axis.set_title(title, fontsize=9)
    figure.suptitle(attribute, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": None})
