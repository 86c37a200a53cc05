"""Wasserstein loss with a gradient penalty and a drift term (Gulrajani et al. 2017; Karras et al. 2018, A.1, 6.5)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from imago.errors import UserError
from imago.losses.protocol import AdversarialLoss, Discriminator, LossTerms
from imago.networks.layers import at_least_float32


class WganGp(AdversarialLoss):
    """L = E[D(fake)] − E[D(real)] + λ/γ² · E[(‖∇D(x̂)‖₂ − γ)²] + ε_drift · E[D(real)²].

    Args:
        penalty_weight: λ, 10.
        target: γ, the gradient norm aimed at: 1, or 750 for CIFAR-10 (Karras et al. 2018, section 6.5).
        drift: ε_drift, 0.001, on reals only (appendix A.1).

    Raises:
        UserError: A negative weight, or a target that is not positive.
    """

    def __init__(self, penalty_weight: float = 10.0, target: float = 1.0, drift: float = 0.001) -> None:
        super().__init__()
        if not (0 <= penalty_weight < float("inf") and 0 <= drift < float("inf") and 0 < target < float("inf")):
            raise UserError("loss: penalty_weight and drift must not be negative, target must be above 0")
        self.penalty_weight = penalty_weight
        self.target = target
        self.drift = drift

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fakes: Sequence[Tensor], uniform: Tensor
    ) -> LossTerms:
        (fake,) = fakes
        # One pass for both: the discriminator keeps the two minibatches apart where it compares images.
        real_score, fake_score = discriminator(torch.cat([real, fake])).chunk(2)
        norms = gradient_norms(discriminator, torch.lerp(real, fake, uniform[:, None, None, None]))  # (N,)
        penalty = (norms - self.target).square().mean() / self.target**2
        drift = real_score.square().mean()
        real_mean, fake_mean = real_score.mean(), fake_score.mean()
        return {
            "loss": fake_mean - real_mean + self.penalty_weight * penalty + self.drift * drift,
            "real_score": real_mean,
            "fake_score": fake_mean,
            "gradient_penalty": penalty,
            "gradient_norm_at_interpolates": norms.mean(),
        }

    def generator_loss(self, discriminator: Discriminator, fakes: Tensor, real: Tensor | None = None) -> LossTerms:
        return {"loss": -discriminator(fakes).mean()}


def gradient_norms(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Per-sample L2 norm of the discriminator's gradient with respect to its input, differentiable.

    Args:
        discriminator: Images to scores; comparing images of a batch (minibatch stddev) is allowed, the gradient is
            that of the sum of scores.
        images: (N, C, H, W).

    Returns:
        (N,), float32 or wider; no ε inside the square root, as in the official code.
    """
    images = images.detach().requires_grad_()
    scores = discriminator(images)
    (gradients,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return torch.linalg.vector_norm(at_least_float32(gradients).flatten(1), dim=1)
