"""MNIST's idx files and the RGB set made of them."""

import gzip
import os
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data.sources.mnist import MNIST

IMAGES = {"train": np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)}
IMAGES["t10k"] = np.random.default_rng(1).integers(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS = {key: (np.arange(len(images)) * 7 % 10).astype(np.uint8) for key, images in IMAGES.items()}


def idx(array: np.ndarray) -> bytes:
    """Two zeros, the type (8: unsigned byte), the number of dimensions, the dimensions, the bytes."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder: Path, dot: str = "-", zipped: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for key in IMAGES:
        for base, content in ((f"{key}-images{dot}idx3", IMAGES[key]), (f"{key}-labels{dot}idx1", LABELS[key])):
            data = gzip.compress(idx(content)) if zipped else idx(content)
            (folder / f"{base}-ubyte{'.gz' if zipped else ''}").write_bytes(data)
    return folder


@pytest.mark.parametrize(("dot", "zipped", "below"), [("-", True, ""), (".", False, ""), ("-", False, "MNIST/raw")])
def test_grey(dot: str, zipped: bool, below: str, tmp_path: Path, keeps_the_contract: Any):
    write(tmp_path / below, dot, zipped)
    source = MNIST(tmp_path)
    assert (len(source), source.name) == (30, "mnist_train")
    for i in range(30):
        item = source.read(i)
        assert item.image.shape == (32, 32, 1)
        np.testing.assert_array_equal(item.image[2:30, 2:30, 0], IMAGES["train"][i])
        assert item.image.sum() == IMAGES["train"][i].sum()
        assert item.labels == {"digit": str(i * 7 % 10)}
    keeps_the_contract(source)
    test = MNIST(tmp_path, split="test", pad=False)
    np.testing.assert_array_equal(test.read(4).image[:, :, 0], IMAGES["t10k"][4])
    assert len(MNIST(tmp_path, split="all")) == 35


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path):
    one, other = write(tmp_path / "a"), write(tmp_path / "b", dot=".", zipped=False)
    assert MNIST(one).fingerprint() == MNIST(other).fingerprint()
    assert MNIST(one, pad=False).fingerprint() != MNIST(one).fingerprint()
    rgb = [MNIST(one, variant="rgb", count=n, digit_seed=s).fingerprint() for n, s in ((10, 1), (11, 1), (10, 2))]
    assert len({*rgb, MNIST(one).fingerprint()}) == 4


def test_rgb(tmp_path: Path, keeps_the_contract: Any):
    source = MNIST(write(tmp_path), variant="rgb", count=1000)
    assert (len(source), source.name) == (1000, "mnist_rgb_train")
    used: Counter[int] = Counter()
    for i in range(1000):
        item, parts = source.read(i), source.parts(i)
        assert item.image.shape == (32, 32, 3)
        for channel, part in enumerate(parts):
            np.testing.assert_array_equal(item.image[2:30, 2:30, channel], IMAGES["train"][part])
        red, green, blue = (int(LABELS["train"][part]) for part in parts)
        assert item.labels == {"number": str(100 * red + 10 * green + blue)}
        used.update(parts)
    assert set(used) == set(range(30))
    chi_square = sum((used[part] - 100) ** 2 / 100 for part in range(30))
    assert chi_square < 58.3  # 99.9% quantile with 29 degrees of freedom
    keeps_the_contract(source)
    # Image i depends on (digit_seed, i) alone.
    longer = MNIST(tmp_path, variant="rgb", count=2000)
    np.testing.assert_array_equal(longer.read(999).image, source.read(999).image)
    other = MNIST(tmp_path, variant="rgb", digit_seed=1)
    assert [longer.parts(i) for i in range(9)] != [other.parts(i) for i in range(9)]


def test_mistakes(tmp_path: Path, refusal: Any, web_page: bytes):
    folder = write(tmp_path / "mnist")
    assert "split='val'" in refusal(MNIST, folder, split="val")
    assert "variant='color'" in refusal(MNIST, folder, variant="color")
    assert "count=0" in refusal(MNIST, folder, variant="rgb", count=0)
    assert "did you mean" in refusal(MNIST, tmp_path / "mnits")
    assert "a file, not a folder" in refusal(MNIST, folder / "train-images-idx3-ubyte.gz")
    (tmp_path / "empty").mkdir()
    assert "no MNIST files in it; expected <root>/train-images-idx3-ubyte.gz" in refusal(MNIST, tmp_path / "empty")
    images, labels = folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz"
    for path, content, expected in (
        (images, web_page, "a web page"),
        (images, images.read_bytes()[:-100], "damaged or truncated"),
        (images, gzip.compress(idx(IMAGES["train"])[:-100]), "truncated"),
        (images, idx(IMAGES["train"]) + b"more", "bytes for the shape"),
        (images, b"", "its magic number is nothing"),
        (images, labels.read_bytes(), "its magic number is 2049, expected 2051"),
        (images, gzip.compress(idx(IMAGES["train"][:, :20])), "images of 20x28"),
        (images, gzip.compress(idx(IMAGES["train"][:7])), "7 images and 30 labels in the train files"),
        (labels, idx(LABELS["train"] + 1), "a label of 10"),
    ):
        before = path.read_bytes()
        path.write_bytes(content)
        assert expected in refusal(MNIST, folder)
        path.write_bytes(before)
    labels.unlink()
    assert "no train-labels-idx1-ubyte.gz" in refusal(MNIST, folder)
    assert len(MNIST(folder, split="test")) == 5
    with pytest.raises(IndexError):
        MNIST(folder, split="test").read(5)


@pytest.mark.skipif("IMAGO_TEST_DATA" not in os.environ, reason="set IMAGO_TEST_DATA to a folder with mnist/")
def test_the_real_files():
    root = Path(os.environ["IMAGO_TEST_DATA"]) / "mnist"
    train, test = MNIST(root), MNIST(root, split="test")
    counts = Counter((train.read(i).labels or {})["digit"] for i in range(60_000))
    published = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)  # of the digits 0 to 9
    assert counts == {str(digit): count for digit, count in enumerate(published)}
    assert [(test.read(i).labels or {})["digit"] for i in range(5)] == ["7", "2", "1", "0", "4"]
    rgb = MNIST(root, variant="rgb")
    assert len(rgb) == 1_000_000
    numbers = {(rgb.read(i).labels or {})["number"] for i in range(20_000)}
    assert numbers == {str(number) for number in range(1000)}
