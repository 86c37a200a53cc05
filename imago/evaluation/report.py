"""An evaluation as people read it: a table, JSON, Markdown, and a curve over a run's history."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imago.atomic import atomic_path
from imago.evaluation.affine_fit import affine_fit
from imago.evaluation.measure import Row

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Evaluated:
    """One generator, or several pooled, and what was measured of it.

    Attributes:
        checkpoint: As the user gave it.
        images_seen: Of the (newest) generator.
        rows: What was measured.
    """

    checkpoint: str
    images_seen: int
    rows: list[Row]


def number(value: float | None) -> str:
    """Four significant digits, a dash where there is nothing."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 100:
        return f"{value:.0f}" if float(value).is_integer() else f"{value:.2f}"
    return f"{value:.4g}"


def _value(row: Row) -> str:
    return number(row.value) + (f" ± {number(row.spread)}" if row.spread is not None else "")


def table_of_one(evaluated: Evaluated) -> Table:
    """Every number of one generator with what to hold it against."""
    from rich.table import Table

    table = Table()
    table.add_column("metric", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("reference", justify="right", no_wrap=True)
    table.add_column("which is")
    table.add_column("N", justify="right", no_wrap=True)
    table.add_column("protocol")
    previous = ""
    for row in evaluated.rows:
        protocol = "〃" if row.protocol == previous else row.protocol
        previous = row.protocol
        table.add_row(row.metric, _value(row), number(row.reference), row.reference_is, f"{row.images:,}", protocol)
    return table


def table_of_several(evaluated: list[Evaluated]) -> Table:
    """One line per generator, one column per metric."""
    from rich.table import Table

    table = Table()
    table.add_column("images seen", justify="right")
    for row in evaluated[0].rows:
        table.add_column(row.metric, justify="right")
    for one in evaluated:
        table.add_row(f"{one.images_seen:,}", *map(_value, one.rows))
    table.add_section()
    table.add_row("reference", *(number(row.reference) for row in evaluated[0].rows))
    return table


def table_of_methods(evaluated: list[Evaluated]) -> Table:
    """One line per method, one column per metric, the better direction beside its name."""
    from rich.table import Table

    arrow = {True: " ↑", False: " ↓", None: ""}
    table = Table()
    table.add_column("")
    for row in evaluated[0].rows:
        table.add_column(row.metric + arrow[row.higher_is_better], justify="right")
    for one in evaluated:
        table.add_row(one.checkpoint, *map(_value, one.rows))
    return table


def as_markdown(evaluated: list[Evaluated]) -> str:
    """A Markdown table: a row per generator, and one of references."""
    first = evaluated[0].rows
    lines = [
        "| checkpoint | images seen | " + " | ".join(row.metric for row in first) + " |",
        "|---|---|" + "---|" * len(first),
    ]
    for one in evaluated:
        lines.append(f"| {one.checkpoint} | {one.images_seen:,} | " + " | ".join(map(_value, one.rows)) + " |")
    if any(row.reference is not None for row in first):
        lines.append("| reference | | " + " | ".join(number(row.reference) for row in first) + " |")
    lines += ["", *notes(first)]
    return "\n".join(lines) + "\n"


def notes(rows: list[Row]) -> list[str]:
    """How many images and which protocol the numbers are of: a line for all metrics that have them in common."""
    common: dict[tuple[int, str, str], list[str]] = {}
    for row in rows:
        common.setdefault((row.images, row.protocol, row.reference_is), []).append(row.metric)
    return [
        f"{', '.join(metrics)}: {images:,} images; {protocol}" + (f"; reference: {reference}" if reference else "")
        for (images, protocol, reference), metrics in common.items()
    ]


def as_json(evaluated: list[Evaluated], about: dict[str, Any]) -> str:
    """Everything, for programs.

    Args:
        evaluated: The generators.
        about: Data, seed, versions.
    """

    def plain(row: Row) -> dict[str, Any]:  # JSON has no NaN
        fields = asdict(row)
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()}

    results = [
        {"checkpoint": one.checkpoint, "images_seen": one.images_seen, "results": [plain(row) for row in one.rows]}
        for one in evaluated
    ]
    return (
        json.dumps({**about, "checkpoints": results}, indent=2, ensure_ascii=False, default=str, allow_nan=False) + "\n"
    )


def write_report(
    out: Path, evaluated: list[Evaluated], about: dict[str, Any], epoch: int | None = None, fit: bool = False
) -> list[Path]:
    """Writes ``out`` as JSON, a Markdown table and, of several generators, a plot beside it.

    Args:
        out: Ending in ``.json``.
        evaluated: The generators.
        about: See :func:`as_json`.
        epoch: See :func:`plot_curves`.
        fit: See :func:`plot_curves`.

    Returns:
        The files.

    Raises:
        OSError: They cannot be written.
    """
    written = [out, out.with_suffix(".md")]
    for path, text in zip(written, (as_json(evaluated, about), as_markdown(evaluated)), strict=True):
        with atomic_path(path) as temporary:
            temporary.write_text(text)
    if len(evaluated) > 1:
        written.append(out.with_suffix(".png"))
        with atomic_path(written[-1]) as temporary:
            plot_curves(evaluated, temporary, epoch, fit)
    return written


def plot_curves(evaluated: list[Evaluated], out: Path, epoch: int | None = None, fit: bool = False) -> None:
    """A panel per metric over images_seen, with its reference as a dashed line; levels of one metric share a panel.

    Args:
        evaluated: Generators in the order of images_seen.
        out: The PNG to write.
        epoch: Real images in the data set: the axis then counts epochs.
        fit: Draw a straight line through each curve, in red (Curtó et al. 2020, figure 16).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    families: dict[str, list[int]] = {}
    for i, row in enumerate(evaluated[0].rows):
        families.setdefault(row.metric.partition("/")[0], []).append(i)
    figure = Figure(figsize=(8, 2.2 * len(families) + 0.6), layout="constrained")
    axes = figure.subplots(len(families), 1, sharex=True, squeeze=False)[:, 0]
    places = [one.images_seen / (epoch or 1000) for one in evaluated]
    for axis, (family, columns) in zip(axes, families.items(), strict=True):
        for i in columns:
            row = evaluated[0].rows[i]
            (line,) = axis.plot(places, [one.rows[i].value for one in evaluated], label=row.metric, marker=".", lw=1)
            line_fit = affine_fit(places, [one.rows[i].value for one in evaluated]) if fit else None
            if line_fit is not None:
                axis.plot(places, [line_fit.at(x) for x in places], color="red", lw=1.2)
            if row.reference is not None:
                axis.axhline(row.reference, color=line.get_color(), lw=0.8, ls="--")
        arrow = {True: " (higher is better)", False: " (lower is better)", None: ""}
        axis.set_title(family + arrow[evaluated[0].rows[columns[0]].higher_is_better], fontsize=9, loc="left")
        if len(columns) > 1:
            axis.legend(fontsize=7, loc="upper right")
        axis.grid(alpha=0.2)
    unit = "real images seen by the discriminator (thousands)" if epoch is None else f"epochs of {epoch:,} images"
    axes[-1].set_xlabel(f"{unit}; dashed: reference" + ("; red: affine fit" if fit else ""))
    FigureCanvasAgg(figure).print_png(str(out))
