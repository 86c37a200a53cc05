"""What all readers of image files share: which files, how they are decoded, and labels joined by file name."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imago.data.labels import NamedLabels
from imago.data.sources.decoding import decode
from imago.data.sources.file_tree import FileTree, file_of
from imago.data.sources.source import Item, UnreadableImageError
from imago.errors import UserError

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


class ImageFileSource:
    """Images that lie as files in a folder or a zip. Readers of one layout derive from it.

    See :func:`imago.data.sources.decoding.decode` for what is done to colours, transparency and orientation.

    Args:
        tree: The folder or zip.
        names: The files, in the order of the source.
        name: Of the source.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA) channels of the items' images.
        background: RGB colour shown through transparent images where channels < 4.
        minimum_side: Images with a smaller side are unreadable.
        labels: Labels by file name.
        label_key: From a file's name in the tree to its name in `labels`; by default the name without its folders.
        parameters: What else the items depend on, for the fingerprint; JSON values.

    Raises:
        UserError: Bad channels or background.
    """

    layout: ClassVar[str] = ""  # what the reader expects on the disk, for messages

    def __init__(
        self,
        tree: FileTree,
        names: Sequence[str],
        name: str,
        *,
        channels: int = 3,
        background: Sequence[int] = (255, 255, 255),
        minimum_side: int = 8,
        labels: NamedLabels | None = None,
        label_key: Callable[[str], str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> None:
        if channels not in (1, 3, 4):
            raise UserError(f"channels={channels}: must be 1 (grey), 3 (RGB) or 4 (RGBA)")
        if len(background) != 3 or not all(0 <= value <= 255 for value in background):
            raise UserError(f"background={tuple(background)}: must be three values from 0 to 255")
        self.tree = tree
        self.names = list(names)
        self.name = name
        self.channels = channels
        self.background = (int(background[0]), int(background[1]), int(background[2]))
        self.minimum_side = minimum_side
        self.label_rows = labels
        self.label_key = label_key or file_of
        self.parameters = parameters or {}
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self.names)

    def item_name(self, index: int) -> str:
        """Name of the file within the folder or zip."""
        return self.names[index]

    def fingerprint(self) -> str:
        """Hash of the reading parameters, the labels, the names, and for each file its size and CRC (zip) or time.

        The path is not part of it: a moved zip is the same source. The files of a folder are not read, so a copy
        that does not keep their times is another source.
        """
        if self._fingerprint is None:  # a look at every file: once is enough
            self._fingerprint = self._made_fingerprint()
        return self._fingerprint

    def _made_fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        parameters = {"channels": self.channels, "background": self.background, "minimum_side": self.minimum_side}
        digest.update(json.dumps({**parameters, **self.parameters}, sort_keys=True).encode())
        if self.label_rows is not None:
            digest.update(self.label_rows.digest().encode())
        for name in self.names:
            digest.update(json.dumps(self.tree.stamp(name)).encode())
        return digest.hexdigest()

    def read(self, index: int) -> Item:
        """Reads and decodes one image; see :meth:`imago.data.sources.source.Source.read`."""
        name = self.names[index]
        try:
            image = decode(self.tree.read(name), self.channels, self.background, self.minimum_side)
            return self.annotated(Item(image, name, self.labels(name)))
        except UnreadableImageError as error:
            raise UnreadableImageError(error.reason, name) from error

    def labels(self, name: str) -> dict[str, str] | None:
        """The labels of a file; None where there are none."""
        return self.label_rows.get(self.label_key(name)) if self.label_rows is not None else None

    def annotated(self, item: Item) -> Item:
        """For readers that crop, or know landmarks: the item as it is handed out."""
        return item


def cropped(item: Item, box: Box) -> Item:
    """The part of an item within `box`; landmarks move along.

    Raises:
        UnreadableImageError: The image does not hold the box.
    """
    left, top, right, bottom = box
    height, width = item.image.shape[:2]
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise UnreadableImageError(f"{width}x{height} does not hold the crop {box}")
    image: NDArray[np.uint8] = item.image[top:bottom, left:right]
    offset = np.array([left, top])
    landmarks = None if item.landmarks is None else item.landmarks - offset
    five_points = None if item.five_points is None else item.five_points - offset
    return Item(image, item.name, item.labels, landmarks, five_points)
