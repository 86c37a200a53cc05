"""PGGAN: networks that grow while they train (Karras et al. 2018)."""

import copy
from collections.abc import Sequence
from typing import cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from callbacks.generator_ema import GeneratorEMA
from callbacks.progressive_growing import ProgressiveGrowing
from imago.errors import UserError
from imago.growth import GrowthSchedule
from imago.losses import AdversarialLoss
from imago.networks import ProgressiveDiscriminator, ProgressiveGenerator
from lightning_modules.adversarial import AdversarialModule


class PGGAN(AdversarialModule):
    """The progressive networks in the adversarial step.

    Args:
        loss: The adversarial loss.
        schedule: When to grow, and batch size and learning rate along the way.
        base: (height, width) of the smallest images.
        channels: Colour channels.
        seed: Keys initial weights and all draws.
        latent_size: Components of a latent.
        fmap_base: See :class:`ProgressiveGenerator`.
        fmap_max: See :class:`ProgressiveGenerator`.
        n_critic: Discriminator steps per generator step.
        betas: Adam's β₁ and β₂.
        eps: Adam's ε.
        ema_half_life: See :class:`GeneratorEMA`.
        ema_decay: See :class:`GeneratorEMA`.
        ema_rampup: See :class:`GeneratorEMA`.
        micro_batch: Most images a process takes through a network at once.
        channels_last: Memory format.
    """

    def __init__(
        self,
        loss: AdversarialLoss,
        schedule: GrowthSchedule,
        base: Sequence[int] = (4, 4),
        channels: int = 3,
        seed: int = 0,
        latent_size: int = 512,
        fmap_base: int = 8192,
        fmap_max: int = 512,
        n_critic: int = 1,
        betas: Sequence[float] = (0.0, 0.99),
        eps: float = 1e-8,
        ema_half_life: float | None = 10_000.0,
        ema_decay: float | None = None,
        ema_rampup: float | None = None,
        micro_batch: int | None = None,
        channels_last: bool = True,
    ) -> None:
        if n_critic < 1:
            raise UserError(f"model.n_critic must be at least 1, not {n_critic}")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"model.betas must be two numbers in [0, 1), not {list(betas)}")
        if not eps > 0:
            raise UserError(f"model.eps must be above 0, not {eps}")
        resolution, extent = schedule.resolution, (base[0], base[1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator = ProgressiveGenerator(resolution, channels, extent, latent_size, fmap_base, fmap_max)
            generator.level_of(schedule.resolutions[0])  # an error if growth starts below the base
            discriminator = ProgressiveDiscriminator(
                resolution, channels, extent, fmap_base, fmap_max, schedule.mbstd_group
            )
        super().__init__(
            generator,
            discriminator,
            copy.deepcopy(generator),
            loss,
            schedule,
            seed,
            n_critic=n_critic,
            betas=betas,
            eps=eps,
            micro_batch=micro_batch,
            channels_last=channels_last,
        )
        self.ema = GeneratorEMA(ema_half_life, ema_decay, ema_rampup)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Growth and the averaged generator belong to the model: no choice of callbacks can drop them."""
        return [ProgressiveGrowing(), self.ema]

    def setup(self, stage: str) -> None:
        """Puts growth and averaging before the callbacks that look at their results (sample grids)."""
        self.trainer.callbacks.sort(key=lambda callback: not isinstance(callback, (ProgressiveGrowing, GeneratorEMA)))  # type: ignore[attr-defined]

    def active_parameters(self, network: nn.Module) -> list[nn.Parameter]:
        network = cast(ProgressiveGenerator | ProgressiveDiscriminator, network)
        return network.active_parameters(self.stage.resolution, self.stage.alpha)

    def relative_cost(self, resolution: int) -> float:
        generator = cast(ProgressiveGenerator, self.generator)
        levels = range(generator.level_of(resolution) + 1)
        return float(sum(4**level * generator.feature_maps(level) ** 2 for level in levels))

    def generate(self, network: nn.Module, latents: Tensor) -> Tensor:
        return network(latents, resolution=self.stage.resolution, alpha=self.stage.alpha)

    def discriminate(self, images: Tensor) -> Tensor:
        return self.discriminator(images, alpha=self.stage.alpha, group_size=self.stage.group_size)
