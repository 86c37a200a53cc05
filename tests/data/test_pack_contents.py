"""What a pack holds besides pixels: names, several items an entry, what was left out; and how PNGs are encoded."""

from pathlib import Path

import numpy as np
import pytest

from imago.data import PackedDataset, pack
from imago.data.sources.source import Item, SkippedImageError
from imago.errors import UserError


class Photos:
    """Entries with several items: entry i holds i % 3 of them, none being a reason to skip it."""

    name = "photos"

    def __init__(self, count: int = 7) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        return f"photos {self.count}"

    def item_name(self, index: int) -> str:
        return f"{index}\n\r\udcff\u2028\x1c,.jpg"  # names hold anything that a file system allows

    def read(self, index: int) -> Item:
        return self.read_all(index)[0]

    def read_all(self, index: int) -> list[Item]:
        if index % 3 == 0:
            raise SkippedImageError("no face found")
        image = np.full((16, 16, 3), index, dtype=np.uint8)
        return [Item(image, f"{self.item_name(index)}#{k}", {"entry": str(index)}) for k in range(index % 3)]


def test_entries_of_several_items_and_their_names(tmp_path: Path):
    packed = pack(Photos(), tmp_path / "out", resolution=16, max_unreadable=0)
    assert [int(image[0, 0, 0]) for image in packed.images(np.arange(6), 16)] == [1, 2, 2, 4, 5, 5]
    name = Photos().item_name
    expected = [f"{name(entry)}#{k}" for entry, k in ((1, 0), (2, 0), (2, 1), (4, 0), (5, 0), (5, 1))]
    assert packed.names == expected
    assert packed.item_name(2) == expected[2]
    assert (packed.count, packed.unreadable, packed.skipped) == (6, 3, 3)
    assert packed.left_out() == [(name(entry), "no face found") for entry in (0, 3, 6)]
    assert packed.label_texts(3) == {"entry": "4"}
    packed.verify()


def test_packs_without_names_number_their_images(memory_source, tmp_path: Path):
    packed = pack(memory_source(3), tmp_path / "out", resolution=16)
    del packed._checksums["names.jsonl"]
    assert packed.names == ["00000000", "00000001", "00000002"]
    packed = PackedDataset(tmp_path / "out")
    (tmp_path / "out" / "names.jsonl").write_text('"a"\n')
    with pytest.raises(UserError, match="holds 1 names"):
        _ = packed.names


def test_png_levels_differ_in_size_not_in_pixels(memory_source, tmp_path: Path):
    ramp = np.arange(64, dtype=np.uint8).reshape(1, 64, 1).repeat(64, 0).repeat(3, 2)
    source = memory_source(items=[Item(ramp, "ramp.png")] * 3)
    packs = [pack(source, tmp_path / str(k), resolution=64, zip_from=64, png_level=k) for k in (0, 6)]
    for packed in packs:
        np.testing.assert_array_equal(packed.images(np.array([1]), 64)[0], ramp.transpose(2, 0, 1))
    sizes = [(packed.path / "pixels_0064.zip").stat().st_size for packed in packs]
    assert sizes[0] > 5 * sizes[1]
    with pytest.raises(UserError, match="png_level=10"):
        pack(source, tmp_path / "no", resolution=64, png_level=10)
