"""A packed data set as a source again, to pack it smaller, to filter it or to rank it."""

import hashlib
from pathlib import Path
from typing import ClassVar

import numpy as np

from imago.data.packed import PackedDataset
from imago.data.sources.source import Item, UnreadableImageError
from imago.errors import UserError


class PackedSource:
    """The images of a pack's largest resolution, with its labels and landmarks.

    Args:
        root: The folder of the pack; ``~`` is expanded.

    Attributes:
        dataset: The pack.

    Raises:
        UserError: Not a packed data set, or a damaged one.
    """

    layout: ClassVar[str] = "<root>/dataset.json with pixels_*.npy or .zip, as prepare.py writes it"

    def __init__(self, root: str | Path) -> None:
        self.dataset = PackedDataset(root)
        self.name = self.dataset.name

    def __len__(self) -> int:
        return len(self.dataset)

    def fingerprint(self) -> str:
        """Hash of the pack's checksum, which its whole content determines."""
        return hashlib.blake2b(f"packed/{self.dataset.checksum}".encode(), digest_size=16).hexdigest()

    def item_name(self, index: int) -> str:
        """See :meth:`imago.data.packed.PackedDataset.item_name`."""
        return self.dataset.item_name(index)

    def read(self, index: int) -> Item:
        """One image; see :meth:`imago.data.sources.source.Source.read`."""
        pack, name = self.dataset, self.item_name(index)
        try:
            image = pack.images(np.array([index]), pack.resolutions[-1])[0].transpose(1, 2, 0)
        except UserError as error:  # one damaged PNG
            raise UnreadableImageError(str(error), name) from error
        landmarks = None
        if pack.landmarks is not None and not np.isnan(pack.landmarks[index]).any():
            landmarks = np.array(pack.landmarks[index])
        return Item(np.ascontiguousarray(image), name, pack.label_texts(index), landmarks)
