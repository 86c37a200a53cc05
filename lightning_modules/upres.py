"""The up-resolution network in the adversarial step (Tyka 2017)."""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from callbacks.generator_ema import GeneratorEMA
from imago.errors import UserError
from imago.faces.guide import GuideStyle
from imago.growth import GrowthSchedule
from imago.images import to_uint8
from imago.losses import AdversarialLoss, LossTerms
from imago.networks.jnet import JNet
from imago.networks.patch_discriminator import PatchAutoencoder, PatchDiscriminator
from imago.upres.pairs import PairGeometry
from lightning_modules.adversarial import AdversarialModule
from lightning_modules.dcgan import check_normalizations
from lightning_modules.variant import Batch

_CODE = 32  # channels of an autoencoder's code


class Upres(AdversarialModule):
    """A J-net against a discriminator of patches, on pairs of crops.

    The generator minimises ``gan_weight`` times the adversarial loss plus ``l1_weight`` times the L1 distance of its
    output and the real crop after average pooling to the extent of its input: "the L1 loss only ensures that the
    down-sampled output of the generator is a plausible source for the 32x32 input" (Tyka 2017). The weights are
    pix2pix's, 1 and 100 (Isola et al. 2017, appendix 6.2).

    Args:
        loss: The adversarial loss.
        schedule: Batch size and learning rate; it must not grow.
        base: (height, width) of the smallest pictures, which gives the aspect.
        channels: Colour channels.
        seed: Keys initial weights and all draws.
        low_size: Height of the low-resolution pictures that crops are taken of.
        face_size: Height of the pictures that these are shrunk from.
        crop: Extent of the crops.
        guide: ``rgb``, ``channels`` or ``none``.
        filters: See :class:`JNet`.
        max_channels: See :class:`JNet`.
        depth: See :class:`JNet`.
        norm: See :class:`JNet`.
        inference_statistics: See :class:`JNet`.
        upsampling: See :class:`JNet`.
        init: See :class:`JNet`.
        discriminator_filters: See :class:`PatchDiscriminator`.
        discriminator_norm: ``batch``, ``layer`` or ``none``.
        batch_norm_group: Crops that share batch statistics; None: a process's share.
        l1_weight: Of the L1 distance, for values in [-1, 1].
        gan_weight: Of the adversarial loss.
        n_critic: Discriminator steps per generator step.
        betas: Adam's β₁ and β₂.
        eps: Adam's ε.
        ema_half_life: See :class:`GeneratorEMA`.
        ema_decay: See :class:`GeneratorEMA`.
        ema_rampup: See :class:`GeneratorEMA`.
        micro_batch: Most crops a process takes through a network at once.
        channels_last: Memory format.

    Raises:
        UserError: A schedule that grows, numbers that do not fit each other, or a loss that cannot be trained.
    """

    takes_pairs = True

    def __init__(
        self,
        loss: AdversarialLoss,
        schedule: GrowthSchedule,
        base: Sequence[int] = (4, 4),
        channels: int = 3,
        seed: int = 0,
        low_size: int = 96,
        face_size: int = 128,
        crop: int = 32,
        guide: GuideStyle = "rgb",
        filters: int = 64,
        max_channels: int = 512,
        depth: int = 3,
        norm: str = "none",
        inference_statistics: str = "running",
        upsampling: str = "transposed",
        init: str = "he",
        discriminator_filters: int = 64,
        discriminator_norm: str = "batch",
        batch_norm_group: int | None = None,
        l1_weight: float = 100.0,
        gan_weight: float = 1.0,
        n_critic: int = 1,
        betas: Sequence[float] = (0.5, 0.999),
        eps: float = 1e-8,
        ema_half_life: float | None = 10_000.0,
        ema_decay: float | None = None,
        ema_rampup: float | None = 0.05,
        micro_batch: int | None = None,
        channels_last: bool = True,
    ) -> None:
        if len(schedule.resolutions) > 1:
            raise UserError("this model has one size and does not grow: take growth=fixed")
        if not (0 <= l1_weight < float("inf") and 0 <= gan_weight < float("inf") and l1_weight + gan_weight > 0):
            raise UserError("model.l1_weight and model.gan_weight must not be negative, nor both 0")
        if channels != 3:
            raise UserError(f"data.channels={channels}: pictures are up-resolved in RGB")
        check_normalizations("none", discriminator_norm, batch_norm_group, False, loss)
        geometry = PairGeometry(schedule.resolution, (base[0], base[1]), face_size, low_size, crop, guide)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            shared: dict[str, Any] = {"factor": geometry.factor, "channels": channels}
            shape: dict[str, Any] = {"crop": crop, "filters": filters, "max_channels": max_channels, "depth": depth}
            generator = JNet(
                guide=guide,
                low_size=low_size,
                face_size=face_size,
                norm=cast(Any, norm),
                inference_statistics=cast(Any, inference_statistics),
                upsampling=cast(Any, upsampling),
                init=cast(Any, init),
                **shared,
                **shape,
            )
            patches = PatchDiscriminator(
                guide_channels=generator.guide_channels,
                filters=discriminator_filters,
                norm=cast(Any, discriminator_norm),
                output=cast(Any, {"score": "score", "vector": "vector", "image": "map"}[loss.output]),
                output_size={"score": 1, "vector": loss.output_size, "image": _CODE}[loss.output],
                **shared,
            )
            discriminator: nn.Module = patches
            if loss.output == "image":
                decoder = JNet(guide="none", **{**shared, **shape, "code_channels": _CODE})
                discriminator = PatchAutoencoder(patches, decoder)
        super().__init__(
            generator,
            discriminator,
            copy.deepcopy(generator),
            loss,
            schedule,
            seed,
            GeneratorEMA(ema_half_life, ema_decay, ema_rampup),
            n_critic=n_critic,
            betas=betas,
            eps=eps,
            micro_batch=micro_batch,
            channels_last=channels_last,
        )
        self.geometry = geometry
        self.batch_norm_group = batch_norm_group
        self.l1_weight = l1_weight
        self.gan_weight = gan_weight

    def check_division(self, processes: int) -> None:
        self.schedule.check_division(processes, self.micro_batch, self.batch_norm_group or 1)
        self.check_pairs(processes)

    @property
    def group_size(self) -> int:
        return self.batch_norm_group or 1

    def prepare_reals(self, images: Tensor) -> Tensor:
        return images

    def conditions(self, batch: Batch, i: int) -> Tensor | None:
        """The stacks (N, 3 + G, crop, crop) of the crops."""
        return self._images(batch["stacks"][i])

    def generate(self, network: nn.Module, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Crops (N, 3, factor · crop, factor · crop) of stacks, which take the latents' place."""
        return network(latents, group_size=self.batch_norm_group)

    def discriminate(
        self, images: Tensor, minibatch: int, conditions: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        assert conditions is not None
        stacks = conditions.repeat(len(images) // minibatch, 1, 1, 1)
        return self.discriminator(images, stacks, group_size=self.batch_norm_group or minibatch), None

    def with_generator_terms(self, terms: LossTerms, fakes: Tensor, reals: Tensor) -> LossTerms:
        small = [F.avg_pool2d(images, self.geometry.factor) for images in (fakes, self._reals(reals))]
        distance = (small[0] - small[1]).abs().mean()
        adversarial = terms["loss"]
        terms["loss"] = self.gan_weight * adversarial + self.l1_weight * distance
        return {**terms, "generator_adversarial": adversarial, "low_resolution_l1": distance}

    @torch.inference_mode()
    def samples(self, count: int) -> Tensor:
        """Crops of pictures that are kept out of training, as strips: input, guide, output, real.

        Returns:
            uint8 (count, 3, S, 4 · S), or without a guide (count, 3, S, 3 · S).
        """
        images, stacks = self.trainer.datamodule.held_out_pairs(count)  # type: ignore[attr-defined]
        strips = []
        for image, stack in zip(images, stacks, strict=True):
            output = self.generator_ema(stack[None].to(self.device, self.weight_dtype))[0].float().cpu()
            parts = [stack[:3], *([stack[3:6] * 2 - 1] if len(stack) >= 6 else [])]
            large = [F.interpolate(part[None], size=image.shape[1:], mode="nearest")[0] for part in parts]
            strips.append(torch.cat([*(to_uint8(part) for part in (*large, output)), image], dim=2))
        return torch.stack(strips)

    def training_state(self) -> dict[str, Any]:
        state = super().training_state()
        if isinstance(self.discriminator, PatchDiscriminator):
            state["discriminator_description"] = {
                "network": type(self.discriminator).__name__,
                "config": self.discriminator.config,
            }
        return state
