"""The least-squares loss (Mao et al. 2016) with the adaptive noise of PGGAN (Karras et al. 2018, appendix B)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from imago.errors import UserError
from imago.losses.protocol import Discriminator, LossTerms
from imago.losses.scores import ScoreLoss


class Lsgan(ScoreLoss):
    """D minimises w_r E[(D(x) − b)²] + w_f E[(D(G(z)) − a)²], G minimises w_r E[(D(G(z)) − b)²].

    Targets are b = 1 for reals and a = 0 for fakes with weights of ½ (Mao et al. 2016, equation 2). The official
    Theano code of PGGAN has them the other way round and the fakes at a tenth: ``real_target=0 fake_target=1
    real_weight=1 fake_weight=0.1``.

    The noise keeps the discriminator from winning: it multiplies the input of each of its 3 × 3 and 4 × 4 convolutions
    and has a standard deviation of 0.2 · max(0, d̂ − 0.5)², where d̂ ← 0.1 d + 0.9 d̂ follows the discriminator's mean
    output d. Trouble begins as d comes near 1, so d is the output for the images whose target is the larger one: the
    reals.

    Args:
        noise: 0.2; 0 adds none.
        real_target: b.
        fake_target: a.
        real_weight: w_r.
        fake_weight: w_f.
        **penalties: See :class:`Penalties`.

    Raises:
        UserError: Equal or infinite targets, negative weights, penalties out of range.
    """

    average_output: Tensor

    def __init__(
        self,
        noise: float = 0.2,
        real_target: float = 1.0,
        fake_target: float = 0.0,
        real_weight: float = 0.5,
        fake_weight: float = 0.5,
        **penalties: Any,
    ) -> None:
        super().__init__(**penalties)
        for name, value in (("noise", noise), ("real_weight", real_weight), ("fake_weight", fake_weight)):
            if not 0 <= value < float("inf"):
                raise UserError(f"loss.{name} must be a number of at least 0, not {value}")
        if not 0 < abs(real_target - fake_target) < float("inf"):
            raise UserError("loss.real_target and loss.fake_target must differ and be finite")
        self.noise = noise
        self.real_target = real_target
        self.fake_target = fake_target
        self.real_weight = real_weight
        self.fake_weight = fake_weight
        self.register_buffer("average_output", torch.zeros((), dtype=torch.float64))  # d̂

    @property
    def noise_strength(self) -> float:
        return self.noise * max(0.0, float(self.average_output) - 0.5) ** 2

    def of_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        real_error = (real - self.real_target).square().mean()
        fake_error = (fake - self.fake_target).square().mean()
        return self.real_weight * real_error + self.fake_weight * fake_error

    def of_generator(self, fake: Tensor, real: Tensor | None) -> Tensor:
        return self.real_weight * (fake - self.real_target).square().mean()

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fakes: Sequence[Tensor], uniform: Tensor
    ) -> LossTerms:
        terms = super().discriminator_loss(discriminator, real, fakes, uniform)
        return {**terms, "noise_strength": torch.full_like(terms["real_score"], self.noise_strength)}

    def after_discriminator_step(self, discriminator: nn.Module, terms: Mapping[str, Tensor]) -> None:
        super().after_discriminator_step(discriminator, terms)
        output = terms["real_score"] if self.real_target > self.fake_target else terms["fake_score"]
        self.average_output.mul_(0.9).add_(0.1 * output.to(self.average_output))
