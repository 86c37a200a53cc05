"""The relativistic pairing loss with R1 and R2, the modern baseline (Jolicoeur-Martineau 2019; Huang et al. 2024)."""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from imago.losses.scores import ScoreLoss


class Relativistic(ScoreLoss):
    """D minimises E[softplus(D(G(z)) − D(x))], G minimises E[softplus(D(x) − D(G(z)))], x and z in pairs.

    Huang et al. 2024 ("The GAN is dead; long live the GAN!", section 2) add γ/2 times R1 and R2; their γ depends on the
    data set and grows with the size of the images.

    Args:
        r1: Weight of R1, γ.
        r2: Weight of R2, γ.
        **penalties: See :class:`Penalties`.
    """

    generator_sees_reals: ClassVar[bool] = True

    def __init__(self, r1: float = 1.0, r2: float = 1.0, **penalties: Any) -> None:
        super().__init__(r1=r1, r2=r2, **penalties)

    def of_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake - real).mean()

    def of_generator(self, fake: Tensor, real: Tensor | None) -> Tensor:
        assert real is not None
        return F.softplus(real - fake).mean()
