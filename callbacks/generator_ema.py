"""The averaged generator: an exponential moving average of the generator's weights (Karras et al. 2018, A.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch

from imago.errors import UserError

if TYPE_CHECKING:
    from lightning_modules.adversarial import AdversarialModule


class GeneratorEMA(pl.Callback):
    """Moves ``generator_ema`` towards ``generator`` after every step.

    Exactly one of ``half_life`` and ``decay`` is given. A half-life in images does not depend on the batch size; a
    decay per step, 0.999 in the paper, means a half-life of 693 steps whatever their size; 0 keeps no average at all.
    Blocks that have not been reached yet are equal in both networks and left alone.

    The running statistics of batch normalisation are averaged likewise: those of the generator belong to its newest
    weights, not to their average.

    Args:
        half_life: Images after which a weight's old value counts half.
        decay: Weight of the old average at each step, in [0, 1).
        rampup: The half-life is at most this share of images_seen, so that early averages follow faster.

    Raises:
        UserError: Both or none of half_life and decay, or values out of range.
    """

    def __init__(self, half_life: float | None = 10_000.0, decay: float | None = None, rampup: float | None = None):
        if (half_life is None) == (decay is None):
            raise UserError("give either model.ema_half_life (images) or model.ema_decay (per step), the other null")
        if half_life is not None and half_life <= 0:
            raise UserError(f"model.ema_half_life must be above 0, not {half_life}")
        if decay is not None and (not 0 <= decay < 1 or rampup is not None):
            raise UserError("model.ema_decay must lie in [0, 1) and takes no ema_rampup")
        if rampup is not None and rampup <= 0:
            raise UserError(f"model.ema_rampup must be above 0, not {rampup}")
        self.half_life = half_life
        self.decay = decay
        self.rampup = rampup

    def decay_for(self, step_images: int, images_seen: int) -> float:
        """Weight of the old average for a step of ``step_images`` reals that ended at ``images_seen``."""
        if self.decay is not None:
            return self.decay
        assert self.half_life is not None
        half_life = self.half_life if self.rampup is None else min(self.half_life, self.rampup * images_seen)
        return 0.5 ** (step_images / half_life)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        decay = self.decay_for(module.images_seen - module.step_started_at, module.images_seen)
        average: list[torch.Tensor] = [*module.active_parameters(module.generator_ema)]
        torch._foreach_lerp_(average, [*module.active_parameters(module.generator)], 1 - decay)
        for old, new in zip(module.generator_ema.buffers(), module.generator.buffers(), strict=True):
            if old.is_floating_point():
                old.lerp_(new, 1 - decay)
            else:
                old.copy_(new)
