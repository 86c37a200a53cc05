"""What a GAN variant may change of the step that all of them share."""

from typing import Any, TypeAlias

import pytorch_lightning as pl
from torch import Tensor, nn

from imago.errors import UserError
from imago.growth import GrowthSchedule, GrowthStage, split_batch
from imago.losses import AdversarialLoss, LossTerms
from imago.networks.layers import fade_reals

Batch: TypeAlias = dict[str, Any]


class Variant(pl.LightningModule):
    """The hooks of :class:`lightning_modules.adversarial.AdversarialModule`, with what most variants do."""

    takes_pairs = False  # of a low-resolution crop and the crop it is of, instead of images
    loss: AdversarialLoss
    schedule: GrowthSchedule
    stage: GrowthStage
    micro_batch: int | None

    def active_parameters(self, network: nn.Module) -> list[nn.Parameter]:
        """The parameters of a network that take part at the present stage, in a fixed order."""
        return list(network.parameters())

    def check_division(self, processes: int) -> None:
        """Checks that all batches divide among processes and micro-batches.

        Raises:
            UserError: They do not; says what would.
        """
        self.schedule.check_division(processes, self.micro_batch)
        self.check_pairs(processes)

    def check_pairs(self, processes: int) -> None:
        """Checks that a batch which is divided leaves the pairs whole that a loss compares.

        Raises:
            UserError: It does not.
        """
        for resolution, batch in self.schedule.batch_sizes.items():
            share = batch // processes
            size = share // split_batch(share, self.micro_batch, min(self.group_size, share))
            if self.loss.compares_pairs and size != batch and size % 2:
                raise UserError(
                    f"this loss compares images in pairs, and the batch of {batch} at {resolution}² is divided "
                    f"into parts of {size}: take parts of even size"
                )

    @property
    def group_size(self) -> int:
        """Images that the networks compare with each other: micro-batches hold whole groups."""
        return self.stage.group_size

    def generate(self, network: nn.Module, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) of a generator at the present stage.

        Args:
            network: The generator, or its average.
            latents: (N, latent_size).
            labels: (N, size) one-hot, or None.
        """
        raise NotImplementedError

    def discriminate(
        self, images: Tensor, minibatch: int, conditions: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The discriminator's outputs at the present stage, and its auxiliary classifier's logits.

        Args:
            images: (k · minibatch, C, H, W): one or several minibatches, which must not be compared with each other.
            minibatch: Images of each.
            conditions: (minibatch, …) what the images of each minibatch were made from, of a model that has such.
        """
        raise NotImplementedError

    def conditions(self, batch: Batch, i: int) -> Tensor | None:
        """What the images of the i-th global batch of a step are made from: (N, …), this process's share.

        None: from latents alone, which the step draws.
        """
        return None

    def with_generator_terms(self, terms: LossTerms, fakes: Tensor, reals: Tensor) -> LossTerms:
        """The terms of a generator step after more of them have joined: a distance to the reals, say.

        Args:
            terms: With the loss.
            fakes: (N, C, H, W) from the generator.
            reals: uint8 (N, C, H, W), in the same order.
        """
        return terms

    def prepare_reals(self, images: Tensor) -> Tensor:
        """Reals (N, C, H, W) in [-1, 1] as the discriminator sees them at the present stage."""
        return fade_reals(images, self.stage.alpha)

    def perturb_latents(self, latents: Tensor, purpose: str, first: int) -> Tensor:
        """Latents (N, latent_size) as the generator sees them in training; ``purpose`` and ``first`` key draws."""
        return latents

    def perturb_images(self, images: Tensor, purpose: str, first: int) -> Tensor:
        """Images of one minibatch as the discriminator sees them in training; ``purpose`` and ``first`` key draws."""
        return images

    def relative_cost(self, resolution: int) -> float:
        """Arithmetic of a step at a resolution, in any unit: for estimating the time that remains."""
        return float(resolution**2)
