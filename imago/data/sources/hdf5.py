"""The HDF5 files of PGGAN's first (Theano) version, and others that hold images as one array."""

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from imago.data.sources.data_files import (
    LabelArray,
    PerProcess,
    find_data_files,
    fingerprint_of,
    refuse_web_page,
    stamps,
)
from imago.data.sources.source import Item, UnreadableImageError
from imago.errors import MissingDependencyError, UserError


class HDF5Source:
    """The images of the largest array of an HDF5 file.

    PGGAN's files hold ``data2x2`` … ``data1024x1024``, each uint8 ``(N, C, H, W)``, with the labels beside them in
    ``<stem>-labels.npy``.

    Args:
        root: The file, or a folder with exactly one; ``~`` is expanded.
        dataset: The array in the file; "" takes the largest of those named ``data<H>x<W>``.

    Attributes:
        path: The file.
        dataset: The array that is read.

    Raises:
        UserError: No such file, several, a damaged one, no such array, labels that do not fit.
        MissingDependencyError: h5py is not installed.
    """

    layout: ClassVar[str] = "<root>/<name>.h5 with arrays data<H>x<W>, uint8 (N, C, H, W); labels in <name>-labels.npy"

    def __init__(self, root: str | Path, dataset: str = "") -> None:
        files = find_data_files(root, "*.h5", self.layout)
        if len(files) > 1:
            raise UserError(f"{root}: several h5 files ({', '.join(f.name for f in files)}); give one as the root")
        self.path = files[0]
        self.name = self.path.stem
        self._file = PerProcess(_open, self.path)
        self.dataset = dataset or _largest(self._file.get(), self.path)
        array = self._file.get().get(self.dataset)
        if not hasattr(array, "shape"):
            held = ", ".join(self._file.get()) or "nothing"
            raise UserError(f"{self.path}: no array {self.dataset!r} in it; it holds {held}")
        shape = array.shape
        if len(shape) != 4 or array.dtype != np.uint8 or not {shape[1], shape[3]} & {1, 3, 4}:
            raise UserError(f"{self.path}: {self.dataset} is {array.dtype} {shape}, expected uint8 (N, C, H, W)")
        self._channels_first = shape[1] in (1, 3, 4)
        self._count = int(shape[0])
        labels = self.path.with_name(f"{self.path.stem}-labels.npy")
        self._labels = LabelArray(labels, self._count) if labels.is_file() else None

    def __len__(self) -> int:
        return self._count

    def item_name(self, index: int) -> str:
        """The file's name without its ending, and the position."""
        return f"{self.path.stem}/{index:07d}"

    def fingerprint(self) -> str:
        """Hash of the file's name, size and time of change, the array's name, and the labels."""
        labels = self._labels.digest() if self._labels else None
        return fingerprint_of("hdf5", stamps([self.path]), self.dataset, labels)

    def read(self, index: int) -> Item:
        """One image; see :meth:`imago.data.sources.source.Source.read`."""
        name = self.item_name(index)
        try:
            image = self._file.get()[self.dataset][index]
        except (OSError, RuntimeError, KeyError) as error:  # a damaged chunk
            raise UnreadableImageError(" ".join(str(error).split())[:200], name) from error
        image = image.transpose(1, 2, 0) if self._channels_first else image
        return Item(np.ascontiguousarray(image), name, self._labels.get(index) if self._labels else None)


def _open(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError("h5py", "to read HDF5 files", extra="formats") from error
    refuse_web_page(path)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: not a whole HDF5 file ({' '.join(str(error).split())})") from error


def _largest(file: Any, path: Path) -> str:
    sizes = {name: int(match[1]) for name in file if (match := re.fullmatch(r"data(\d+)x\d+", name))}
    if not sizes:
        held = ", ".join(file) or "nothing"
        raise UserError(f"{path}: no arrays named data<H>x<W>; it holds {held}; name one with dataset=…")
    return max(sizes, key=lambda name: sizes[name])
