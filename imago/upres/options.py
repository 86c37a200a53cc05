"""How a picture is taken through a network in tiles."""

import math
from dataclasses import dataclass
from typing import Any

from imago.errors import UserError
from imago.upres.execution import PRECISIONS
from imago.upres.variants import Variant, parse_variant

COMBINATIONS = ("mean", "best")
SCORES = ("discriminator", "laplacian", "contrast")
CHOICES = ("picture", "per_tile")


@dataclass(frozen=True)
class TilingOptions:
    """All that can be set; checks itself.

    Attributes:
        stride: Low pixels between neighbouring tiles, at most; None: half a tile, where two windows sum to one.
        batch: Tiles at a time; halves by itself when memory runs out.
        variants: What each tile is tried as, see :func:`~imago.upres.variants.parse_variant`.
        combine: "mean" of all variants, or the "best" by a score.
        score: "discriminator" (the stage's own), "laplacian" (sharpness) or "contrast", of the outputs transformed
            back.
        choice: One best variant for the whole "picture", at the cost of a first pass that only scores, or one
            "per_tile": neighbours then may disagree.
        colour: Strength of the low-frequency colour correction (:mod:`imago.upres.colour`), 0 (off) to 1.
        colour_blur: Its σ in low pixels.
        precision: What the network computes in: "float32", "bfloat16" or "float16".

    Raises:
        UserError: A value that is none of these.
    """

    stride: int | None = None
    batch: int = 16
    variants: tuple[str, ...] = ("plain",)
    combine: str = "mean"
    score: str = "laplacian"
    choice: str = "picture"
    colour: float = 1.0
    colour_blur: float = 4.0
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.stride is not None and not _whole(self.stride):
            raise UserError(f"stride={self.stride}: must be a whole number of low pixels, at least 1")
        if not _whole(self.batch):
            raise UserError(f"batch={self.batch}: must be a whole number of tiles, at least 1")
        for name, value, known in (
            ("combine", self.combine, COMBINATIONS),
            ("score", self.score, SCORES),
            ("choice", self.choice, CHOICES),
            ("precision", self.precision, tuple(PRECISIONS)),
        ):
            if value not in known:
                raise UserError(f"{name}={value!r}: must be one of {', '.join(known)}")
        if not 0 <= self.colour <= 1:
            raise UserError(f"colour={self.colour}: must be from 0 (no correction) to 1")
        if not (math.isfinite(self.colour_blur) and self.colour_blur > 0):
            raise UserError(f"colour_blur={self.colour_blur}: must be positive, in pixels of the input")
        if isinstance(self.variants, str) or len(self.variants) == 0:
            raise UserError(f"variants={self.variants!r}: must be a list of at least one, such as [plain,flip]")
        try:
            parsed = self.parsed_variants
        except UserError as error:
            raise UserError(f"variants: {error}") from error
        if len(set(parsed)) != len(parsed):
            raise UserError(f"variants={list(self.variants)}: one of them comes twice")

    @property
    def parsed_variants(self) -> tuple[Variant, ...]:
        """The variants as transformations."""
        return tuple(parse_variant(text) for text in self.variants)

    @property
    def chooses(self) -> bool:
        """Whether there is a best to be found."""
        return self.combine == "best" and len(self.variants) > 1

    def stride_of(self, tile: int) -> int:
        """The stride for tiles of an extent.

        Raises:
            UserError: It is larger than the tile.
        """
        if self.stride is None:
            return max(tile // 2, 1)
        if self.stride > tile:
            raise UserError(f"stride={self.stride}: the network's tiles of {tile} pixels would leave gaps")
        return self.stride


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
