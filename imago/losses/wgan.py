"""The Wasserstein loss with weight clipping (Arjovsky et al. 2017)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from imago.errors import UserError
from imago.losses.scores import ScoreLoss


class Wgan(ScoreLoss):
    """D minimises E[D(G(z))] − E[D(x)] with weights in [−c, c] (algorithm 1), G minimises −E[D(G(z))].

    The weights that are clipped are those that act: where an equalized learning rate scales a weight at run time, it
    is kept within ±c/scale. All parameters of the discriminator are clipped, biases and scales of normalisation too.

    Args:
        clip: c.
        **penalties: See :class:`Penalties`.

    Raises:
        UserError: ``clip`` is not above 0, or penalties out of range.
    """

    def __init__(self, clip: float = 0.01, **penalties: Any) -> None:
        super().__init__(**penalties)
        if not 0 < clip < float("inf"):
            raise UserError(f"loss.clip must be above 0, not {clip}")
        self.clip = clip

    def of_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def of_generator(self, fake: Tensor, real: Tensor | None) -> Tensor:
        return -fake.mean()

    @torch.no_grad()
    def after_discriminator_step(self, discriminator: nn.Module, terms: Mapping[str, Tensor]) -> None:
        super().after_discriminator_step(discriminator, terms)
        for module in discriminator.modules():
            for name, parameter in module.named_parameters(recurse=False):
                scale = getattr(module, "scale", 1.0) if name == "weight" else 1.0
                parameter.clamp_(-self.clip / scale, self.clip / scale)
