"""DCGAN: convolutional pyramids of one size (Radford et al. 2016)."""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from callbacks.generator_ema import GeneratorEMA
from imago.errors import UserError
from imago.growth import GrowthSchedule
from imago.labels import LabelDistribution
from imago.losses import AdversarialLoss
from imago.networks import DCGANDiscriminator, DCGANGenerator
from imago.networks.autoencoder import AutoencoderDiscriminator
from imago.networks.batch_norm import Normalization
from imago.networks.pyramid import PyramidDiscriminator, PyramidGenerator
from imago.noise import normal_tensors
from lightning_modules.adversarial import AdversarialModule


class DCGAN(AdversarialModule):
    """Convolutional pyramids in the adversarial step.

    Batch normalisation takes its statistics over a process's share of the batch (over a micro-batch where there are
    several), reals and fakes apart. They therefore depend on the number of processes, and so do the weights that are
    learnt; ``batch_norm_group`` takes them over groups of so many images instead, which do not. The averaged generator
    normalises by running statistics, averages over all processes.

    Args:
        loss: The adversarial loss.
        schedule: Batch size and learning rate; it must not grow.
        base: (height, width) of the smallest images.
        channels: Colour channels.
        seed: Keys initial weights and all draws.
        labels: See :class:`AdversarialModule`.
        label_weight: See :class:`AdversarialModule`.
        latent_size: Components of a latent.
        filters: Feature maps next to the image.
        max_channels: At most this many feature maps; None: no limit.
        telescope: ζ or (ζ₁, ζ₂): how much larger the networks see the images (Curtó et al. 2020, section 4.2).
        telescope_mode: ``bilinear`` or ``nearest``: how they are enlarged; the paper does not say.
        generator_norm: ``batch``, ``layer`` or ``none``.
        discriminator_norm: Likewise.
        batch_norm_group: Images that share batch statistics; None: a process's share.
        sync_batch_norm: Batch statistics over all processes instead, by PyTorch's SyncBatchNorm: on GPUs only.
        init: ``normal`` or ``lecun``; see :func:`imago.networks.pyramid.initialize`.
        generator_noise: Standard deviation of the normal noise on the generator's input in training.
        discriminator_noise: The same for the discriminator's input.
        noise_decay_images: Images over which both fade out linearly; None: never.
        n_critic: Discriminator steps per generator step.
        betas: Adam's β₁ and β₂.
        eps: Adam's ε.
        ema_half_life: See :class:`GeneratorEMA`.
        ema_decay: See :class:`GeneratorEMA`.
        ema_rampup: See :class:`GeneratorEMA`.
        micro_batch: Most images a process takes through a network at once.
        channels_last: Memory format.
        **options: Of the networks of a variant.

    Raises:
        UserError: A schedule that grows, a loss that these networks cannot be trained with, or values out of range.
    """

    generator_class: ClassVar[type[PyramidGenerator]] = DCGANGenerator
    discriminator_class: ClassVar[type[PyramidDiscriminator]] = DCGANDiscriminator

    def __init__(
        self,
        loss: AdversarialLoss,
        schedule: GrowthSchedule,
        base: Sequence[int] = (4, 4),
        channels: int = 3,
        seed: int = 0,
        labels: LabelDistribution | None = None,
        label_weight: float = 1.0,
        latent_size: int = 100,
        filters: int = 64,
        max_channels: int | None = None,
        telescope: int | Sequence[int] = 1,
        telescope_mode: str = "bilinear",
        generator_norm: str = "batch",
        discriminator_norm: str = "batch",
        batch_norm_group: int | None = None,
        sync_batch_norm: bool = False,
        init: str = "normal",
        generator_noise: float = 0.0,
        discriminator_noise: float = 0.0,
        noise_decay_images: int | None = None,
        n_critic: int = 1,
        betas: Sequence[float] = (0.5, 0.999),
        eps: float = 1e-8,
        ema_half_life: float | None = 10_000.0,
        ema_decay: float | None = None,
        ema_rampup: float | None = None,
        micro_batch: int | None = None,
        channels_last: bool = True,
        **options: Any,
    ) -> None:
        if len(schedule.resolutions) > 1:
            first, last = schedule.resolutions[0], schedule.resolutions[-1]
            raise UserError(
                f"this model has one size and does not grow from {first} to {last}: take growth=fixed, or "
                f"growth.start_resolution={last}"
            )
        if telescope_mode not in ("bilinear", "nearest"):
            raise UserError(f"model.telescope_mode must be bilinear or nearest, not {telescope_mode}")
        if not all(0 <= noise < float("inf") for noise in (generator_noise, discriminator_noise)):
            raise UserError("model.generator_noise and model.discriminator_noise must not be negative")
        if noise_decay_images is not None and noise_decay_images < 1:
            raise UserError(f"model.noise_decay_images must be at least 1 or null, not {noise_decay_images}")
        check_normalizations(generator_norm, discriminator_norm, batch_norm_group, sync_batch_norm, loss)
        generator_kind, discriminator_kind = (
            cast(Normalization, "sync" if sync_batch_norm and norm == "batch" else norm)
            for norm in (generator_norm, discriminator_norm)
        )
        shared: dict[str, Any] = {
            "resolution": schedule.resolution,
            "channels": channels,
            "base": base,
            "filters": filters,
            "max_channels": max_channels,
            "telescope": telescope,
            "init": init,
            **options,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator = self.generator_class(
                latent_size=latent_size,
                label_size=labels.coding.size if labels else 0,
                norm=generator_kind,
                **shared,
            )
            discriminator: nn.Module = self.discriminator_class(
                output_size={"score": None, "vector": loss.output_size, "image": latent_size}[loss.output],
                label_logits=labels.coding.logits if labels else 0,
                norm=discriminator_kind,
                **shared,
            )
            if loss.output == "image":
                decoder = self.generator_class(latent_size=latent_size, norm=discriminator_kind, **shared)
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
        self.telescope = generator.telescope
        self.telescope_mode = telescope_mode
        self.batch_norm_group = batch_norm_group
        self.batch_statistics = "batch" in (generator_norm, discriminator_norm)
        self.sync_batch_norm = sync_batch_norm
        self.generator_noise = generator_noise
        self.discriminator_noise = discriminator_noise
        self.noise_decay_images = noise_decay_images

    def check_division(self, processes: int) -> None:
        group = self.batch_norm_group
        for resolution, batch in self.schedule.batch_sizes.items():
            if group is not None and group > batch:
                raise UserError(f"model.batch_norm_group={group} is more than the batch of {batch} at {resolution}²")
        self.schedule.check_division(processes, self.micro_batch, group or 1)
        self.check_pairs(processes)
        smallest = min(self.schedule.batch_sizes.values()) // processes
        smallest = group or (smallest if self.micro_batch is None else min(smallest, self.micro_batch))
        features = cast(PyramidGenerator, self.generator).smallest
        if self.batch_statistics and smallest * features[0] * features[1] < 2:
            raise UserError(
                "batch normalisation of a single image with features of 1×1 has nothing to average over: take larger "
                "batches, or model.generator_norm=layer model.discriminator_norm=layer"
            )

    def setup(self, stage: str) -> None:
        """Also refuses SyncBatchNorm on several processes without GPUs.

        Raises:
            UserError: That.
        """
        super().setup(stage)
        if self.sync_batch_norm and self.trainer.world_size > 1 and self.trainer.strategy.root_device.type == "cpu":
            raise UserError(
                "model.sync_batch_norm: PyTorch's SyncBatchNorm works on GPUs only; on CPUs take "
                "model.batch_norm_group, whose statistics do not depend on the number of processes either"
            )

    @property
    def group_size(self) -> int:
        return self.batch_norm_group or 1

    def noise_share(self) -> float:
        """The share of the input noise that is left at the present step, in [0, 1]."""
        if self.noise_decay_images is None:
            return 1.0
        return max(0.0, 1.0 - self.images_seen / self.noise_decay_images)

    def prepare_reals(self, images: Tensor) -> Tensor:
        """Reals as the telescope shows them: (N, C, ζ₁H, ζ₂W)."""
        if self.telescope == (1, 1):
            return images
        scale = (float(self.telescope[0]), float(self.telescope[1]))
        if self.telescope_mode == "nearest":
            return F.interpolate(images, scale_factor=scale, mode="nearest")
        return F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)

    def perturb_latents(self, latents: Tensor, purpose: str, first: int) -> Tensor:
        return self._with_noise(latents, self.generator_noise, purpose, first)

    def perturb_images(self, images: Tensor, purpose: str, first: int) -> Tensor:
        return self._with_noise(images, self.discriminator_noise, purpose, first)

    def _with_noise(self, x: Tensor, strength: float, purpose: str, first: int) -> Tensor:
        strength *= self.noise_share()
        if strength == 0:
            return x
        return x + strength * normal_tensors(self.seed, purpose, first, len(x), tuple(x.shape[1:]), x.device, x.dtype)

    def generate(self, network: nn.Module, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return network(latents, labels, group_size=self.batch_norm_group)

    def discriminate(
        self, images: Tensor, minibatch: int, conditions: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        discriminator = cast(PyramidDiscriminator, self.discriminator)
        return discriminator.outputs_and_logits(images, group_size=self.batch_norm_group or minibatch)


def check_normalizations(
    generator_norm: str, discriminator_norm: str, group: int | None, sync: bool, loss: AdversarialLoss
) -> None:
    """Refuses normalisations that cannot be trained.

    Raises:
        UserError: An unknown one, contradicting options, or batch statistics under a gradient penalty.
    """
    for name, norm in (("generator_norm", generator_norm), ("discriminator_norm", discriminator_norm)):
        if norm not in ("batch", "layer", "none"):
            raise UserError(f"model.{name} must be batch, layer or none, not {norm}")
    if group is not None and (group < 2 or sync):
        raise UserError("model.batch_norm_group must be at least 2, and goes without model.sync_batch_norm")
    if not loss.penalizes_gradients or discriminator_norm != "batch":
        return
    if sync:
        raise UserError(
            "model.sync_batch_norm: SyncBatchNorm has no second derivative, which this loss's gradient penalty needs; "
            "take model.discriminator_norm=layer, or a loss without a gradient penalty"
        )
    raise UserError(
        "batch normalisation makes a discriminator's score of an image depend on the other images, while this loss's "
        "gradient penalty is about each image by itself (Gulrajani et al. 2017, section 4): take "
        "model.discriminator_norm=layer, or a loss without a gradient penalty"
    )
