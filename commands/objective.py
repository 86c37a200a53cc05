"""What a sweep minimises or maximises: one number of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytorch_lightning as pl
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from callbacks.csv_table import read_rows
from callbacks.gan_metrics import GanMetrics
from callbacks.upres_metrics import METRICS, UpresMetrics
from commands.run_records import BEST_AT_1, higher_is_better
from imago.errors import UserError
from imago.evaluation.building import row_names


def check_objective(
    objective: str, callbacks: Mapping[str, pl.Callback], extent: tuple[int, int], total_images: float
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


def check_study_objective(cfg: DictConfig) -> None:
    """The same for a study, from the configuration that its trials have in common; keys that are missing are no matter.

    Args:
        cfg: As composed, with Hydra's own part.

    Raises:
        UserError: As :func:`check_objective`.
    """
    total = cfg.total_images if cfg.total_images else math.inf
    callbacks: dict[str, pl.Callback] = {}
    for name in ("gan_metrics", "upres_metrics"):
        options = OmegaConf.to_container(cfg.callbacks[name], resolve=True) if cfg.callbacks[name] else None
        if options:
            try:
                callbacks[name] = instantiate(options, _convert_="all")
            except InstantiationException as error:
                if isinstance(error.__cause__, UserError):
                    raise error.__cause__ from error
                raise
    check_objective(cfg.objective, callbacks, (cfg.resolution, cfg.resolution // cfg.base[0] * cfg.base[1]), total)


def check_direction(objective: str, direction: str) -> None:
    """Refuses a direction that leads to the worst run.

    Args:
        objective: ``"swd/avg"``.
        direction: "minimize" or "maximize".

    Raises:
        UserError: The objective is better the other way, or neither way.
    """
    if objective in BEST_AT_1:
        raise UserError(f"objective={objective} is best at 1, neither high nor low")
    right = "maximize" if higher_is_better(objective) else "minimize"
    if direction != right:
        raise UserError(f"objective={objective} wants hydra.sweeper.direction={right}, not {direction}")


def objective_value(run_dir: Path, objective: str) -> float | None:
    """The best value that a run measured; None: none.

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
