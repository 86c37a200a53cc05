"""BEGAN: the discriminator is an autoencoder, its error the energy (Berthelot et al. 2017)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from imago.errors import UserError
from imago.losses.penalties import Penalties
from imago.losses.protocol import AdversarialLoss, Discriminator, LossTerms


class Began(AdversarialLoss):
    """With L(v) = mean |v − D(v)| (section 3.1): D minimises L(x) − k L(G(z)), G minimises L(G(z)).

    After each discriminator step k ← k + λ_k (γ L(x) − L(G(z))), within [0, 1], from 0 on (section 3.3). The measure
    of convergence L(x) + |γ L(x) − L(G(z))| (section 3.4) is logged.

    Args:
        diversity: γ, the ratio of the two errors that is aimed at: lower makes better but more similar images.
        k_rate: λ_k, 0.001.
        **penalties: See :class:`Penalties`; they are about L.

    Raises:
        UserError: γ outside of (0, 1], λ_k not above 0, penalties out of range.
    """

    output: ClassVar[Literal["score", "vector", "image"]] = "image"
    k: Tensor

    def __init__(self, diversity: float = 0.5, k_rate: float = 0.001, **penalties: Any) -> None:
        super().__init__()
        if not 0 < diversity <= 1:
            raise UserError(f"loss.diversity must lie in (0, 1], not {diversity}")
        if not 0 < k_rate < float("inf"):
            raise UserError(f"loss.k_rate must be above 0, not {k_rate}")
        self.diversity = diversity
        self.k_rate = k_rate
        self.penalties = Penalties(**penalties)
        self.register_buffer("k", torch.zeros((), dtype=torch.float64))

    @property
    def penalizes_gradients(self) -> bool:
        return self.penalties.of_gradients

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fakes: Sequence[Tensor], uniform: Tensor
    ) -> LossTerms:
        (fake,) = fakes
        real_error, fake_error = _errors(discriminator, torch.cat([real, fake])).chunk(2)
        real_mean, fake_mean = real_error.mean(), fake_error.mean()
        balance = self.diversity * real_mean.detach() - fake_mean.detach()
        terms = {
            "loss": real_mean - self.k.to(fake_mean) * fake_mean,
            "real_score": real_mean,
            "fake_score": fake_mean,
            "k": self.k.to(fake_mean, copy=True),
            "convergence": real_mean.detach() + balance.abs(),
        }
        return self.penalties.add(terms, lambda images: _errors(discriminator, images), real, fake, uniform, real_error)

    def generator_loss(self, discriminator: Discriminator, fakes: Tensor, real: Tensor | None = None) -> LossTerms:
        return {"loss": _errors(discriminator, fakes).mean()}

    def after_discriminator_step(self, discriminator: nn.Module, terms: Mapping[str, Tensor]) -> None:
        self.penalties.after_discriminator_step()
        balance = self.diversity * terms["real_score"] - terms["fake_score"]
        self.k.add_(self.k_rate * balance.to(self.k)).clamp_(0, 1)


def _errors(discriminator: Discriminator, images: Tensor) -> Tensor:
    """L of each image: (N,)."""
    return (images - discriminator(images)).abs().flatten(1).mean(dim=1)
