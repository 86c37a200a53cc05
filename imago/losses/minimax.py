"""The minimax loss of the first GANs (Goodfellow et al. 2014, equation 1; Curtó et al. 2020, equations 1 to 4)."""

import torch.nn.functional as F
from torch import Tensor

from imago.losses.scores import ScoreLoss


class Minimax(ScoreLoss):
    """D minimises −½ E[log D(x)] − ½ E[log(1 − D(G(z)))], G minimises E[log(1 − D(G(z)))]; D = sigmoid(score).

    The generator's gradient vanishes where the discriminator is sure; :class:`NonSaturating` does not have that.

    Args:
        **penalties: See :class:`Penalties`.
    """

    def of_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2

    def of_generator(self, fake: Tensor, real: Tensor | None) -> Tensor:
        return -F.softplus(fake).mean()
