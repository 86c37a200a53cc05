"""Networks: plain PyTorch modules, each with the paper's table or section it follows."""

from imago.networks.progressive import ProgressiveDiscriminator, ProgressiveGenerator

__all__ = ["ProgressiveDiscriminator", "ProgressiveGenerator"]
