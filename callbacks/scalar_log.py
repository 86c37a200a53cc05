"""Losses, penalties, gradient norms, growth and speed: to metrics.csv always, to the other loggers if there are any."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from callbacks.cadence import check_interval, due
from callbacks.csv_table import CsvTable
from imago.distributed import average_over_processes

if TYPE_CHECKING:
    from lightning_modules.adversarial import AdversarialModule


logger = logging.getLogger("imago")


class ScalarLog(pl.Callback):
    """Logs the newest step's terms, averaged over processes, against images_seen.

    Args:
        every_images: How often.
    """

    def __init__(self, every_images: int = 500) -> None:
        self.every_images = check_interval("callbacks.scalar_log.every_images", every_images)
        self._since = (0.0, 0)
        self._failing = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        self.table = CsvTable(Path(trainer.default_root_dir) / "metrics.csv")
        if trainer.is_global_zero:
            self.table.rewind(module.images_seen)
        self._since = (time.perf_counter(), module.images_seen)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        if not due(module, self.every_images):
            return
        terms = {key: value.detach().to(torch.float64).clone() for key, value in module.terms.items()}
        average_over_processes(list(terms.values()))
        then, images = self._since
        self._since = (time.perf_counter(), module.images_seen)
        row: dict[str, float] = {
            "images_seen": module.images_seen,
            "resolution": module.stage.resolution,
            "alpha": module.stage.alpha,
            "batch_size": module.stage.batch_size,
            "learning_rate": module.stage.learning_rate,
            **{key: float(value) for key, value in terms.items()},
            "skipped_updates": module.skipped_updates,
            "images_per_second": (module.images_seen - images) / max(self._since[0] - then, 1e-9),
        }
        if module.device.type == "cuda":
            row["peak_gpu_memory_gib"] = torch.cuda.max_memory_allocated(module.device) / 2**30
        self._write(trainer, row)

    def add(self, trainer: pl.Trainer, row: dict[str, float], seconds: float = 0.0) -> None:
        """Logs a row of another callback's numbers.

        Args:
            trainer: Its loggers get the row, too.
            row: ``images_seen`` and the numbers.
            seconds: How long it took to find them: time that does not count as training.
        """
        self._since = (self._since[0] + seconds, self._since[1])
        self._write(trainer, row)

    @rank_zero_only
    def _write(self, trainer: pl.Trainer, row: dict[str, float]) -> None:
        try:
            self.table.add(row)
            self._failing = False
        except OSError as error:  # a full disk costs no more than this; the row is written when there is room again
            if not self._failing:
                logger.warning("metrics.csv could not be written (%s); its rows wait for room", error.strerror or error)
            self._failing = True
        for other in trainer.loggers:
            other.log_metrics(row, step=int(row["images_seen"]))
