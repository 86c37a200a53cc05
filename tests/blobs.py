"""Small pictures to pack, with and without labels."""

import hashlib

import numpy as np

from imago.data.sources.source import Item


class Blobs:
    """Smooth random pictures, 16×16."""

    name = "blobs"

    def __len__(self) -> int:
        return 48

    def fingerprint(self) -> str:
        return hashlib.sha256(b"48 blobs").hexdigest()

    def item_name(self, index: int) -> str:
        return f"{index}.png"

    def read(self, index: int) -> Item:
        rng = np.random.default_rng(index)
        y, x = np.mgrid[:16, :16] / 8 - 1
        (cy, cx), size = rng.uniform(-0.5, 0.5, 2), rng.uniform(0.2, 0.6)
        blob = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / size)[..., None] * rng.uniform(0, 1, 3)
        return Item((255 * blob).astype(np.uint8), f"{index}.png")


class LabelledBlobs(Blobs):
    """The same with two label columns, of which one has unknown values."""

    name = "labelled"

    def fingerprint(self) -> str:
        return hashlib.sha256(b"48 labelled blobs").hexdigest()

    def read(self, index: int) -> Item:
        item = super().read(index)
        labels = {"Glasses": ("no", "eyeglasses", "sunglasses")[index % 3]}
        if index % 8:
            labels["Smile"] = "yes" if index % 2 else "no"
        return Item(item.image, item.name, labels)
