"""Drawn portraits as a source of pictures, so that nothing has to be downloaded to train, prepare or test."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from imago.data.drawn_portraits import LARGEST, RENDERER_VERSION, SMALLEST, draw_portrait, sample_attributes
from imago.errors import UserError

if TYPE_CHECKING:
    from imago.data.sources.source import Item


class DrawnPortraits:
    """A collection of drawn portraits with labels and landmarks (see :mod:`imago.data.drawn_portraits`).

    Args:
        count: How many portraits.
        size: Side of the pictures in pixels, 16 … 4096.
        seed: Names the collection; portrait *i* is the same whatever the count and the size.

    Raises:
        UserError: The count or the size is out of range.
    """

    def __init__(self, count: int, size: int, seed: int = 0) -> None:
        if count < 1:
            raise UserError(f"a collection of drawn portraits holds at least one picture, got count={count}")
        if not SMALLEST <= size <= LARGEST:
            raise UserError(f"drawn portraits are {SMALLEST} to {LARGEST} pixels wide, got size={size}")
        self.name = "drawn portraits"
        self.count = count
        self.size = size
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        """Changes whenever a picture of the collection would: 16 hexadecimal digits."""
        identity = f"drawn portraits/{RENDERER_VERSION}/{self.count}/{self.size}/{self.seed}"
        return hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()

    def item_name(self, index: int) -> str:
        """``drawn_`` and the portrait's number."""
        return f"drawn_{index:07d}"

    def read(self, index: int) -> Item:
        """Draws one portrait.

        Args:
            index: Position in the collection, 0 … len - 1.

        Raises:
            IndexError: There is no such portrait.
        """
        from imago.data.sources.source import Item

        if not 0 <= index < self.count:
            raise IndexError(f"portrait {index} of a collection of {self.count}")
        attributes = sample_attributes(self.seed, index)
        image, landmarks = draw_portrait(attributes, self.size)
        return Item(image=image, name=self.item_name(index), labels=attributes.labels(), landmarks=landmarks)
