"""Labels gathered item by item into small integers."""

import hashlib
import re
from array import array
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from imago.data.sources.file_tree import natural_key
from imago.errors import UserError


class LabelTable:
    """Columns of text values, of which few differ; four bytes a value, whatever the number of items."""

    def __init__(self) -> None:
        self.count = 0
        self._values: dict[str, dict[str, int]] = {}
        self._codes: dict[str, array[int]] = {}

    def extend(self, rows: Sequence[dict[str, str] | None]) -> None:
        """Adds the labels of the next items; an absent or empty value is unknown."""
        for row in rows:
            for name, value in (row or {}).items():
                if name not in self._codes:
                    self._values[name], self._codes[name] = {}, array("i", [-1]) * self.count
                values = self._values[name]
                self._codes[name].append(values.setdefault(value, len(values)) if value else -1)
            self.count += 1
            for codes in self._codes.values():
                if len(codes) < self.count:
                    codes.append(-1)

    def finish(self) -> tuple[list[tuple[str, list[str]]], NDArray[np.int16] | None]:
        """The columns (name, values in their order) and the int16 labels ``(N, K)``, or None without columns.

        Raises:
            UserError: A column has more values than int16 holds.
        """
        columns, arrays = [], []
        for name, values in self._values.items():
            numbers = all(re.fullmatch(r"-?[0-9]{1,18}", value) for value in values)
            ordered = sorted(values, key=int if numbers else natural_key)  # so that "-1" comes before "1"
            if len(ordered) > np.iinfo(np.int16).max:
                raise UserError(f"label column {name!r} has {len(ordered)} values; at most 32767 can be packed")
            # One entry more than there are values: code −1 reads the last one, so unknown stays −1.
            place = np.full(len(ordered) + 1, -1, dtype=np.int16)
            place[[values[value] for value in ordered]] = np.arange(len(ordered), dtype=np.int16)
            columns.append((name, ordered))
            arrays.append(place[np.frombuffer(self._codes[name], dtype=np.intc)])
        return columns, np.stack(arrays, axis=1) if arrays else None


class NamedLabels:
    """Labels by name, in a few bytes a value: a label file of 200,000 rows and 40 columns takes 60 MB, not 500."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._texts: dict[str, list[str]] = {}  # column → code → value
        self._values: dict[str, dict[str, int]] = {}  # column → value → code
        self._codes: dict[str, array[int]] = {}  # column → row → code; shorter where the last rows are unknown

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    @property
    def names(self) -> list[str]:
        """All names, in the order in which they were added."""
        return list(self._rows)

    @property
    def columns(self) -> list[str]:
        """All columns, in the order in which they were added."""
        return list(self._codes)

    def add(self, name: str, row: Mapping[str, str]) -> None:
        """Adds values to what is known of `name`. An empty value is unknown."""
        place = self._rows.setdefault(name, len(self._rows))
        for column, value in row.items():
            if column not in self._codes:
                self._texts[column], self._values[column], self._codes[column] = [""], {"": 0}, array("i")
            values, codes = self._values[column], self._codes[column]
            if value not in values:
                values[value] = len(values)
                self._texts[column].append(value)
            if len(codes) <= place:
                codes.extend([0] * (place + 1 - len(codes)))
            codes[place] = values[value]

    def get(self, name: str) -> dict[str, str] | None:
        """Column → value of `name`; None where nothing is known."""
        place = self._rows.get(name)
        if place is None:
            return None
        return {
            column: self._texts[column][codes[place]] if place < len(codes) else ""
            for column, codes in self._codes.items()
        }

    def counts(self, column: str) -> dict[str, int]:
        """How often each value of a column occurs."""
        texts = self._texts[column]
        numbers = np.bincount(np.frombuffer(self._codes[column], dtype=np.intc), minlength=len(texts))
        return {text: int(number) for text, number in zip(texts, numbers, strict=True) if text and number}

    def digest(self) -> str:
        """Identifies the whole content."""
        digest = hashlib.blake2b(digest_size=16)
        for name in self._rows:
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        for column, codes in self._codes.items():
            digest.update(repr((column, self._texts[column])).encode("utf-8", "backslashreplace"))
            digest.update(codes.tobytes())
        return digest.hexdigest()
