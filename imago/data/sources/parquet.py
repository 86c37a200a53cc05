"""Parquet files with encoded images, as the Hugging Face hub keeps them."""

import bisect
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from imago.data.sources.data_files import PerProcess, find_data_files, fingerprint_of, refuse_web_page, stamps
from imago.data.sources.decoding import decode
from imago.data.sources.source import Item, UnreadableImageError
from imago.errors import MissingDependencyError, UserError

_PART = re.compile(r"(training|train|validation|valid|val|test)(?![a-z])", re.IGNORECASE)


class ParquetSource:
    """The images of one or several parquet files, in the order of their rows.

    A cell of the image column is either the bytes of an image file or a struct of ``bytes`` and ``path``. Whole
    numbers, texts and truth values in the label columns become labels; numbers of a Hugging Face ``ClassLabel`` become
    their names.

    Args:
        root: A folder (searched recursively) or one file; ``~`` is expanded.
        column: The image column; "" takes the one that the file's Hugging Face description or its types tell.
        split: Keep only "train", "validation" or "test", told by the files' names or folders; None keeps all.
        label_columns: Names of the label columns; None takes those named "label…" and those of ``ClassLabel`` type.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA) channels of the items' images.
        background: RGB colour shown through transparent images.
        minimum_side: Images with a smaller side are unreadable.

    Attributes:
        paths: The files that are read.
        column: The image column.
        label_columns: The label columns.

    Raises:
        UserError: No such files, damaged ones, files that differ in their columns, no such column.
        MissingDependencyError: pyarrow is not installed.
    """

    layout: ClassVar[str] = "<root>/data/train-00000-of-00005.parquet … with a column of encoded images"

    def __init__(
        self,
        root: str | Path,
        column: str = "",
        split: str | None = None,
        label_columns: Sequence[str] | None = None,
        channels: int = 3,
        background: Sequence[int] = (255, 255, 255),
        minimum_side: int = 8,
    ) -> None:
        if split not in (None, "train", "validation", "test"):
            raise UserError(f"split={split!r}: must be train, validation or test, or null for all")
        base = Path(root).expanduser().absolute()
        found = find_data_files(root, "**/*.parquet", self.layout)
        self.paths = [path for path in found if split in (None, _part(path, base))]
        if not self.paths:
            held = ", ".join(sorted({_part(path, base) or path.name for path in found}))
            raise UserError(f"{root}: no parquet files of the split {split!r}; there are {held}")
        self.name = base.stem if base.is_file() else base.name
        self.name += f"_{split}" if split else ""
        self.channels, self.minimum_side = channels, minimum_side
        self.background = (int(background[0]), int(background[1]), int(background[2]))
        self._files = PerProcess(_Files, self.paths)
        files = self._files.get()
        schema = files.file(0).schema_arrow
        self.column = column or _image_column(schema, self.paths[0])
        classes = _class_names(schema)
        if label_columns is None:
            label_columns = [n for n in schema.names if n in classes or n.startswith("label")]
        self.label_columns = list(label_columns)
        self._classes = {name: classes[name] for name in self.label_columns if name in classes}
        # Row groups of all files one after another: the first row of each, and (file, group).
        self._first_rows: list[int] = []
        self._groups: list[tuple[int, int]] = []
        self._file_rows: list[int] = []
        self._count = 0
        for number in range(len(self.paths)):
            metadata, names = files.file(number).metadata, files.file(number).schema_arrow.names
            missing = {self.column, *self.label_columns} - set(names)
            if missing:
                held = ", ".join(names)
                raise UserError(f"{self.paths[number]}: no column {', '.join(sorted(missing))}; it holds {held}")
            self._file_rows.append(self._count)
            for group in range(metadata.num_row_groups):
                self._first_rows.append(self._count)
                self._groups.append((number, group))
                self._count += metadata.row_group(group).num_rows
        if not self._count:
            raise UserError(f"{root}: the parquet files have no rows")

    def __len__(self) -> int:
        return self._count

    def item_name(self, index: int) -> str:
        """The file's name without its ending, and the row within it."""
        number = bisect.bisect_right(self._file_rows, index) - 1
        same = sum(path.stem == self.paths[number].stem for path in self.paths) > 1
        path = self.paths[number]
        file = f"{path.parent.name}/{path.stem}" if same else path.stem
        return f"{file}/{index - self._file_rows[number]:07d}"

    def fingerprint(self) -> str:
        """Hash of the reading parameters and of each file's name, size and time of change."""
        parameters = [self.column, self.label_columns, self.channels, self.background, self.minimum_side]
        return fingerprint_of("parquet", parameters, stamps(self.paths))

    def read(self, index: int) -> Item:
        """One image; see :meth:`imago.data.sources.source.Source.read`.

        The row group of the last read stays in memory (Hugging Face writes 100 images per group).
        """
        name = self.item_name(index)
        place = bisect.bisect_right(self._first_rows, index) - 1
        try:
            columns = [self.column, *self.label_columns]
            table = self._files.get().group(*self._groups[place], columns)
            row = {name: table.column(name)[index - self._first_rows[place]].as_py() for name in columns}
        except UserError:
            raise
        except Exception as error:  # pyarrow's errors on damaged pages have many types
            raise UnreadableImageError(f"damaged row group ({' '.join(str(error).split())[:150]})", name) from error
        cell = row[self.column]
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise UnreadableImageError("no image in this row (only a path?)", name)
        try:
            image = decode(content, self.channels, self.background, self.minimum_side)
        except UnreadableImageError as error:
            raise UnreadableImageError(error.reason, name) from error
        labels = {column: self._label(column, row[column]) for column in self.label_columns}
        return Item(image, name, labels or None)

    def _label(self, column: str, value: Any) -> str:
        names = self._classes.get(column)
        if names and isinstance(value, int) and 0 <= value < len(names):
            return names[value]
        return "" if value is None or (names and value == -1) else str(value)  # −1: Hugging Face's unknown


