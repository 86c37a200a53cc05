"""A pack read as a source, and packed again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data import pack
from imago.data.sources.packed import PackedSource
from imago.data.sources.source import Item, UnreadableImageError


@pytest.fixture
def items() -> list[Item | None]:
    """Nine pictures of 32², with some labels and landmarks."""
    rng = np.random.default_rng(0)
    made: list[Item | None] = []
    for i in range(9):
        image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        labels = None if i == 3 else {"Smile": "yes" if i % 2 else "no", "Age": "" if i == 4 else f"{i}"}
        made.append(Item(image, f"{i}.png", labels, None if i == 5 else rng.uniform(0, 31, (68, 2))))
    return made


@pytest.mark.parametrize("zip_from", [16, 64])
def test_a_pack_gives_back_what_was_packed(
    zip_from: int, items: list[Item | None], memory_source: Any, tmp_path: Path, keeps_the_contract: Any
):
    pack(memory_source(items=items), tmp_path / "a", resolution=32, zip_from=zip_from)
    source = PackedSource(tmp_path / "a")
    assert (len(source), source.name) == (9, "memory")
    for i, item in enumerate(items):
        assert item is not None
        back = source.read(i)
        np.testing.assert_array_equal(back.image, item.image)
        assert back.labels == (item.labels or {"Smile": "", "Age": ""})
        if item.landmarks is None:
            assert back.landmarks is None
        else:
            np.testing.assert_allclose(back.landmarks, item.landmarks, atol=1e-5)
    keeps_the_contract(source)


def test_packing_it_smaller_is_packing_the_images_smaller(items: list[Item | None], memory_source: Any, tmp_path: Path):
    original = memory_source(items=items)
    pack(original, tmp_path / "large", resolution=32)
    once = pack(original, tmp_path / "once", resolution=16)
    twice = pack(PackedSource(tmp_path / "large"), tmp_path / "twice", resolution=16)
    everything = np.arange(9)
    for resolution in (4, 8, 16):
        np.testing.assert_array_equal(once.images(everything, resolution), twice.images(everything, resolution))
    np.testing.assert_array_equal(once.labels, twice.labels)
    np.testing.assert_allclose(once.landmarks, twice.landmarks, atol=1e-5)


def test_a_damaged_member_is_one_unreadable_image(items: list[Item | None], memory_source: Any, tmp_path: Path):
    pack(memory_source(items=items), tmp_path / "a", resolution=32, zip_from=32)
    path = tmp_path / "a" / "pixels_0032.zip"
    content = bytearray(path.read_bytes())
    content[content.find(b"IDAT") + 10] ^= 0xFF
    path.write_bytes(content)
    source = PackedSource(tmp_path / "a")
    with pytest.raises(UnreadableImageError, match="damaged"):
        source.read(0)
    assert source.read(1).image.shape == (32, 32, 3)


def test_mistakes(tmp_path: Path, refusal: Any):
    assert "no such folder" in refusal(PackedSource, tmp_path / "no")
    assert "not a packed data set" in refusal(PackedSource, tmp_path)
