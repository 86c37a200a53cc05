"""HDCGAN: DCGAN's pyramids with layers of SELU and BatchNorm, seen through Glasses (Curtó et al. 2020)."""

from typing import Any, ClassVar

from imago.growth import GrowthSchedule
from imago.losses import AdversarialLoss
from imago.networks import HDCGANDiscriminator, HDCGANGenerator
from imago.networks.pyramid import PyramidDiscriminator, PyramidGenerator
from lightning_modules.dcgan import DCGAN


class HDCGAN(DCGAN):
    """BS layers in both networks, normal noise on both inputs (section 4.1), a telescope (section 4.2).

    Args:
        loss: The adversarial loss; minimax in the paper.
        schedule: Batch size and learning rate; it must not grow.
        bs_order: ``bn_selu`` or ``selu_bn``.
        generator_noise: Standard deviation of the noise on the generator's input; 1 in the paper.
        discriminator_noise: Of the noise on the discriminator's input; 1 in the paper.
        **options: See :class:`DCGAN`.
    """

    generator_class: ClassVar[type[PyramidGenerator]] = HDCGANGenerator
    discriminator_class: ClassVar[type[PyramidDiscriminator]] = HDCGANDiscriminator

    def __init__(
        self,
        loss: AdversarialLoss,
        schedule: GrowthSchedule,
        bs_order: str = "bn_selu",
        generator_noise: float = 1.0,
        discriminator_noise: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(
            loss,
            schedule,
            bs_order=bs_order,
            generator_noise=generator_noise,
            discriminator_noise=discriminator_noise,
            **options,
        )
