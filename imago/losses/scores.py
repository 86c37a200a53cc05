"""Losses of a discriminator that gives each image a score."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from imago.losses.penalties import Penalties
from imago.losses.protocol import AdversarialLoss, Discriminator, LossTerms


class ScoreLoss(AdversarialLoss):
    """What they share: one pass for reals and fakes, penalties, the log.

    Args:
        **penalties: See :class:`Penalties`.

    Raises:
        UserError: Penalties out of range.
    """

    def __init__(self, **penalties: Any) -> None:
        super().__init__()
        self.penalties = Penalties(**penalties)

    @property
    def penalizes_gradients(self) -> bool:
        return self.penalties.of_gradients

    def of_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's loss, a scalar, of scores (N,) each."""
        raise NotImplementedError

    def of_generator(self, fake: Tensor, real: Tensor | None) -> Tensor:
        """The generator's loss, a scalar, of scores (N,); ``real`` where the loss sees reals."""
        raise NotImplementedError

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fakes: Sequence[Tensor], uniform: Tensor
    ) -> LossTerms:
        (fake,) = fakes
        # One pass for both: the discriminator keeps the two minibatches apart where it compares images.
        real_score, fake_score = discriminator(torch.cat([real, fake])).chunk(2)
        terms = {
            "loss": self.of_discriminator(real_score, fake_score),
            "real_score": real_score.mean(),
            "fake_score": fake_score.mean(),
        }
        return self.penalties.add(terms, discriminator, real, fake, uniform, real_score)

    def generator_loss(self, discriminator: Discriminator, fakes: Tensor, real: Tensor | None = None) -> LossTerms:
        if not self.generator_sees_reals:
            return {"loss": self.of_generator(discriminator(fakes), None)}
        assert real is not None
        fake_score, real_score = discriminator(torch.cat([fakes, real])).chunk(2)
        return {"loss": self.of_generator(fake_score, real_score)}

    def after_discriminator_step(self, discriminator: nn.Module, terms: Mapping[str, Tensor]) -> None:
        self.penalties.after_discriminator_step()
