"""Images made on the spot, and a source that lives in memory."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imago.data.sources.source import Item, UnreadableImageError


@dataclass
class MemorySource:
    """Items given as they are; None is an unreadable one. Module-level, so that worker processes can unpickle it."""

    items: list[Item | None]
    name: str = "memory"
    version: str = "1"
    reads: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.items)

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.name}/{self.version}/{len(self)}".encode()).hexdigest()

    def item_name(self, index: int) -> str:
        return f"{index}.png"

    def read(self, index: int) -> Item:
        self.reads.append(index)
        item = self.items[index]
        if item is None:
            raise UnreadableImageError("broken", f"{index}.png")
        return item


def make_items(count: int, height: int = 16, width: int = 16, channels: int = 3, seed: int = 0) -> list[Item | None]:
    images = np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    return [Item(image, f"{i}.png") for i, image in enumerate(images)]


@pytest.fixture
def memory_source() -> Callable[..., MemorySource]:
    """memory_source(count, **of make_items) or memory_source(items=[…])."""

    def make(count: int = 0, items: list[Item | None] | None = None, **kwargs: int) -> MemorySource:
        return MemorySource(make_items(count, **kwargs) if items is None else items)

    return make


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """Twelve 20×24 PNGs of noise, 1.png … 12.png."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(1, 13):
        Image.fromarray(rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """All files of a folder: name → bytes."""
    return folder_bytes
