"""Stops a run that diverges, warns about one that collapses."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from callbacks.cadence import check_interval, due
from callbacks.loggers import alert
from imago.distributed import average_over_processes
from imago.errors import UserError

if TYPE_CHECKING:
    from lightning_modules.adversarial import AdversarialModule

logger = logging.getLogger("imago")


class DivergenceError(UserError):
    """Too many updates in a row were not finite."""


class DivergenceGuard(pl.Callback):
    """Watches the updates that the training step skipped because a loss or gradient was NaN or infinite.

    Args:
        max_skipped_in_a_row: Training steps in a row with a skipped update, of either network, after which the run
            stops.
        collapse_ratio: Warn when the samples' standard deviation over the batch falls below this share of the reals'.
        every_images: How often to look for collapse.
    """

    def __init__(self, max_skipped_in_a_row: int = 20, collapse_ratio: float = 0.1, every_images: int = 5_000) -> None:
        self.max_skipped_in_a_row = check_interval(
            "callbacks.divergence_guard.max_skipped_in_a_row", max_skipped_in_a_row
        )
        self.every_images = check_interval("callbacks.divergence_guard.every_images", every_images)
        self.collapse_ratio = collapse_ratio
        self._skipped = 0
        self._collapsed = False  # when it was last looked at

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._skipped = pl_module.skipped_updates  # type: ignore[assignment]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        if module.skipped_updates > self._skipped:
            logger.warning(
                "%d images seen: a loss or gradient was NaN or infinite, update skipped (%d steps in a row, %d updates "
                "in all)",
                module.images_seen,
                module.skipped_in_a_row,
                module.skipped_updates,
            )
        self._skipped = module.skipped_updates
        if module.skipped_in_a_row >= self.max_skipped_in_a_row:
            message = (
                f"training diverged: a loss or gradient of {module.skipped_in_a_row} steps in a row was not finite, "
                f"up to {module.images_seen} images seen (resolution {module.stage.resolution}); the last good "
                "checkpoint is kept; try a lower growth.learning_rate, or trainer.precision=32-true"
            )
            alert(trainer.loggers, "training diverged", message)
            raise DivergenceError(message)
        if due(module, self.every_images):
            spreads = [module.terms["fake_spread"].clone(), module.terms["real_spread"].clone()]
            average_over_processes(spreads)
            fake, real = (float(spread) for spread in spreads)
            if fake < self.collapse_ratio * real:
                message = (
                    f"{module.images_seen} images seen: the generator may have collapsed: its samples vary by "
                    f"{fake:.3f}, the reals by {real:.3f}"
                )
                logger.warning(message)
                if not self._collapsed:
                    alert(trainer.loggers, "the generator may have collapsed", message)
            self._collapsed = fake < self.collapse_ratio * real
