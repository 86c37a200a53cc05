"""Small labelled packs whose attributes can be seen: a colour, and where a bright bar lies."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imago.data import PackedDataset, pack
from imago.data.sources.source import Item

COLOURS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}


@dataclass
class LabelledItems:
    """Items in memory."""

    items: Sequence[Item]
    name: str = "bars"

    def __len__(self) -> int:
        return len(self.items)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.name.encode())
        for item in self.items:
            digest.update(item.image.tobytes() + repr((item.name, item.labels)).encode())
        return digest.hexdigest()

    def item_name(self, index: int) -> str:
        return self.items[index].name

    def read(self, index: int) -> Item:
        return self.items[index]


def bars(count: int, seed: int = 0, labelled: bool = True, side: int = 16) -> list[Item]:
    """Images of a random colour with a bar at the top or at the bottom, and noise."""
    rng = np.random.default_rng(seed)
    items = []
    for i in range(count):
        colour, place = list(COLOURS)[rng.integers(3)], ("top", "bottom")[rng.integers(2)]
        image = np.array(COLOURS[colour], dtype=np.float64) + rng.normal(0, 20, (side, side, 3))
        image[2:5] += 80 * (place == "top")
        image[side - 5 : side - 2] += 80 * (place == "bottom")
        labels = {"Main Colour": colour, "Bar": place} if labelled else None
        items.append(Item(image.clip(0, 255).astype(np.uint8), f"bar{seed}/{i}.png", labels))
    return items


def pack_items(items: Sequence[Item], path: Path, name: str = "bars", resolution: int = 16) -> PackedDataset:
    """Packs them."""
    return pack(LabelledItems(items, name), path, resolution=resolution)
