"""Small packs of drawn portraits with their exact landmarks, for the tests of up-resolution."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from imago.data import PackedDataset, pack
from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.data.sources.source import Item


class DrawnFaces:
    """Drawn portraits.

    Args:
        count: How many.
        size: Their side in pixels.
        unknown: Those without landmarks; None: all.
        seed: Of the drawings.
        width: Their width, if it is not their side: they are squeezed, landmarks also.
    """

    def __init__(
        self, count: int, size: int, unknown: tuple[int, ...] | None = (), seed: int = 1, width: int | None = None
    ) -> None:
        self.count = count
        self.size = size
        self.unknown = tuple(range(count)) if unknown is None else unknown
        self.seed = seed
        self.width = width or size

    name = "drawn"

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.count, self.size, self.unknown, self.seed, self.width)).encode()).hexdigest()

    def item_name(self, index: int) -> str:
        return f"{index}.png"

    def read(self, index: int) -> Item:
        picture, landmarks = draw_portrait(sample_attributes(self.seed, index), self.size)
        if self.width != self.size:
            picture = np.asarray(Image.fromarray(picture).resize((self.width, self.size), Image.Resampling.BOX))
            landmarks = (landmarks + 0.5) * [self.width / self.size, 1] - 0.5
        return Item(picture, self.item_name(index), landmarks=None if index in self.unknown else landmarks)


def face_pack(folder: Path, size: int = 64, count: int = 8, base: tuple[int, int] = (4, 4), **options) -> PackedDataset:
    """A pack of drawn portraits, all of its levels as arrays.

    Args:
        folder: Where.
        size: Height of the largest level.
        count: Portraits.
        base: (height, width) of the smallest level.
        **options: Of :class:`DrawnFaces`.
    """
    width = size * base[1] // base[0]
    return pack(DrawnFaces(count, size, width=width, **options), folder, resolution=size, base=base, zip_from=4096)
