"""HDCGAN: DCGAN's pyramids with layers of SELU and BatchNorm, "BS", in both networks (Curtó et al. 2020, section 4.1).

The paper does not say which of the two comes first. Both keep mean and variance of the activations at (0, 1): batch
normalisation makes them so, and (0, 1) is the fixed point of SELU. A public re-use of the generator has BatchNorm
first, which is the default here.
"""

from typing import Any, Literal

from imago.networks.pyramid import Order, PyramidDiscriminator, PyramidGenerator, check_choice
from imago.networks.registry import register

BsOrder = Literal["bn_selu", "selu_bn"]


def _order(bs_order: BsOrder) -> Order:
    check_choice("bs_order", bs_order, ("bn_selu", "selu_bn"))
    return "norm_first" if bs_order == "bn_selu" else "activation_first"


@register
class HDCGANGenerator(PyramidGenerator):
    """Transposed convolutions with BS layers, tanh at the end.

    Args:
        bs_order: ``bn_selu`` or ``selu_bn``.
        **options: See :class:`PyramidGenerator`.
    """

    def __init__(self, bs_order: BsOrder = "bn_selu", **options: Any) -> None:
        super().__init__(**options, activation="selu", order=_order(bs_order))
        self.config["bs_order"] = bs_order


@register
class HDCGANDiscriminator(PyramidDiscriminator):
    """Convolutions with BS layers; the first has no normalisation, as in DCGAN.

    Args:
        bs_order: ``bn_selu`` or ``selu_bn``.
        **options: See :class:`PyramidDiscriminator`.
    """

    def __init__(self, bs_order: BsOrder = "bn_selu", **options: Any) -> None:
        super().__init__(**options, activation="selu", order=_order(bs_order))
