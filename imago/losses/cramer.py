"""The Cramér loss: the energy distance of a learnt transform (Bellemare et al. 2017, algorithm 1)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from imago.errors import UserError
from imago.losses.penalties import Penalties
from imago.losses.protocol import AdversarialLoss, Discriminator, LossTerms


class Cramer(AdversarialLoss):
    """The discriminator is h: images to vectors. With a second, independent fake x′, f(x) = ‖h(x) − h(x′)‖ − ‖h(x)‖.

    D minimises E[f(fake)] − E[f(real)] + λ · E[(‖∇f(x̂)‖₂ − 1)²]; G minimises the energy distance
    E[‖h(x) − h(y)‖ + ‖h(x) − h(y′)‖ − ‖h(y) − h(y′)‖] of fakes y and y′, without the constant −E‖h(x) − h(x′)‖.

    A generator step has one set of fakes: each fake is y once, its neighbour y′ (images 0 and 1, 2 and 3, …), so that
    micro-batches of an even size average to the whole batch. In an odd batch the last three go round.

    Args:
        output_size: Components of h; 256 in the paper.
        gradient_penalty: λ, 10.
        **penalties: See :class:`Penalties`; they are about f.

    Raises:
        UserError: No components, penalties out of range.
    """

    fake_sets: ClassVar[int] = 2
    generator_sees_reals: ClassVar[bool] = True
    compares_pairs: ClassVar[bool] = True
    output: ClassVar[Literal["score", "vector", "image"]] = "vector"

    def __init__(self, output_size: int = 256, gradient_penalty: float = 10.0, **penalties: Any) -> None:
        super().__init__()
        if output_size < 1:
            raise UserError(f"loss.output_size must be at least 1, not {output_size}")
        self.output_size = output_size
        self.penalties = Penalties(gradient_penalty=gradient_penalty, **penalties)

    @property
    def penalizes_gradients(self) -> bool:
        return self.penalties.of_gradients

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fakes: Sequence[Tensor], uniform: Tensor
    ) -> LossTerms:
        fake, other = fakes
        h_real, h_fake, h_other = discriminator(torch.cat([real, fake, other])).chunk(3)
        real_value, fake_value = _critic(h_real, h_other), _critic(h_fake, h_other)
        terms = {
            "loss": fake_value.mean() - real_value.mean(),
            "real_score": real_value.mean(),
            "fake_score": fake_value.mean(),
        }

        def critic(images: Tensor) -> Tensor:
            return _critic(discriminator(images), h_other)

        return self.penalties.add(terms, critic, real, fake, uniform, real_value)

    def generator_loss(self, discriminator: Discriminator, fakes: Tensor, real: Tensor | None = None) -> LossTerms:
        assert real is not None
        if len(fakes) < 2:
            raise UserError(
                "loss=cramer compares fakes with each other: a process's share of the batch and model.micro_batch must "
                "be at least 2"
            )
        h_fake, h_real = discriminator(torch.cat([fakes, real])).chunk(2)
        h_other = h_fake[_neighbours(len(fakes))]
        distances = _length(h_real - h_fake) + _length(h_real - h_other) - _length(h_fake - h_other)
        return {"loss": distances.mean()}

    def after_discriminator_step(self, discriminator: nn.Module, terms: Mapping[str, Tensor]) -> None:
        self.penalties.after_discriminator_step()


def _neighbours(count: int) -> list[int]:
    """Whom each fake is compared with: 1, 0, 3, 2, …; the last three of an odd number in a circle."""
    partners = [i ^ 1 for i in range(count)]
    if count % 2:
        partners[-3:] = [count - 2, count - 1, count - 3]
    return partners


def _critic(h: Tensor, h_other: Tensor) -> Tensor:
    return _length(h - h_other) - _length(h)


def _length(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=1)
