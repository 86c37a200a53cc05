"""Damaged and hostile images, links and names: each is one unreadable image, or no problem at all, in any reader."""

import csv
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data import pack
from imago.data.sources.celeba import CelebA
from imago.data.sources.celeba_hq import CelebAHQ
from imago.data.sources.curto import COLUMNS, Curto
from imago.data.sources.ffhq import FFHQ
from imago.data.sources.folder import FolderSource
from imago.data.sources.lsun import LSUN
from imago.data.sources.parquet import ParquetSource
from imago.data.sources.source import Source, UnreadableImageError

FACE = "4662626955_2f92c784bd_1299_49602580@N08_{}"


def bomb() -> bytes:
    """A PNG of some bytes that claims 30000×30000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.fixture
def pictures(encode: Any, make_noise: Any) -> list[bytes]:
    """A good PNG; then one cut short, one empty, a text, a bomb, one damaged within; and a good one."""
    good = encode(make_noise(0, 218, 178))
    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 0xFF
    return [good, good[: len(good) // 2], b"", b"GIF is no more", bomb(), bytes(damaged), good]


def write(folder: Path, names: list[str], pictures: list[bytes]) -> None:
    for name, content in zip(names, pictures, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def folder(root: Path, pictures: list[bytes]) -> Source:
    write(root, [f"{i}.png" for i in range(7)], pictures)
    return FolderSource(root)


def zipped(root: Path, pictures: list[bytes]) -> Source:
    root.mkdir()
    with zipfile.ZipFile(root / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i, content in enumerate(pictures):
            archive.writestr(f"{i}.png", content)
    return FolderSource(root / "a.zip")


def celeba(root: Path, pictures: list[bytes]) -> Source:
    write(root / "img_align_celeba_png", [f"{i + 1:06d}.png" for i in range(7)], pictures)
    return CelebA(root, attributes=False)


def celeba_hq(root: Path, pictures: list[bytes]) -> Source:
    write(root / "CelebA-HQ-img", [f"{i}.jpg" for i in range(7)], pictures)
    return CelebAHQ(root, attributes=False)


def ffhq(root: Path, pictures: list[bytes]) -> Source:
    write(root / "images1024x1024", [f"00000/{i:05d}.png" for i in range(7)], pictures)
    return FFHQ(root, landmarks=False)


def curto(root: Path, pictures: list[bytes]) -> Source:
    write(root / "samples", [f"{FACE.format(i)}.png" for i in range(7)], pictures)
    for i in range(7):
        write(root / "labels", [FACE.format(i)], [json.dumps(["kid"] * len(COLUMNS)).encode()])
    return Curto(root)


def lsun(root: Path, pictures: list[bytes]) -> Source:
    lmdb = pytest.importorskip("lmdb")
    path = root / "cat_train_lmdb"
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=1 << 22) as database, database.begin(write=True) as transaction:
        for i, content in enumerate(pictures):
            transaction.put(f"{i:040x}".encode(), content)
    return LSUN(root, "cat")


def parquet(root: Path, pictures: list[bytes]) -> Source:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    root.mkdir()
    pq.write_table(pa.table({"image": pictures}), root / "train.parquet")
    return ParquetSource(root)


@pytest.mark.parametrize("make", [folder, zipped, celeba, celeba_hq, ffhq, curto, lsun, parquet])
def test_bad_images_are_unreadable_alone(
    make: Callable[[Path, list[bytes]], Source], tmp_path: Path, pictures: list[bytes]
):
    source = make(tmp_path / "data", pictures)
    assert len(source) == 7
    np.testing.assert_array_equal(source.read(0).image, source.read(6).image)
    reasons = []
    for i in range(1, 6):
        with pytest.raises(UnreadableImageError) as caught:
            source.read(i)
        assert caught.value.name == source.item_name(i)
        assert "\n" not in caught.value.reason
        reasons.append(caught.value.reason)
    assert "truncated" in reasons[0]
    assert reasons[1:4] == ["empty file", "not an image of a known format", "decompression bomb: too many pixels"]


NAMES = [
    "über/größe.png",
    "人物/顔.png",
    "e\u0301.png",  # decomposed, as macOS writes it
    "é.png",
    "comma, and \"quotes\".png",
    "new\nline.png",
    "tab\t.png",
    "space .png",
    "a/same.png",
    "b/same.png",
    "-rf.png",
    "🙂.png",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["folder", "zip", "celeba_hq"])
def test_any_name_goes(kind: str, tmp_path: Path, encode: Any, make_noise: Any, keeps_the_contract: Any):
    root = tmp_path / "data"
    write(root, NAMES, [encode(make_noise(i)) for i in range(len(NAMES))])
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            for i, name in enumerate(NAMES):
                archive.writestr(name, encode(make_noise(i)))
        root = tmp_path / "data.zip"
    source = CelebAHQ(root) if kind == "celeba_hq" else FolderSource(root)
    assert {source.item_name(i) for i in range(len(source))} == set(NAMES)
    for i in range(len(source)):
        np.testing.assert_array_equal(source.read(i).image, make_noise(NAMES.index(source.item_name(i))))
    keeps_the_contract(source)


def test_names_that_are_no_unicode(tmp_path: Path, encode: Any, make_noise: Any, keeps_the_contract: Any):
    name = b"caf\xe9.png"  # latin-1
    try:
        (tmp_path / name.decode("utf-8", "surrogateescape")).write_bytes(encode(make_noise(0)))
    except OSError:
        pytest.skip("this file system takes Unicode only")
    keeps_the_contract(FolderSource(tmp_path))


def test_links_in_circles_are_followed_once(tmp_path: Path, encode: Any, make_noise: Any):
    write(tmp_path / "data" / "a", ["1.png"], [encode(make_noise(1))])
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "self").symlink_to(tmp_path / "data" / "self")
    (tmp_path / "data" / "self.png").symlink_to(tmp_path / "data" / "self.png")
    (tmp_path / "data" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    write(tmp_path / "elsewhere", ["2.png"], [encode(make_noise(2))])
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    for source in (FolderSource(tmp_path / "data"), CelebAHQ(tmp_path / "data")):
        assert [source.item_name(i) for i in range(len(source))] == ["a/1.png", "linked/2.png"]


def test_a_pack_lists_what_it_left_out(tmp_path: Path, pictures: list[bytes]):
    names = ["0.png", "1,\ncut.png", *(f"{i}.png" for i in range(2, 7))]
    write(tmp_path / "data", names, pictures)
    packed = pack(FolderSource(tmp_path / "data"), tmp_path / "out", resolution=16, max_unreadable=1)
    assert (packed.count, packed.unreadable) == (2, 5)
    with open(packed.path / "unreadable.csv", encoding="utf-8", newline="") as file:
        listed = {row[0] for row in csv.reader(file)}
    assert set(names[1:6]) <= listed
    assert sorted(path.name for path in tmp_path.iterdir() if path.name not in ("data", "out.lock")) == ["out"]


@pytest.mark.slow
@pytest.mark.parametrize("make", [zipped, celeba, curto, lsun, parquet])
def test_two_processes_pack_what_one_does(
    make: Callable[[Path, list[bytes]], Source],
    tmp_path: Path,
    encode: Any,
    make_noise: Any,
    contents: Callable[[Path], dict[str, bytes]],
):
    source = make(tmp_path / "data", [encode(make_noise(i, 218, 178)) for i in range(7)])
    one = pack(source, tmp_path / "one", resolution=512)  # in runs of five images
    two = pack(source, tmp_path / "two", resolution=512, workers=2)
    assert contents(one.path) == contents(two.path)
