"""Networks: plain PyTorch modules, each with the paper's table or section it follows."""

from imago.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from imago.networks.hdcgan import HDCGANDiscriminator, HDCGANGenerator
from imago.networks.jnet import JNet
from imago.networks.patch_discriminator import PatchDiscriminator
from imago.networks.progressive import ProgressiveDiscriminator, ProgressiveGenerator

__all__ = [
    "DCGANDiscriminator",
    "DCGANGenerator",
    "HDCGANDiscriminator",
    "HDCGANGenerator",
    "JNet",
    "PatchDiscriminator",
    "ProgressiveDiscriminator",
    "ProgressiveGenerator",
]
