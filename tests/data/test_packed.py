import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data import PackedDataset, pack
from imago.errors import UserError


@pytest.fixture
def packed(memory_source, tmp_path: Path) -> PackedDataset:
    source = memory_source(20)
    for item in source.items:
        item.labels, item.landmarks = {"a": "x"}, np.ones((68, 2))
    return pack(source, tmp_path / "pack", resolution=16, zip_from=16)


def test_descriptions(packed: PackedDataset):
    assert (packed.name, packed.source, packed.count) == ("memory", "MemorySource", 20)
    assert packed.preparation["crop"] == "center"
    assert "20 images" in repr(packed)


def test_requests_outside(packed: PackedDataset):
    with pytest.raises(UserError, match="no resolution 32; it holds 4, 8, 16"):
        packed.images(np.arange(2), 32)
    with pytest.raises(UserError, match="it holds 4, 8, 16"):
        packed.extent(5)
    for index in (-1, 20):
        with pytest.raises(IndexError):
            packed.images(np.array([0, index]), 8)
    assert packed.images(np.array([], dtype=np.int64), 16).shape == (0, 3, 16, 16)


def test_pickle_is_small_and_reads_on(packed: PackedDataset):
    expected = packed.images(np.arange(20), 16)
    content = pickle.dumps(packed)
    assert len(content) < 3000
    copy = pickle.loads(content)
    np.testing.assert_array_equal(copy.images(np.arange(20), 16), expected)
    np.testing.assert_array_equal(copy.labels, packed.labels)
    np.testing.assert_array_equal(copy.landmarks, packed.landmarks)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_readers_do_not_disturb_each_other(packed: PackedDataset):
    order = np.tile(np.arange(20), 20)
    expected = packed.images(order, 16)
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(packed.images(order, 16), expected) else 1)
        children.append(child)
    np.testing.assert_array_equal(packed.images(order, 16), expected)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]


def change(path: Path, **changes: Any) -> None:
    file = path / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_what_is_not_a_pack(packed: PackedDataset, tmp_path: Path):
    def message(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            PackedDataset(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def copy(name: str) -> Path:
        return Path(shutil.copytree(packed.path, tmp_path / name))

    assert "no such folder" in message(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "not a packed data set: no dataset.json" in message(tmp_path / "empty")
    (tmp_path / "empty" / "dataset.json").write_text("{")
    assert "cannot be read" in message(tmp_path / "empty")
    (tmp_path / "empty" / "dataset.json").write_text('{"labels": []}')
    assert "something else" in message(tmp_path / "empty")

    change(copy("future"), version=99)
    assert "format 99" in message(tmp_path / "future")
    change(copy("keys"), base=None)
    assert "damaged dataset.json" in message(tmp_path / "keys")
    change(copy("count"), count=21)
    assert "holds uint8 (20, 4, 4, 3)" in message(tmp_path / "count")
    (copy("missing") / "labels.npy").unlink()
    assert "labels.npy is missing" in message(tmp_path / "missing")
    os.truncate(copy("short") / "pixels_0008.npy", 500)
    assert "pixels_0008.npy: damaged" in message(tmp_path / "short")
    os.truncate(copy("zip") / "pixels_0016.zip", 5000)
    assert "pixels_0016.zip: damaged" in message(tmp_path / "zip")


@pytest.mark.parametrize("name", ["pixels_0004.npy", "pixels_0016.zip", "labels.npy", "landmarks.npy"])
def test_verify_names_the_damaged_file(packed: PackedDataset, name: str):
    packed.verify()
    content = bytearray((packed.path / name).read_bytes())
    content[150] ^= 1
    (packed.path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"damaged since it was packed: {name};"):
        PackedDataset(packed.path).verify()


def test_verify_notices_a_changed_description(packed: PackedDataset):
    change(packed.path, name="other")
    with pytest.raises(UserError, match=r"dataset\.json was changed"):
        PackedDataset(packed.path).verify()


def test_a_damaged_png_is_named(packed: PackedDataset):
    content = bytearray((packed.path / "pixels_0016.zip").read_bytes())
    content[200] ^= 0xFF
    (packed.path / "pixels_0016.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"img00000000\.png is damaged"):
        PackedDataset(packed.path).images(np.array([0]), 16)
