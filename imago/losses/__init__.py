"""Adversarial losses, one per file, behind one protocol."""

from imago.losses.began import Began
from imago.losses.cramer import Cramer
from imago.losses.hinge import Hinge
from imago.losses.lsgan import Lsgan
from imago.losses.minimax import Minimax
from imago.losses.non_saturating import NonSaturating
from imago.losses.protocol import AdversarialLoss, Discriminator, LossTerms
from imago.losses.relativistic import Relativistic
from imago.losses.wgan import Wgan
from imago.losses.wgan_gp import WganGp

__all__ = [
    "AdversarialLoss",
    "Began",
    "Cramer",
    "Discriminator",
    "Hinge",
    "LossTerms",
    "Lsgan",
    "Minimax",
    "NonSaturating",
    "Relativistic",
    "Wgan",
    "WganGp",
]
