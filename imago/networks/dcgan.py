"""DCGAN: convolutional pyramids with ReLU (Radford et al. 2016)."""

from typing import Any

from imago.networks.pyramid import PyramidDiscriminator, PyramidGenerator
from imago.networks.registry import register


@register
class DCGANGenerator(PyramidGenerator):
    """Transposed convolution, batch normalisation, ReLU; tanh at the end (Radford et al. 2016, section 3).

    Args:
        **options: See :class:`PyramidGenerator`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, activation="relu", order="norm_first")


@register
class DCGANDiscriminator(PyramidDiscriminator):
    """Convolution, batch normalisation, leaky ReLU; no normalisation in the first layer.

    Args:
        **options: See :class:`PyramidDiscriminator`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, activation="leaky_relu", order="norm_first")
