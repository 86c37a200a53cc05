"""Wasserstein loss with a gradient penalty and a drift term (Gulrajani et al. 2017; Karras et al. 2018, A.1, 6.5)."""

from typing import Any

from torch import Tensor

from imago.losses.scores import ScoreLoss


class WganGp(ScoreLoss):
    """L = E[D(fake)] − E[D(real)] + λ/γ² · E[(‖∇D(x̂)‖₂ − γ)²] + ε_drift · E[D(real)²].

    Args:
        gradient_penalty: λ, 10.
        gradient_target: γ, the gradient norm aimed at: 1, or 750 for CIFAR-10 (Karras et al. 2018, section 6.5).
        drift: ε_drift, 0.001, on reals only (appendix A.1).
        **penalties: See :class:`Penalties`.

    Raises:
        UserError: A negative weight, or a target that is not positive.
    """

    def __init__(
        self, gradient_penalty: float = 10.0, gradient_target: float = 1.0, drift: float = 0.001, **penalties: Any
    ) -> None:
        super().__init__(gradient_penalty=gradient_penalty, gradient_target=gradient_target, drift=drift, **penalties)

    def of_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def of_generator(self, fake: Tensor, real: Tensor | None) -> Tensor:
        return -fake.mean()
