"""LSUN's databases and the folders that its tool exports."""

import hashlib
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data.sources.lsun import LSUN
from imago.data.sources.source import UnreadableImageError


def keys_of(count: int) -> list[bytes]:
    """As LSUN has them: 40 hexadecimal digits."""
    return [hashlib.sha1(bytes([i])).hexdigest().encode() for i in range(count)]


@pytest.fixture
def contents(encode: Any, make_noise: Any) -> dict[bytes, bytes]:
    """Key → WebP file, in no order; one is damaged."""
    files = {key: encode(make_noise(i, 16, 24), "WEBP") for i, key in enumerate(keys_of(9))}
    files[keys_of(9)[4]] = b"not a picture"
    return files


@pytest.fixture
def lsun(tmp_path: Path, contents: dict[bytes, bytes]) -> Path:
    """A folder with two unzipped databases."""
    lmdb = pytest.importorskip("lmdb")
    for name, files in (("bedroom_train", contents), ("bedroom_val", dict(list(contents.items())[:2]))):
        path = tmp_path / "lsun" / f"{name}_lmdb"
        path.mkdir(parents=True)
        with lmdb.open(str(path), map_size=1 << 20) as database, database.begin(write=True) as transaction:
            for key, value in files.items():
                transaction.put(key, value)
    return tmp_path / "lsun"


@pytest.mark.parametrize("how", ["category", "itself"])
def test_database(how: str, lsun: Path, contents: dict[bytes, bytes], keeps_the_contract: Any):
    source = LSUN(lsun, "bedroom") if how == "category" else LSUN(lsun / "bedroom_train_lmdb")
    assert (source.name, len(source)) == ("lsun_bedroom_train", 9)
    assert [source.item_name(i).encode() for i in range(9)] == sorted(contents)
    readable = 0
    for i in range(9):
        if source.item_name(i).encode() == keys_of(9)[4]:
            with pytest.raises(UnreadableImageError, match="not an image") as caught:
                source.read(i)
            assert caught.value.name == source.item_name(i)
        else:
            readable += source.read(i).image.shape == (16, 24, 3)
    assert readable == 8
    keeps_the_contract(source)


def test_options(lsun: Path):
    first = LSUN(lsun, "bedroom", max_images=3)
    assert [first.item_name(i) for i in range(3)] == [LSUN(lsun, "bedroom").item_name(i) for i in range(3)]
    validation = LSUN(lsun, "bedroom", split="val", channels=1)  # a second database beside the first
    assert (len(validation), validation.name) == (2, "lsun_bedroom_val")
    assert LSUN(lsun, split="val").name == "lsun_bedroom_val"  # the only one
    assert len({first.fingerprint(), validation.fingerprint(), LSUN(lsun, "bedroom").fingerprint()}) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_readers_in_forks_and_copies(lsun: Path):
    source = LSUN(lsun, "bedroom", max_images=3)
    copies = [pickle.loads(pickle.dumps(source)), LSUN(lsun, "bedroom", max_images=3), source]
    expected = [source.read(i).image.sum() for i in range(3)]
    child = os.fork()
    same = all(copy.read(i).image.sum() == expected[i] for copy in copies for _ in range(10) for i in range(3))
    if child == 0:
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert same


@pytest.mark.parametrize("flat", [True, False])
def test_exported_files_come_in_the_same_order(flat: bool, lsun: Path, contents: dict[bytes, bytes], tmp_path: Path):
    folder = tmp_path / "export" / "bedroom"
    for key, content in contents.items():
        name = key.decode()
        path = folder / ("" if flat else "/".join(name[:6])) / f"{name}.webp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    database = LSUN(lsun, "bedroom", max_images=6)
    for source in (LSUN(tmp_path / "export", "bedroom", max_images=6), LSUN(folder, max_images=6)):
        names = [Path(source.item_name(i)).stem for i in range(6)]
        assert names == [database.item_name(i) for i in range(6)]
        place = next(i for i in range(6) if names[i] != keys_of(9)[4].decode())
        np.testing.assert_array_equal(source.read(place).image, database.read(place).image)


def test_mistakes(lsun: Path, tmp_path: Path, refusal: Any, web_page: bytes):
    message = refusal(LSUN, lsun, "church_outdoor")
    assert "no church_outdoor_train_lmdb in it; it holds bedroom_train_lmdb, bedroom_val_lmdb" in message
    assert "split='validation'" in refusal(LSUN, lsun, "bedroom", split="validation")
    assert "max_images=0" in refusal(LSUN, lsun, "bedroom", max_images=0)
    assert "did you mean" in refusal(LSUN, tmp_path / "lsum", "bedroom")
    assert "not bedroom_val_lmdb" in refusal(LSUN, lsun / "bedroom_train_lmdb", "bedroom", split="val")
    (tmp_path / "zipped").mkdir()
    (tmp_path / "zipped" / "cat_train_lmdb.zip").write_bytes(b"")
    assert "unzip cat_train_lmdb.zip first" in refusal(LSUN, tmp_path / "zipped", "cat")
    assert "unzip it" in refusal(LSUN, tmp_path / "zipped" / "cat_train_lmdb.zip", "cat")
    assert "no LSUN database in it; expected <root>/" in refusal(LSUN, tmp_path / "zipped")

    content = (lsun / "bedroom_train_lmdb" / "data.mdb").read_bytes()
    for name, damaged, expected in (
        ("page", web_page, "a web page"),
        ("half", content[: len(content) // 2 // 4096 * 4096], "truncated"),
        ("start", content[:100], "not a whole LMDB database"),
        ("other", b"\0" * 50_000, "not a whole LMDB database"),
    ):
        folder = tmp_path / f"{name}_train_lmdb"
        folder.mkdir()
        (folder / "data.mdb").write_bytes(damaged)
        assert expected in refusal(LSUN, folder)
    shutil.rmtree(tmp_path / "zipped")
    lmdb = pytest.importorskip("lmdb")
    lmdb.open(str(tmp_path / "empty_train_lmdb"), map_size=1 << 20).close()
    assert "holds no images" in refusal(LSUN, tmp_path / "empty_train_lmdb")
