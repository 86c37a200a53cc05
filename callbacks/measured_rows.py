"""What callbacks that measure have in common: where the numbers go, and the best checkpoint by one of them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from callbacks.pruning import Pruning
from callbacks.scalar_log import ScalarLog
from callbacks.snapshot import write_synced
from imago.atomic import atomic_path
from imago.evaluation.measure import Row
from imago.networks.serialization import describe_generator, save_generator

if TYPE_CHECKING:
    from lightning_modules.adversarial import AdversarialModule

logger = logging.getLogger("imago")

BEST_GENERATOR = "best_generator.safetensors"
BEST_CHECKPOINT = "checkpoints/best.ckpt"
BEST_RECORD = "best.json"


def log_rows(trainer: pl.Trainer, module: AdversarialModule, rows: list[Row], seconds: float) -> None:
    """Tells what was measured, and sends it to metrics.csv and the other loggers.

    Args:
        trainer: Its loggers and its :class:`ScalarLog`.
        module: What was measured.
        rows: The numbers.
        seconds: How long it took: time that does not count as training.
    """
    numbers: dict[str, float] = {"images_seen": module.images_seen}
    for row in rows:
        numbers[row.metric] = row.value
        if row.reference is not None:
            numbers[f"{row.metric}/reference"] = row.reference
    if trainer.is_global_zero:
        told = [row for row in rows if not row.metric.startswith("swd/") or row.metric == "swd/avg"]
        shown = ", ".join(f"{row.metric} {row.value:.4g}" for row in told)
        logger.info("%d images seen: %s (%.0f s)", module.images_seen, shown, seconds)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Pruning):
            callback.measured(trainer, module, rows)
    scalar_logs = [callback for callback in trainer.callbacks if isinstance(callback, ScalarLog)]  # type: ignore[attr-defined]
    if scalar_logs:
        scalar_logs[0].add(trainer, numbers, seconds)
    else:
        for other in trainer.loggers:
            other.log_metrics(numbers, step=module.images_seen)


def put_off(trainer: pl.Trainer, module: AdversarialModule) -> bool:
    """Whether measuring has to wait until the run goes on: it may take longer than a cluster waits for a checkpoint."""
    totals = [snapshot.total_images for snapshot in trainer.checkpoint_callbacks]  # type: ignore[attr-defined]
    module.measurement_due = module.stopping.agreed and module.images_seen < min(totals, default=0)
    return module.measurement_due


def make_up(module: AdversarialModule, measure: Callable[[], None]) -> None:
    """Before the next step: measures what was put off, at the stage of growth that it was put off at."""
    if not module.measurement_due:
        return
    module.measurement_due = False
    following, module.stage = module.stage, module.schedule.at(module.step_started_at)
    measure()
    module.stage = following


class BestCheckpoint:
    """Keeps the best checkpoint of a run by a metric: ``checkpoints/best.ckpt`` and ``best_generator.safetensors``.

    Args:
        best_by: The metric's row, "swd/avg"; None: nothing is kept.
    """

    def __init__(self, best_by: str | None) -> None:
        self.best_by = best_by
        self._failing = False

    def keep(self, trainer: pl.Trainer, module: AdversarialModule, rows: list[Row]) -> None:
        """Writes the generator and the checkpoint if they are the best so far; on the first process alone."""
        if self.best_by is None:
            return
        (row,) = (row for row in rows if row.metric == self.best_by)
        if not trainer.is_global_zero or not math.isfinite(row.value):
            return
        run_dir = Path(trainer.default_root_dir)
        best = _read_best(run_dir / BEST_RECORD, _what(row))
        if best is not None and (row.value <= best if row.higher_is_better else row.value >= best):
            return
        stage = module.stage
        description = describe_generator(
            module.generator_ema, stage.resolution, stage.alpha, module.images_seen, module.labels
        )
        try:
            save_generator(run_dir / BEST_GENERATOR, module.generator_ema, description)
            for snapshot in trainer.checkpoint_callbacks:
                with atomic_path(run_dir / BEST_CHECKPOINT) as temporary:
                    write_synced(temporary, snapshot.state(module, description))  # type: ignore[attr-defined]
            record = {**_what(row), "value": row.value, "images_seen": module.images_seen}
            with atomic_path(run_dir / BEST_RECORD) as temporary:
                temporary.write_text(json.dumps(record) + "\n")
            self._failing = False
        except OSError as error:  # a full disk costs the best checkpoint, not the run
            if not self._failing:
                logger.warning("the best checkpoint could not be written (%s)", error.strerror or error)
            self._failing = True


def _what(row: Row) -> dict[str, Any]:
    """What makes two values of a row comparable."""
    return {"metric": row.metric, "images": row.images, "protocol": row.protocol}


def _read_best(path: Path, what: dict[str, Any]) -> float | None:
    """The best value so far; None: of no metric, another one, or measured otherwise."""
    try:
        record = json.loads(path.read_text())
        return float(record["value"]) if {**record, **what} == record else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
