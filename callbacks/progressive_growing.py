"""Applies the growth schedule: sets the stage of each step and starts the optimizers afresh at phase boundaries."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

if TYPE_CHECKING:
    from lightning_modules.adversarial import AdversarialModule

logger = logging.getLogger("imago")


class ProgressiveGrowing(pl.Callback):
    """Growth as a callback; the arithmetic is :class:`imago.growth.GrowthSchedule`'s.

    Adam's moments are dropped when a fade-in starts and when it ends, as in the official code: what the networks
    compute changes there. The reset happens at the end of the step that crosses the boundary, before any checkpoint of
    that step, so a resumed run needs no memory of the phase it was in.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        module.check_division(trainer.world_size)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        module.stage = module.schedule.at(module.images_seen)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        following = module.schedule.at(module.images_seen)
        if following.phase != module.stage.phase:
            for optimizer in trainer.optimizers:
                optimizer.state.clear()
            action = "fades in" if following.fading else "is stabilised"
            logger.info("%d images seen: resolution %d %s", module.images_seen, following.resolution, action)
