"""CIFAR-10 (Krizhevsky 2009), from its Python pickles, which are read without running code."""

import hashlib
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imago.data.sources.data_files import PerProcess, refuse_web_page
from imago.data.sources.file_tree import suggestion
from imago.data.sources.restricted_pickle import load_plain
from imago.data.sources.source import Item
from imago.errors import UserError, first_line

_FOLDER = "cifar-10-batches-py"
_ARCHIVE = "cifar-10-python.tar.gz"
_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_SPLITS = {"train": _TRAIN, "test": ("test_batch",), "all": (*_TRAIN, "test_batch")}
_LARGEST = 1 << 28  # bytes of one file; a batch has 31 million


class CIFAR10:
    """CIFAR-10's 50,000 training and 10,000 test images of 32×32 RGB pixels.

    The label column "class" holds the names of ``batches.meta`` ("airplane", …, "truck").

    Args:
        root: The folder ``cifar-10-batches-py``, the one that holds it, or ``cifar-10-python.tar.gz`` (or the folder
            that holds this); ``~`` is expanded.
        split: "train", "test" or "all" (train first).

    Raises:
        UserError: Missing or damaged files, another version of the data set, a pickle that would run code.
    """

    layout: ClassVar[str] = f"<root>/{_FOLDER}/data_batch_1 … data_batch_5, test_batch, batches.meta; or {_ARCHIVE}"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        if split not in _SPLITS:
            raise UserError(f"split={split!r}: must be one of {', '.join(_SPLITS)}")
        self.name = "cifar10" + ("" if split == "all" else f"_{split}")
        path = _find(Path(root).expanduser().absolute(), root)
        self._batches = PerProcess(_Batches, path, _SPLITS[split])  # 31 MB per batch, loaded again in each process
        batches = self._batches.get()
        self._counts = [len(images) for images in batches.images]
        self._fingerprint = batches.fingerprint
        self._files = _SPLITS[split]

    def __len__(self) -> int:
        return sum(self._counts)

    def fingerprint(self) -> str:
        """Hash of the content of the files."""
        return self._fingerprint

    def _place(self, index: int) -> tuple[int, int]:
        for batch, count in enumerate(self._counts):
            if index < count:
                return batch, index
            index -= count
        raise IndexError(f"image {index + len(self)} of {len(self)}")

    def item_name(self, index: int) -> str:
        """The file and the row in it."""
        batch, row = self._place(index)
        return f"{self._files[batch]}/{row:05d}"

    def read(self, index: int) -> Item:
        """One image, 32×32 RGB; see :meth:`imago.data.sources.source.Source.read`."""
        batch, row = self._place(index)
        batches = self._batches.get()
        image = np.ascontiguousarray(batches.images[batch][row].transpose(1, 2, 0))
        return Item(image, self.item_name(index), {"class": batches.classes[batches.labels[batch][row]]})


class _Batches:
    """The content of the batches.

    Attributes:
        images: Per batch, uint8 ``(N, 3, 32, 32)``.
        labels: Per batch, N numbers of classes.
        classes: Names.
        fingerprint: Hash of the files.
    """

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        files = _archived(path, {*names, "batches.meta"}) if path.is_file() else None
        digest = hashlib.blake2b(digest_size=16)
        self.images: list[NDArray[np.uint8]] = []
        self.labels: list[list[int]] = []

        def load(name: str) -> tuple[dict[str, Any], str]:
            where = f"{path}{'!' if files else '/'}{name}"
            if files is not None:
                content = files.get(name)
            else:
                content = (path / name).read_bytes() if (path / name).is_file() else None
            if content is None:
                raise UserError(f"{where} is missing; expected {CIFAR10.layout}")
            digest.update(content)
            value = load_plain(content, where)
            if not isinstance(value, dict):
                raise UserError(f"{where}: not a batch of CIFAR-10; expected {CIFAR10.layout}")
            return value, where

        meta, where = load("batches.meta")
        classes = meta.get("label_names")
        if not isinstance(classes, list) or len(classes) != 10:
            raise UserError(f"{where}: has no ten label_names; is this CIFAR-10?")
        self.classes = [str(name) for name in classes]
        for name in names:
            batch, where = load(name)
            images, labels = batch.get("data"), batch.get("labels")
            if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] != 3072:
                raise UserError(f"{where}: its data is not (N, 3072) bytes; download it again")
            if (
                not isinstance(labels, list)
                or len(labels) != len(images)
                or not all(isinstance(number, int) and 0 <= number < 10 for number in labels)
            ):
                raise UserError(f"{where}: has no label 0 … 9 for each image; download it again")
            self.images.append(images.reshape(-1, 3, 32, 32))
            self.labels.append(labels)
        self.fingerprint = digest.hexdigest()


def _find(path: Path, root: str | Path) -> Path:
    """The folder of the batches, or the archive."""
    if path.is_file():
        refuse_web_page(path)
        return path
    if not path.is_dir():
        raise UserError(f"{root}: no such folder or archive{suggestion(path)}; expected {CIFAR10.layout}")
    for place in (path, path / _FOLDER):
        if (place / "batches.meta").exists() or (place / "data_batch_1").exists():
            return place
    if (path / _ARCHIVE).is_file():
        return _find(path / _ARCHIVE, root)
    hint = f"expected {CIFAR10.layout}"
    below = {file.name for pattern in ("*", "*/*") for file in path.glob(pattern)}
    if below & {"data_batch_1.bin", "data_batch_1.mat"}:
        hint = f"this is the binary or the Matlab version; get the Python version ({_ARCHIVE})"
    elif {"train", "test", "meta"} <= below:
        hint = f"this is CIFAR-100; {hint}"
    raise UserError(f"{root}: no CIFAR-10 in it; {hint}")


def _archived(path: Path, wanted: set[str]) -> dict[str, bytes]:
    """The content of some files of a tar archive, by name without folders; nothing is unpacked to the disk."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name in wanted and member.isfile() and member.size <= _LARGEST:
                    file = archive.extractfile(member)
                    found[name] = file.read() if file else b""
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a whole tar.gz archive ({first_line(error)}); download it again") from error
    return found
