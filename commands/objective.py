"""What a sweep minimises or maximises: one number of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytorch_lightning as pl

from callbacks.csv_table import read_rows
from callbacks.gan_metrics import GanMetrics
from callbacks.upres_metrics import METRICS, UpresMetrics
from commands.run_records import higher_is_better
from imago.errors import UserError
from imago.evaluation.building import row_names


def check_objective(
    objective: str, callbacks: Mapping[str, pl.Callback], extent: tuple[int, int], total_images: int
) -> None:
    """Refuses an objective that a run will not measure.

    Args:
        objective: ``"swd/avg"``.
        callbacks: Of the run.
        extent: Height and width of the images.
        total_images: Where the run stops.

    Raises:
        UserError: It is not measured, or not before the run stops.
    """
    measuring = next((one for one in callbacks.values() if isinstance(one, GanMetrics | UpresMetrics)), None)
    if measuring is None:
        raise UserError(f"objective={objective} is not measured: add callbacks=metrics (or upres, of up-resolution)")
    names = METRICS if isinstance(measuring, UpresMetrics) else tuple(row_names(measuring.options, extent))
    if objective not in names:
        raise UserError(f"objective={objective} is not measured; choose {', '.join(names)}")
    if measuring.every_images > total_images:
        group = "upres_metrics" if isinstance(measuring, UpresMetrics) else "gan_metrics"
        raise UserError(
            f"objective={objective} would never be measured: the run has {total_images} images; lower "
            f"callbacks.{group}.every_images ({measuring.every_images})"
        )


def objective_value(run_dir: Path, objective: str) -> float | None:
    """The best value that a run measured, which is that of its ``best_generator.safetensors``; None: none.

    Args:
        run_dir: The run directory.
        objective: A column of metrics.csv.
    """
    table = run_dir / "metrics.csv"
    values = [float(row[objective]) for row in (read_rows(table) if table.exists() else []) if row.get(objective)]
    finite = [value for value in values if value == value]
    if not finite:
        return None
    return max(finite) if higher_is_better(objective) else min(finite)
