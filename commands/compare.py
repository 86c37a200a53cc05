"""A table of runs, the best first: what ``evaluate.py what=compare`` does."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands.run_records import RunRecord, differing_keys, find_runs, metrics_of, sort_runs
from conf.evaluate_schema import EvaluateConfig
from imago.atomic import atomic_path
from imago.errors import UserError
from imago.evaluation.report import number

logger = logging.getLogger("imago")

_LONGEST = 40  # characters of a value that are shown
_MOST_METRICS, _MOST_KEYS = 4, 6  # on a terminal


@dataclass(frozen=True)
class RunTable:
    """Runs and what is shown of them.

    Attributes:
        runs: In the order of the table.
        sorted_by: The column of the order.
        columns: Titles.
        cells: A row of texts for each run.
        numbers: Which columns hold numbers.
    """

    runs: Sequence[RunRecord]
    sorted_by: str
    columns: list[str]
    cells: list[list[str]]
    numbers: list[bool]


def compare(cfg: EvaluateConfig) -> None:
    """Reads all runs below ``runs=``, prints a table, writes it with sample thumbnails as HTML or PNG, and as CSV.

    Raises:
        UserError: No runs, no such column, or the files cannot be written.
    """
    if cfg.runs is None:
        raise UserError("runs is needed: add runs=multirun/… or a list of run directories to the command")
    table = run_table(find_runs(cfg.runs), cfg.sort_by)
    out = _out(cfg)
    _print(table)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(out) as temporary:
            if out.suffix == ".png":
                from commands.run_table_picture import write_picture

                write_picture(table, temporary)
            else:
                from commands.run_table_page import page

                temporary.write_text(page(table, title=str(cfg.runs)))
        with atomic_path(out.with_suffix(".csv")) as temporary:
            temporary.write_text(_as_csv(table))
    except OSError as error:
        raise UserError(f"out={out}: cannot be written ({error.strerror or error})") from error
    print(f"wrote {out}, {out.with_suffix('.csv')}")


def run_table(runs: Sequence[RunRecord], sort_by: str | None) -> RunTable:
    """What is shown of runs.

    Args:
        runs: In any order.
        sort_by: See :func:`commands.run_records.sort_runs`.

    Raises:
        UserError: No run has the column.
    """
    ordered, sorted_by = sort_runs(runs, sort_by)
    metrics = metrics_of(ordered)
    shown = metrics if sorted_by in (*metrics, "images_seen") else [sorted_by, *metrics]
    keys = differing_keys(ordered)
    with_best = any(run.best for run in ordered)
    columns = ["run", "state", "images seen", *shown, *(["best"] if with_best else []), "img/s", *keys]
    cells = []
    for run in ordered:
        best = f"{run.best[0]} {number(run.best[1])} at {run.best[2]:,}" if run.best else ""
        values = [_number(run.values.get(name)) for name in shown]
        speed = _number(run.values.get("images_per_second"))
        overrides = [_short(run.config.get(key, "—")) for key in keys]
        first = [run.name, _short(run.state, 80), f"{run.images_seen:,}"]
        cells.append([*first, *values, *([best] if with_best else []), speed, *overrides])
    numeric = [False, False, True, *[True] * len(shown), *[False] * with_best, True, *[False] * len(keys)]
    return RunTable(ordered, sorted_by, columns, cells, numeric)


def _number(value: float | None) -> str:
    return "" if value is None else "NaN" if math.isnan(value) else number(value)


def _short(value: Any, longest: int = _LONGEST) -> str:
    text = str(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _out(cfg: EvaluateConfig) -> Path:
    if cfg.out is not None:
        out = Path(cfg.out).expanduser()
        if out.suffix not in (".html", ".png"):
            raise UserError(f"out={cfg.out}: a comparison is written as .html or .png")
        return out
    first = str(cfg.runs) if isinstance(cfg.runs, str) else str(cfg.runs[0])
    folder = Path(first.partition("*")[0]).expanduser()
    return (folder if folder.is_dir() else folder.parent) / "compare.html"


def _print(table: RunTable) -> None:
    """The table as far as a terminal is wide: the column of the order, few others, overrides in one column."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # brackets in a plain str would be taken for markup

    metrics = [c for c in table.columns[3 : table.columns.index("img/s")] if c not in (table.sorted_by, "best")]
    kept = [*table.columns[:3], *([table.sorted_by] * (table.sorted_by in table.columns[3:])), *metrics[:_MOST_METRICS]]
    keys = table.columns[table.columns.index("img/s") + 1 :]
    shown = Table(caption="" if len(metrics) <= _MOST_METRICS else "more columns in the file", caption_justify="left")
    for title in kept:
        is_number = table.numbers[table.columns.index(title)]
        shown.add_column(Text(title), justify="right" if is_number else "left", overflow="fold")
    if keys:
        shown.add_column("differs in", overflow="fold")
    for cells in table.cells:
        row = dict(zip(table.columns, cells, strict=True))
        differing = " ".join(f"{key}={row[key]}" for key in keys[:_MOST_KEYS])
        more = f" … and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
        shown.add_row(*(Text(row[title]) for title in kept), *([Text(differing + more)] if keys else []))
    Console().print(shown)


def _as_csv(table: RunTable) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table.columns)
    writer.writerows(table.cells)
    return text.getvalue()
