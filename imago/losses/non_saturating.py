"""The minimax loss with another one for the generator that does not vanish (Goodfellow et al. 2014, section 3)."""

import torch.nn.functional as F
from torch import Tensor

from imago.losses.minimax import Minimax


class NonSaturating(Minimax):
    """D as in :class:`Minimax`; G minimises −E[log D(G(z))].

    Args:
        **penalties: See :class:`Penalties`.
    """

    def of_generator(self, fake: Tensor, real: Tensor | None) -> Tensor:
        return F.softplus(-fake).mean()
