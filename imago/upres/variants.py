"""One tile, seen in several ways: flipped in x, with other contrast, with other colour (Tyka 2017).

"The quality of the upres differs stochastically depending on the input": every variant is transformed, up-resolved and
transformed back, and the results are averaged or the best is taken (:mod:`imago.upres.selection`).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from imago.errors import UserError

# Rec. 601, as JPEG. The weights sum to one, so that luma and what differs from it are scaled apart from each other.
LUMA = (0.299, 0.587, 0.114)


def luma(pictures: Tensor) -> Tensor:
    """Brightness of RGB pictures: ``(..., 3, H, W)`` → ``(..., 1, H, W)``, in the same range."""
    red, green, blue = pictures.split(1, dim=-3)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


@dataclass(frozen=True)
class Variant:
    """A change of the input that can be undone on the output.

    A contrast above 1 pushes pixels out of [-1, 1], and the output of a generator that ends in tanh then comes back
    darker than white; factors below 1 lose nothing.

    Attributes:
        flip: Mirrors left and right, of the guide also (guides are drawn equivariant to flips).
        contrast: Factor about mid grey (0), of the three colour channels.
        saturation: Factor about luma, of the three colour channels.
    """

    flip: bool = False
    contrast: float = 1.0
    saturation: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("contrast", self.contrast), ("saturation", self.saturation)):
            if not (math.isfinite(value) and value > 0):
                raise UserError(f"a variant's {name} must be a positive factor, not {value:g}")

    def apply(self, stacks: Tensor) -> Tensor:
        """Transforms stacks ``(N, 3 + G, h, w)``: the colours in [-1, 1] first, then the guide."""
        if self.contrast != 1 or self.saturation != 1:
            colours = self._coloured(stacks[:, :3], self.contrast, self.saturation)
            stacks = torch.cat([colours, stacks[:, 3:]], dim=1)
        return stacks.flip(-1) if self.flip else stacks

    def invert(self, outputs: Tensor) -> Tensor:
        """Undoes it on outputs ``(N, 3, H, W)``."""
        outputs = self._coloured(outputs, 1 / self.contrast, 1 / self.saturation)
        return outputs.flip(-1) if self.flip else outputs

    @staticmethod
    def _coloured(colours: Tensor, contrast: float, saturation: float) -> Tensor:
        if saturation != 1:
            grey = luma(colours)
            colours = grey + saturation * (colours - grey)
        return contrast * colours if contrast != 1 else colours


def parse_variant(text: str) -> Variant:
    """Reads "plain", "flip", "contrast:0.9", "saturation:1.2", or several of them joined by "+".

    Raises:
        UserError: Anything else, or a factor that is not positive.
    """
    changes: dict[str, bool | float] = {}
    for word in text.split("+"):
        name, colon, value = word.strip().partition(":")
        repeated = name in changes or (name == "plain" and text.strip() != "plain")
        try:
            if repeated:
                raise ValueError(word)
            if name == "flip" and not colon:
                changes["flip"] = True
            elif name in ("contrast", "saturation"):
                changes[name] = float(value)
            elif name != "plain" or colon:
                raise ValueError(word)
        except ValueError as error:
            raise UserError(
                f"unknown variant {text!r}: must be plain, flip, contrast:FACTOR, saturation:FACTOR, or several of the "
                "last three joined by +"
            ) from error
    return Variant(**changes)  # type: ignore[arg-type]
