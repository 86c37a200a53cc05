"""Figures of a run from the tables that it has written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from callbacks.csv_table import read_rows
from imago.errors import UserError

_SMOOTHED = 25  # rows of a running mean


def figure_of_run(what: str, run_dir: Path, out: Path, epoch: int | None = None) -> Path:
    """Draws a figure of a run.

    Args:
        what: "errors" or "activations".
        run_dir: The run.
        out: The folder to write to.
        epoch: Images in an epoch, for "errors".

    Returns:
        The picture.

    Raises:
        UserError: The run has not written the table that it is drawn from.
    """
    table = run_dir / {"errors": "metrics.csv", "activations": "activations.csv"}[what]
    if not table.exists():
        how = "; train with callbacks=activations" if what == "activations" else ""
        raise UserError(f"what={what}: there is no {table}{how}")
    path = out / f"{what}.png"
    return plot_errors(table, path, epoch) if what == "errors" else plot_activations(table, path)


def plot_errors(table: Path, out: Path, epoch: int | None = None) -> Path:
    """The error of the discriminator above that of the generator (Curtó et al. 2020, figure 8), with running means.

    Args:
        table: metrics.csv.
        out: The PNG to write.
        epoch: Images in an epoch: a second axis, on top, then counts epochs.

    Raises:
        UserError: The table holds no losses.
    """
    rows = [row for row in read_rows(table) if row.get("discriminator_loss")]
    if not rows:
        raise UserError(f"{table} holds no losses yet")
    kimg = [float(row["images_seen"]) / 1000 for row in rows]
    figure, axes = _panels(2, 1, (9, 6))
    for axis, network in zip(axes[:, 0], ("discriminator", "generator"), strict=True):
        values = np.array([float(row[f"{network}_loss"] or "nan") for row in rows])
        axis.plot(kimg, values, lw=0.6, alpha=0.4)
        axis.plot(kimg, running_mean(values, _SMOOTHED), lw=1.6, color="C0")
        axis.set_title(f"Error in {network}", fontsize=10, loc="left")
        axis.grid(alpha=0.2)
    axes[-1, 0].set_xlabel("real images seen by the discriminator (thousands)")
    if epoch is not None:
        scale = 1000 / epoch
        top = axes[0, 0].secondary_xaxis("top", functions=(lambda k: k * scale, lambda epochs: epochs / scale))
        top.set_xlabel(f"epochs of {epoch:,} images")
    return _save(figure, out)


def plot_activations(table: Path, out: Path) -> Path:
    """Mean and variance of what comes out of each layer, over training; the generator left, the discriminator right.

    Args:
        table: activations.csv.
        out: The PNG to write.

    Raises:
        UserError: The table is empty.
    """
    import matplotlib as mpl

    rows = read_rows(table)
    if not rows:
        raise UserError(f"{table} holds no rows yet")
    kimg = [float(row["images_seen"]) / 1000 for row in rows]
    figure, axes = _panels(2, 2, (10, 6))
    for column, network in enumerate(("generator", "discriminator")):
        layers = sorted({int(name.split("/")[1]) for name in rows[0] if name.startswith(f"{network}/")})
        for i, moment in enumerate(("mean", "variance")):
            axis = axes[i, column]
            for layer in layers:
                values = [float(row.get(f"{network}/{layer}/{moment}") or "nan") for row in rows]
                colour = mpl.colormaps["viridis"](layer / max(1, *layers))
                axis.plot(
                    kimg, values, color=colour, lw=1.2, label=f"layer {layer}", marker="." if len(rows) < 3 else None
                )
            axis.axhline(i, color="0.6", lw=0.8, ls="--")  # the (0, 1) that normalised activations have
            if moment == "variance":
                axis.set_yscale("log")
            axis.set_title(f"{network}: {moment}", fontsize=10, loc="left")
            axis.grid(alpha=0.2)
        if layers:
            axes[0, column].legend(fontsize=7)
        axes[1, column].set_xlabel("real images seen (thousands); dashed: normalised")
    return _save(figure, out)


def running_mean(values: np.ndarray[Any, Any], window: int) -> np.ndarray[Any, Any]:
    """Means over the last `window` finite values, fewer at the beginning."""
    return np.array([_mean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))])


def _mean(values: np.ndarray[Any, Any]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _panels(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, sharex=True, squeeze=False)


def _save(figure: Any, out: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(str(out))
    return out
