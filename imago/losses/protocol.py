"""What every adversarial loss offers to a training step.

A loss is a module, so that what it remembers (an adaptive noise level, BEGAN's k) is saved with the run. It is handed
the discriminator as a function of images alone: resolution, fade-in, labels and groups are already bound. A
discriminator may return a score, a vector or an image per input; only the loss needs to know which.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

from torch import Tensor, nn

Discriminator: TypeAlias = Callable[[Tensor], Tensor]
LossTerms: TypeAlias = dict[str, Tensor]  # "loss" is what is minimised, the rest is for the log; all scalars


class AdversarialLoss(nn.Module):
    """Base of the losses.

    Attributes:
        fake_sets: Independent sets of fakes that a discriminator step wants (two for Cramér).
        generator_sees_reals: Whether a generator step wants reals (relativistic losses).
    """

    fake_sets: ClassVar[int] = 1
    generator_sees_reals: ClassVar[bool] = False

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fakes: Sequence[Tensor], uniform: Tensor
    ) -> LossTerms:
        """The loss of a discriminator step.

        Args:
            discriminator: Images to outputs, one per image.
            real: (N, C, H, W) reals in [-1, 1].
            fakes: ``fake_sets`` tensors (N, C, H, W), detached from the generator.
            uniform: (N,) draws in [0, 1), one per image.

        Returns:
            Scalars; means over the N images, so that micro-batches average to the whole batch.
        """
        raise NotImplementedError

    def generator_loss(self, discriminator: Discriminator, fakes: Tensor, real: Tensor | None = None) -> LossTerms:
        """The loss of a generator step.

        Args:
            discriminator: Images to outputs, one per image.
            fakes: (N, C, H, W) from the generator.
            real: (N, C, H, W) reals if ``generator_sees_reals``.

        Returns:
            Scalars; see :meth:`discriminator_loss`.
        """
        raise NotImplementedError

    def after_discriminator_step(self, discriminator: nn.Module) -> None:
        """Called after the discriminator's update (weight clipping)."""
