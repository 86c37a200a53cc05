"""CIFAR-10's pickles, as Python 2 wrote them, and pickles that would do harm."""

import io
import os
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data.sources.cifar10 import CIFAR10
from imago.data.sources.restricted_pickle import load_plain
from imago.errors import UserError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PER_BATCH = 4


def batch_of(number: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (PER_BATCH, 3072), dtype=np.uint8), rng.integers(0, 10, PER_BATCH).tolist()


def python2_pickle(label: str, labels: list[int], data: np.ndarray) -> bytes:
    """A batch byte for byte as cPickle of Python 2 with protocol 2 wrote it (its memo marks left out)."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()  # SHORT_BINSTRING

    numbers = b"](" + b"".join(b"K" + bytes([n]) for n in labels) + b"e"
    dtype = b"cnumpy\ndtype\n" + text("u1") + b"K\0K\1\x87R(K\3" + text("|")
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    shape = b"K" + bytes([data.shape[0]]) + b"M" + struct.pack("<H", data.shape[1]) + b"\x86"
    raw = b"T" + struct.pack("<i", data.nbytes) + data.tobytes()  # BINSTRING
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text("b") + b"\x87R"
    array += b"(K\1" + shape + dtype + b"\x89" + raw + b"tb"
    names = b"](" + b"".join(text(f"picture_s_{n:06d}.png") for n in labels) + b"e"
    content = text("batch_label") + text(label) + text("labels") + numbers + text("data") + array
    return b"\x80\2}(" + content + text("filenames") + names + b"u."


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """cifar-10-batches-py with four images per batch."""
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number in range(1, 6):
        images, labels = batch_of(number)
        content = python2_pickle(f"training batch {number} of 5", labels, images)
        (folder / f"data_batch_{number}").write_bytes(content)
    images, labels = batch_of(6)
    (folder / "test_batch").write_bytes(python2_pickle("testing batch 1 of 1", labels, images))
    meta = {"num_cases_per_batch": 10000, "label_names": CLASSES, "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=0))
    (folder / "readme.html").write_text("<html></html>")
    return folder


def archive_of(cifar: Path, to: Path) -> Path:
    with tarfile.open(to, "w:gz") as archive:
        archive.add(cifar, "cifar-10-batches-py")
    return to


@pytest.mark.parametrize("at", ["folder", "up", "archive", "folder of the archive"])
def test_every_place(at: str, cifar: Path, tmp_path: Path, keeps_the_contract: Any):
    (tmp_path / "tar").mkdir()
    archive = archive_of(cifar, tmp_path / "tar" / "cifar-10-python.tar.gz")
    root = {"folder": cifar, "up": cifar.parent, "archive": archive}.get(at, archive.parent)
    source = CIFAR10(root)
    assert (len(source), source.name) == (5 * PER_BATCH, "cifar10_train")
    for index in range(len(source)):
        images, labels = batch_of(1 + index // PER_BATCH)
        item = source.read(index)
        np.testing.assert_array_equal(item.image, images[index % PER_BATCH].reshape(3, 32, 32).transpose(1, 2, 0))
        assert item.labels == {"class": CLASSES[labels[index % PER_BATCH]]}
    assert source.item_name(7) == "data_batch_2/00003"
    keeps_the_contract(source)
    assert source.fingerprint() == CIFAR10(cifar).fingerprint()


def test_splits(cifar: Path, refusal: Any):
    test, everything = CIFAR10(cifar, split="test"), CIFAR10(cifar, split="all")
    assert (len(test), len(everything), everything.name) == (PER_BATCH, 6 * PER_BATCH, "cifar10")
    np.testing.assert_array_equal(test.read(2).image, everything.read(5 * PER_BATCH + 2).image)
    assert "split='valid'" in refusal(CIFAR10, cifar, split="valid")
    with pytest.raises(IndexError):
        test.read(PER_BATCH)


def test_pickles_of_python_3_are_read_too(cifar: Path):
    before = CIFAR10(cifar).read(0).image
    images, labels = batch_of(1)
    for protocol in (2, 3, 4):
        content = pickle.dumps({"data": images, "labels": labels}, protocol=protocol)
        (cifar / "data_batch_1").write_bytes(content)
        np.testing.assert_array_equal(CIFAR10(cifar).read(0).image, before)


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


def test_code_is_refused_and_not_run(cifar: Path, tmp_path: Path, refusal: Any):
    proof = tmp_path / "was-here"
    images, labels = batch_of(1)
    for protocol in range(6):
        content = pickle.dumps({"data": images, "labels": labels, "x": Malicious(f"touch {proof}")}, protocol=protocol)
        (cifar / "data_batch_1").write_bytes(content)
        message = refusal(CIFAR10, cifar)
        assert "data_batch_1: refused, because this pickle would run code (it names" in message
    for evil in (
        b'cbuiltins\neval\n(S\'open("%s", "w")\'\ntR.' % os.fsencode(proof),
        b"cnumpy\nndarray\n(K\x10tR.",  # even of numpy, only what arrays of bytes need
        b"cnumpy\nload\n(S'x'\ntR.",
        b"c_codecs\nencode\n(V\x41\nS'rot13'\ntR.",
        b"Pexternal\n.",
        b"cnumpy._core.multiarray\n_reconstruct.__globals__\n.",
    ):
        with pytest.raises(UserError, match="would run code"):
            load_plain(evil, "evil")
    assert not proof.exists()


def test_damaged_pickles_are_told(cifar: Path, refusal: Any, web_page: bytes):
    whole = (cifar / "data_batch_2").read_bytes()
    images, _ = batch_of(2)
    for content, expected in (
        (whole[:-500], "damaged or not a pickle"),
        (b"", "damaged or not a pickle"),
        (web_page, "damaged or not a pickle"),
        (pickle.dumps([1, 2]), "not a batch of CIFAR-10"),
        (pickle.dumps({"labels": [1]}), "its data is not (N, 3072) bytes"),
        (pickle.dumps({"data": images.astype(float), "labels": [1] * PER_BATCH}, 2), "expected bytes"),
        (pickle.dumps({"data": images[:, :100], "labels": [1] * PER_BATCH}, 2), "(N, 3072)"),
        (pickle.dumps({"data": images, "labels": [1]}, 2), "no label 0 … 9 for each image"),
        (pickle.dumps({"data": images, "fine_labels": [1]}, 2), "no label 0 … 9"),
        (pickle.dumps({"data": images, "labels": [1, 2, 3, 10]}, 2), "no label 0 … 9"),
    ):
        (cifar / "data_batch_2").write_bytes(content)
        message = refusal(CIFAR10, cifar)
        assert expected in message
        assert "data_batch_2" in message


def test_mistakes(cifar: Path, tmp_path: Path, refusal: Any, web_page: bytes):
    assert "did you mean" in refusal(CIFAR10, tmp_path / "date")
    (cifar / "data_batch_3").unlink()
    assert "data_batch_3 is missing; expected <root>/cifar-10-batches-py" in refusal(CIFAR10, cifar)
    archive = archive_of(cifar, tmp_path / "a.tar.gz")
    assert "a.tar.gz!data_batch_3 is missing" in refusal(CIFAR10, archive)
    content = archive.read_bytes()
    for name, damaged in (("half.tar.gz", content[: len(content) // 2]), ("text.tar.gz", b"hello")):
        (tmp_path / name).write_bytes(damaged)
        assert "not a whole tar.gz" in refusal(CIFAR10, tmp_path / name)
    (tmp_path / "page.tar.gz").write_bytes(web_page)
    assert "a web page" in refusal(CIFAR10, tmp_path / "page.tar.gz")
    (cifar / "batches.meta").write_bytes(pickle.dumps({"fine_label_names": []}))
    assert "no ten label_names" in refusal(CIFAR10, cifar)
    for names, expected in (("data_batch_1.bin", "get the Python version"), ("train test meta", "CIFAR-100")):
        other = tmp_path / names
        other.mkdir()
        for name in names.split():
            (other / name).write_bytes(b"")
        assert expected in refusal(CIFAR10, other)


def test_files_with_a_path_out_of_the_archive_are_never_unpacked(cifar: Path, tmp_path: Path):
    archive = archive_of(cifar, tmp_path / "a.tar.gz")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar, "cifar-10-batches-py")
        member = tarfile.TarInfo("../../evil")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("x/test_batch")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert len(CIFAR10(archive)) == 5 * PER_BATCH
    assert not list(tmp_path.parent.glob("evil"))
