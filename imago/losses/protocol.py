"""What every adversarial loss offers to a training step.

A loss is a module, so that what it remembers (an adaptive noise level, BEGAN's k) is saved with the run. It is handed
the discriminator as a function of images alone: resolution, fade-in, labels and groups are already bound. A
discriminator may return a score, a vector or an image per input; only the loss needs to know which, and says so in
``output``, so that the model builds the discriminator accordingly.

The first call of the discriminator in a step shows all images of the step in one batch: in a discriminator step the
reals and then each set of fakes, in a generator step the fakes and then the reals where the loss sees them. (The
networks keep the sets apart where they compare images.) An auxiliary classifier reads its labels off that call.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias

from torch import Tensor, nn

Discriminator: TypeAlias = Callable[[Tensor], Tensor]
LossTerms: TypeAlias = dict[str, Tensor]  # "loss" is what is minimised, the rest is for the log; all scalars


class AdversarialLoss(nn.Module):
    """Base of the losses.

    Attributes:
        fake_sets: Independent sets of fakes that a discriminator step wants (two for Cramér).
        generator_sees_reals: Whether a generator step wants reals (relativistic losses).
        output: What the discriminator returns per image: a score (N,), a vector (N, output_size) or an image
            (N, C, H, W).
        output_size: Components of a vector.
        compares_pairs: Whether a step compares images 0 and 1, 2 and 3, … of a batch.
    """

    fake_sets: ClassVar[int] = 1
    generator_sees_reals: ClassVar[bool] = False
    output: ClassVar[Literal["score", "vector", "image"]] = "score"
    output_size: int = 1
    compares_pairs: ClassVar[bool] = False

    @property
    def penalizes_gradients(self) -> bool:
        """Whether the loss differentiates the discriminator with respect to its input.

        That asks for second derivatives, and for scores that depend on one image each.
        """
        return False

    @property
    def noise_strength(self) -> float:
        """Standard deviation of the multiplicative noise before the discriminator's convolutions; 0: none."""
        return 0.0

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

    def after_discriminator_step(self, discriminator: nn.Module, terms: Mapping[str, Tensor]) -> None:
        """Called after each update of the discriminator that was made: weight clipping, and what the loss remembers.

        Args:
            discriminator: The network.
            terms: What :meth:`discriminator_loss` returned, means over all micro-batches and processes.
        """
