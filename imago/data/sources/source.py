"""What every reader of images gives: items, one at a time, from any process."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass
class Item:
    """One image and what is known about it.

    Attributes:
        image: uint8 ``(H, W, C)``, C = 1 (grey), 3 (RGB) or 4 (RGBA).
        name: Where it came from, unique within its source ("anna/0001.jpg").
        labels: Column → value; a column that is absent or empty is unknown. None: no labels at all.
        landmarks: ``(68, 2)`` x, y in pixels of `image`, pixel centres at integers. None: no face was found.
        five_points: ``(5, 2)`` eye, eye, nose, mouth corner, mouth corner, the one that is left in the picture first,
            where a data set annotates these (CelebA). Used to align faces; a pack does not keep them.
    """

    image: NDArray[np.uint8]
    name: str
    labels: dict[str, str] | None = None
    landmarks: NDArray[np.floating] | None = None
    five_points: NDArray[np.floating] | None = None


class UnreadableImageError(ValueError):
    """One image cannot be used; the others can.

    Args:
        reason: A few words on why, for a table ("truncated image").
        name: The image's name within its source, where known.
    """

    def __init__(self, reason: str, name: str = "") -> None:
        # Both go to args, so that the error survives the pickle that carries it from a worker process.
        super().__init__(reason, name)
        self.reason = reason
        self.name = name

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" if self.name else self.reason


class SkippedImageError(UnreadableImageError):
    """The image is whole, but not what was asked for: no face in it, too many faces, too small.

    Such images are listed like unreadable ones and do not count as damage of the source.
    """


class Source(Protocol):
    """A finite, ordered set of images. It is pickled to worker processes, so it must hold no open file.

    Attributes:
        name: Short name, used in the names of packs.
    """

    name: str

    def __len__(self) -> int:
        """How many items, readable or not."""
        ...

    def fingerprint(self) -> str:
        """Identifies the content and the parameters of reading: equal fingerprints give equal items."""
        ...

    def item_name(self, index: int) -> str:
        """The name of the item at `index`, without reading it; unique within the source."""
        ...

    def read(self, index: int) -> Item:
        """The item at `index`, 0 ≤ index < len(self).

        Raises:
            UnreadableImageError: This item cannot be used.
        """
        ...


def read_all(source: Source, index: int) -> list[Item]:
    """All items of the entry at `index`, at least one, in a fixed order.

    A source whose entries may hold several items, such as photos with several faces, has a method ``read_all(index)``
    that gives a list of them; its length, names and indices are those of the entries, and ``read`` gives the first item
    of one. Any other source has one item an entry.

    Raises:
        UnreadableImageError: There are none that can be used.
    """
    together: Callable[[int], list[Item]] | None = getattr(source, "read_all", None)
    return together(index) if together is not None else [source.read(index)]
