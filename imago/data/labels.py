"""Labels gathered item by item into small integers."""

import re
from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imago.data.sources.folder import natural_key
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
