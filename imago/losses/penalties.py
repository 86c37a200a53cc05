"""Penalties that go with any adversarial loss: of gradients at interpolates (GP), reals (R1) and fakes (R2); drift.

All of them are about a *critic*, one number per image: the discriminator's score (the mean of its scores of patches),
or what a loss makes of its output.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from imago.errors import UserError
from imago.losses.protocol import LossTerms
from imago.networks.layers import at_least_float32


class Penalties(nn.Module):
    """λ/γ² · E[(‖∇f(x̂)‖₂ − γ)²] + r1/2 · E‖∇f(x)‖² + r2/2 · E‖∇f(G(z))‖² + drift · E[f(x)²].

    Args:
        gradient_penalty: λ (Gulrajani et al. 2017); interpolates x̂ lie between a real and a fake.
        gradient_target: γ, the norm aimed at (Karras et al. 2018, section 6.5).
        r1: Weight of the squared gradient at reals (Mescheder et al. 2018, section 4.1, where it is γ).
        r2: The same at fakes.
        drift: Weight of the squared critic of reals (Karras et al. 2018, appendix A.1).
        penalty_interval: The gradient terms are taken in every n-th discriminator step only, n times as strong ("lazy
            regularisation"; Karras et al. 2020, appendix B).

    Raises:
        UserError: A weight that is negative or not finite, a target that is not above 0, an interval below 1.
    """

    step: Tensor

    def __init__(
        self,
        gradient_penalty: float = 0.0,
        gradient_target: float = 1.0,
        r1: float = 0.0,
        r2: float = 0.0,
        drift: float = 0.0,
        penalty_interval: int = 1,
    ) -> None:
        super().__init__()
        weights = {"gradient_penalty": gradient_penalty, "r1": r1, "r2": r2, "drift": drift}
        for name, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise UserError(f"loss.{name} must be a number of at least 0, not {weight}")
        if not 0 < gradient_target < float("inf"):
            raise UserError(f"loss.gradient_target must be above 0, not {gradient_target}")
        if penalty_interval < 1:
            raise UserError(f"loss.penalty_interval must be at least 1, not {penalty_interval}")
        self.gradient_penalty = gradient_penalty
        self.gradient_target = gradient_target
        self.r1 = r1
        self.r2 = r2
        self.drift = drift
        self.penalty_interval = penalty_interval
        # Discriminator steps so far, kept with the run: when a penalty is due must survive a restart.
        self.register_buffer("step", torch.zeros((), dtype=torch.int64), persistent=penalty_interval > 1)

    @property
    def of_gradients(self) -> bool:
        """Whether any of them needs the critic's gradient."""
        return self.gradient_penalty > 0 or self.r1 > 0 or self.r2 > 0

    def add(
        self,
        terms: LossTerms,
        critic: Callable[[Tensor], Tensor],
        real: Tensor,
        fake: Tensor,
        uniform: Tensor,
        real_value: Tensor,
    ) -> LossTerms:
        """Adds the penalties to the loss.

        Args:
            terms: With the loss.
            critic: Images to one number each.
            real: (N, C, H, W).
            fake: (N, C, H, W), detached.
            uniform: (N,) draws in [0, 1): where between them the interpolates lie.
            real_value: (N,), the critic of the reals.

        Returns:
            The terms.
        """
        due = self.penalty_interval == 1 or int(self.step) % self.penalty_interval == 0
        if self.gradient_penalty > 0 and due:
            norms = gradient_norms(critic, torch.lerp(real, fake, uniform[:, None, None, None]))  # (N,)
            penalty = (norms - self.gradient_target).square().mean() / self.gradient_target**2
            terms["loss"] = terms["loss"] + self.penalty_interval * self.gradient_penalty * penalty
            terms["gradient_penalty"] = penalty
            terms["gradient_norm_at_interpolates"] = norms.mean()
        for name, weight, images in (("r1", self.r1, real), ("r2", self.r2, fake)):
            if weight > 0 and due:
                penalty = gradient_norms(critic, images).square().mean()
                terms["loss"] = terms["loss"] + self.penalty_interval * (weight / 2) * penalty
                terms[name] = penalty
        if self.drift > 0:
            drift = real_value.square().mean()
            terms["loss"] = terms["loss"] + self.drift * drift
            terms["drift"] = drift
        return terms

    def after_discriminator_step(self) -> None:
        """Counts the step."""
        self.step += 1


def gradient_norms(critic: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Per-sample L2 norm of the critic's gradient with respect to its input, differentiable.

    Args:
        critic: Images to one number each, or to one for each of their patches, of which the mean counts; comparing
            images of a batch (minibatch stddev) is allowed, the gradient is that of the sum.
        images: (N, C, H, W).

    Returns:
        (N,), float32 or wider; no ε inside the square root, as in the official code of PGGAN.
    """
    images = images.detach().requires_grad_()
    values = critic(images)
    if values.ndim > 1:
        values = values.flatten(1).mean(dim=1)
    (gradients,) = torch.autograd.grad(values.sum(), images, create_graph=True)
    return torch.linalg.vector_norm(at_least_float32(gradients).flatten(1), dim=1)
