"""The hinge loss (Lim & Ye 2017; Tran et al. 2017)."""

from torch import Tensor

from imago.losses.scores import ScoreLoss


class Hinge(ScoreLoss):
    """D minimises E[max(0, 1 − D(x))] + E[max(0, 1 + D(G(z)))], G minimises −E[D(G(z))].

    Args:
        **penalties: See :class:`Penalties`.
    """

    def of_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return (1 - real).relu().mean() + (1 + fake).relu().mean()

    def of_generator(self, fake: Tensor, real: Tensor | None) -> Tensor:
        return -fake.mean()