class _Files:
    """Open files, and the row group that was read last."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._open: dict[int, Any] = {}
        self._group: tuple[tuple[int, int], Any] | None = None

    def file(self, number: int) -> Any:
        if number not in self._open:
            try:
                import pyarrow.parquet
            except ImportError as error:
                raise MissingDependencyError("pyarrow", "to read parquet files", extra="formats") from error
            refuse_web_page(self._paths[number])
            try:
                self._open[number] = pyarrow.parquet.ParquetFile(self._paths[number])
            except (pyarrow.ArrowException, OSError) as error:
                reason = " ".join(str(error).split())[:150]
                raise UserError(f"{self._paths[number]}: not a whole parquet file ({reason})") from error
        return self._open[number]

    def group(self, number: int, group: int, columns: list[str]) -> Any:
        if self._group is None or self._group[0] != (number, group):
            self._group = None  # so that two are never in memory
            self._group = ((number, group), self.file(number).read_row_group(group, columns=columns, use_threads=False))
        return self._group[1]


def _part(path: Path, base: Path) -> str:
    """The split a file belongs to, by its name or its folder's: "train", "validation", "test"; "" is unknown."""
    folder = path.parent.name if path.parent != base else ""
    for name in (path.name, folder):
        match = _PART.match(name)
        if match:
            word = match[1].lower()
            return {"training": "train", "valid": "validation", "val": "validation"}.get(word, word)
    return ""


def _features(schema: Any) -> dict[str, Any]:
    """What Hugging Face's library notes about the columns; empty where there is nothing."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Column → names of the classes."""
    features = {name: about for name, about in _features(schema).items() if isinstance(about, dict)}
    return {n: [str(name) for name in about["names"]] for n, about in features.items() if about.get("names")}


def _image_column(schema: Any, path: Path) -> str:
    import pyarrow

    for name, about in _features(schema).items():
        if isinstance(about, dict) and about.get("_type") == "Image" and name in schema.names:
            return str(name)
    binary = (pyarrow.types.is_binary, pyarrow.types.is_large_binary)
    for field in schema:
        kinds = [field.type]
        if pyarrow.types.is_struct(field.type):
            kinds = [part.type for part in field.type if part.name == "bytes"]
        if any(test(kind) for kind in kinds for test in binary):
            return str(field.name)
    raise UserError(f"{path}: no column of images; it holds {', '.join(schema.names)}; name one with column=…")
