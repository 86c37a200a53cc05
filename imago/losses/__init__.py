"""Adversarial losses, one per file, behind one protocol."""

from imago.losses.protocol import AdversarialLoss, Discriminator, LossTerms
from imago.losses.wgan_gp import WganGp

__all__ = ["AdversarialLoss", "Discriminator", "LossTerms", "WganGp"]
