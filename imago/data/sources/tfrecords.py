"""The TFRecords of PGGAN's official ``dataset_tool.py``, read without TensorFlow.

A data set is a folder of ``<name>-r02.tfrecords`` … ``<name>-r10.tfrecords``, one file per resolution 2^NN, and, where
it has labels, ``<name>-rxx.labels``. A record is a protocol buffer (``tf.train.Example``) with the features ``shape``
(three integers: C, H, W) and ``data`` (the raw bytes).
"""

import re
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from imago.data.sources.crc32c import masked_crc32c
from imago.data.sources.data_files import (
    LabelArray,
    PerProcess,
    find_data_files,
    fingerprint_of,
    refuse_web_page,
    stamps,
)
from imago.data.sources.source import Item, UnreadableImageError
from imago.errors import UserError

_HEADER = struct.Struct("<QI")  # length of the data, masked CRC-32C of these eight bytes
_CRC = struct.Struct("<I")  # of the data, which it follows


class TFRecordSource:
    """The images of the largest resolution among PGGAN's TFRecord files.

    The images of the official files are in a shuffled order (``RandomState(123)``), so they cannot be joined with
    labels of another copy of the data set by their numbers.

    Args:
        root: The folder of the files, or one of them; ``~`` is expanded.
        verify: Whether to check the CRC of each image that is read (5 ms per megabyte).

    Attributes:
        path: The file that is read.

    Raises:
        UserError: No such files, several data sets in one folder, a damaged or truncated file, labels that do not fit.
    """

    layout: ClassVar[str] = "<root>/<name>-r02.tfrecords … <name>-r10.tfrecords, if you like with <name>-rxx.labels"

    def __init__(self, root: str | Path, verify: bool = True) -> None:
        files = find_data_files(root, "**/*.tfrecords", self.layout)
        self.path, prefix = _largest(files, root)
        self.name = prefix
        self.verify = verify
        refuse_web_page(self.path)
        with open(self.path, "rb") as file:
            self._offsets, self._lengths = _scan(file, self.path)
        if not self._offsets:
            raise UserError(f"{self.path}: no records in it; expected {self.layout}")
        labels = self.path.with_name(f"{prefix}-rxx.labels")
        self._labels = LabelArray(labels, len(self)) if labels.is_file() else None
        self._file = PerProcess(_open, self.path)

    def __len__(self) -> int:
        return len(self._offsets)

    def item_name(self, index: int) -> str:
        """The file's name without its ending, and the position."""
        return f"{self.path.stem}/{index:07d}"

    def fingerprint(self) -> str:
        """Hash of the file's name, size and time of change, and of the labels; see :class:`Source`."""
        return fingerprint_of("tfrecords", stamps([self.path]), self._labels.digest() if self._labels else None)

    def read(self, index: int) -> Item:
        """One image; see :meth:`imago.data.sources.source.Source.read`."""
        name = self.item_name(index)
        try:
            file = self._file.get()
            file.seek(self._offsets[index])
            length = self._lengths[index]
            content = file.read(length + _CRC.size)
        except OSError as error:
            raise UnreadableImageError(str(error), name) from error
        data = content[:length]
        if len(content) < length + _CRC.size:
            raise UnreadableImageError("truncated record", name)
        if self.verify and masked_crc32c(data) != _CRC.unpack(content[length:])[0]:
            raise UnreadableImageError("damaged record: its CRC differs", name)
        try:
            features = parse_example(data)
            shape, pixels = features["shape"], features["data"]
            if not isinstance(pixels, bytes) or isinstance(shape, bytes) or len(shape) != 3 or shape[0] not in (1, 3):
                raise ValueError("no shape of one or three channels")
            image = np.frombuffer(pixels, dtype=np.uint8).reshape(shape).transpose(1, 2, 0)
        except (KeyError, ValueError, IndexError, struct.error) as error:
            raise UnreadableImageError(f"not a record of PGGAN's dataset_tool.py ({error})", name) from error
        return Item(np.ascontiguousarray(image), name, self._labels.get(index) if self._labels else None)


def _open(path: Path) -> BinaryIO:
    return open(path, "rb")


def _largest(files: list[Path], root: str | Path) -> tuple[Path, str]:
    """The file of the largest resolution, and the data set's name."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for file in files:
        match = re.fullmatch(r"(.+)-r(\d+)\.tfrecords", file.name)
        if match:
            found.setdefault(match[1], []).append((int(match[2]), file))
    if not found:
        raise UserError(f"{root}: {files[0].name} is not named <name>-rNN.tfrecords; expected {TFRecordSource.layout}")
    if len(found) > 1:
        raise UserError(f"{root}: several data sets ({', '.join(sorted(found))}); give one of their files as the root")
    prefix, levels = next(iter(found.items()))
    return max(levels)[1], prefix


def _scan(file: BinaryIO, path: Path) -> tuple["array[int]", "array[int]"]:
    """Offsets and lengths of the records' data; only the headers are read."""
    size, position = path.stat().st_size, 0
    offsets, lengths = array("q"), array("q")
    while position < size:
        file.seek(position)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise UserError(f"{path}: truncated after {len(offsets)} records; copy or download it again")
        length, crc = _HEADER.unpack(header)
        if masked_crc32c(header[:8]) != crc:
            where = f"at byte {position:,}" if position else "at its start"
            raise UserError(f"{path}: damaged {where}, or not a TFRecord file (compressed ones are not read)")
        end = position + _HEADER.size + length + _CRC.size
        if end > size:
            raise UserError(f"{path}: truncated after {len(offsets)} records; copy or download it again")
        offsets.append(position + _HEADER.size)
        lengths.append(length)
        position = end
    return offsets, lengths


def parse_example(message: bytes) -> dict[str, bytes | list[int]]:
    """The features of a ``tf.train.Example``: bytes (the first value) or integers; floats are left out.

    Raises:
        ValueError: Not such a message.
        IndexError: It is cut short.
    """
    features: dict[str, bytes | list[int]] = {}
    for _, feature_map in _fields(message, wanted=1):  # Example.features
        for _, entry in _fields(feature_map, wanted=1):  # Features.feature: a map is a list of (key, value)
            key = b"".join(value for _, value in _fields(entry, wanted=1)).decode()
            for _, feature in _fields(entry, wanted=2):
                for kind, values in _fields(feature):
                    if kind == 1:  # BytesList
                        features[key] = next((value for _, value in _fields(values, wanted=1)), b"")
                    elif kind == 3:  # Int64List, packed or not
                        features[key] = _integers(values)
    return features


def _fields(message: bytes, wanted: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields: (number, content)."""
    for number, value in _all_fields(message):
        if isinstance(value, bytes) and wanted in (None, number):
            yield number, value


def _all_fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value
        elif wire == 2:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError("cut short")
            yield number, message[position : position + length]
            position += length
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")


def _integers(message: bytes) -> list[int]:
    numbers = []
    for number, value in _all_fields(message):
        if number == 1 and isinstance(value, int):
            numbers.append(value)
        elif number == 1 and isinstance(value, bytes):
            position = 0
            while position < len(value):
                integer, position = _varint(value, position)
                numbers.append(integer)
    return numbers


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("an integer of more than 64 bits")
