"""PGGAN: networks that grow while they train (Karras et al. 2018)."""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from callbacks.generator_ema import GeneratorEMA
from imago.growth import GrowthSchedule
from imago.labels import LabelDistribution
from imago.losses import AdversarialLoss
from imago.networks import ProgressiveDiscriminator, ProgressiveGenerator
from imago.networks.autoencoder import AutoencoderDiscriminator
from lightning_modules.adversarial import AdversarialModule


class PGGAN(AdversarialModule):
    """The progressive networks in the adversarial step.

    Args:
        loss: The adversarial loss.
        schedule: When to grow, and batch size and learning rate along the way.
        base: (height, width) of the smallest images.
        channels: Colour channels.
        seed: Keys initial weights and all draws.
        labels: See :class:`AdversarialModule`.
        label_weight: See :class:`AdversarialModule`.
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
        labels: LabelDistribution | None = None,
        label_weight: float = 1.0,
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
        resolution, extent = schedule.resolution, (base[0], base[1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sizes: dict[str, Any] = {"channels": channels, "base": extent, "fmap_base": fmap_base, "fmap_max": fmap_max}
            generator = ProgressiveGenerator(
                resolution, **sizes, latent_size=latent_size, label_size=labels.coding.size if labels else 0
            )
            generator.level_of(schedule.resolutions[0])  # an error if growth starts below the base
            discriminator: nn.Module = ProgressiveDiscriminator(
                resolution,
                **sizes,
                mbstd_group=schedule.mbstd_group,
                output_size={"score": None, "vector": loss.output_size, "image": latent_size}[loss.output],
                label_logits=labels.coding.logits if labels else 0,
            )
            if loss.output == "image":
                decoder = ProgressiveGenerator(resolution, **sizes, latent_size=latent_size)
                discriminator = AutoencoderDiscriminator(discriminator, decoder)
        super().__init__(
            generator,
            discriminator,
            copy.deepcopy(generator),
            loss,
            schedule,
            seed,
            GeneratorEMA(ema_half_life, ema_decay, ema_rampup),
            labels=labels,
            label_weight=label_weight,
            n_critic=n_critic,
            betas=betas,
            eps=eps,
            micro_batch=micro_batch,
            channels_last=channels_last,
        )

    def active_parameters(self, network: nn.Module) -> list[nn.Parameter]:
        network = cast(ProgressiveGenerator | ProgressiveDiscriminator | AutoencoderDiscriminator, network)
        return network.active_parameters(self.stage.resolution, self.stage.alpha)

    def relative_cost(self, resolution: int) -> float:
        generator = cast(ProgressiveGenerator, self.generator)
        levels = range(generator.level_of(resolution) + 1)
        return float(sum(4**level * generator.feature_maps(level) ** 2 for level in levels))

    def generate(self, network: nn.Module, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return network(latents, labels, resolution=self.stage.resolution, alpha=self.stage.alpha)

    def discriminate(
        self, images: Tensor, minibatch: int, conditions: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        discriminator = cast(ProgressiveDiscriminator, self.discriminator)
        return discriminator.outputs_and_logits(images, alpha=self.stage.alpha, group_size=self.stage.group_size)
