"""Several packed data sets as one: a real set enlarged by a synthetic one (Curtó et al. 2020, section 5.2)."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imago.data.packed import LabelColumn, PackedDataset
from imago.errors import UserError


class JoinedDataset:
    """Reads like a :class:`PackedDataset` that holds the images of all parts, one part after the other.

    Labels are matched by the names of columns and values. The columns are those of the first part; an image of a part
    without labels, or with a value that the first part does not know, is unlabelled there.

    Args:
        parts: At least one; the first is the real set.

    Attributes:
        parts: As given.
        name: Names of the parts.
        count: Images in all.
        resolutions: Those that all parts hold.
        base: ``(H, W)`` of the smallest level.
        channels: Colour channels.
        label_columns: Of the first part.
        labels: int16 ``(N, K)``, −1 where unknown, or None if the first part has none.
        checksum: Identifies the content of all parts.
        source: Of the first part.

    Raises:
        UserError: Parts of different channels or shapes.
    """

    def __init__(self, parts: Sequence[PackedDataset]) -> None:
        first = parts[0]
        for part in parts[1:]:
            if part.channels != first.channels or part.base != first.base:
                raise UserError(
                    f"{part.path} holds images of {part.channels} channels and base {list(part.base)}, {first.name} of "
                    f"{first.channels} and {list(first.base)}: they cannot be joined"
                )
        if len({part.checksum for part in parts}) < len(parts):
            raise UserError(f"{', '.join(str(part.path) for part in parts)}: the same images are there twice")
        self.parts = list(parts)
        self.name = " + ".join(part.name for part in parts)
        self.count = sum(len(part) for part in parts)
        self.resolutions = [r for r in first.resolutions if all(r in part.resolutions for part in parts)]
        self.base = first.base
        self.channels = first.channels
        self.source = first.source
        self.label_columns = first.label_columns
        self.labels: NDArray[np.int16] | None = None
        if first.labels is not None:
            self.labels = np.concatenate([_translated(part, first.label_columns) for part in parts])
        self.checksum = hashlib.blake2b("/".join(p.checksum for p in parts).encode(), digest_size=16).hexdigest()
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return self.count

    def extent(self, resolution: int) -> tuple[int, int]:
        """``(H, W)`` of the images at `resolution`.

        Raises:
            UserError: A part does not hold this resolution.
        """
        for part in self.parts:
            part.extent(resolution)
        return self.parts[0].extent(resolution)

    def is_compressed(self, resolution: int) -> bool:
        """Whether any part has to decode the images at `resolution`."""
        return any(part.is_compressed(resolution) for part in self.parts)

    def images(
        self,
        indices: NDArray[np.int64],
        resolution: int,
        mirrored: NDArray[np.bool_] | None = None,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """The images at `indices`, in that order; see :meth:`PackedDataset.images`."""
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and not (indices.min() >= 0 and indices.max() < self.count):
            raise IndexError(f"indices from {indices.min()} to {indices.max()} into {self.count} images")
        if out is None:
            out = np.empty((len(indices), *self.extent(resolution), self.channels), dtype=np.uint8)
        owners = np.searchsorted(self._ends, indices, side="right")
        for i, part in enumerate(self.parts):
            rows = np.flatnonzero(owners == i)
            if len(rows) == 0:
                continue
            start = int(self._ends[i]) - len(part)
            flips = None if mirrored is None else mirrored[rows]
            out[rows] = part.images(indices[rows] - start, resolution, flips).transpose(0, 2, 3, 1)
        return out.transpose(0, 3, 1, 2)

    def item_name(self, index: int) -> str:
        """The name of an image in the source of its part."""
        part, place = self._find(index)
        return part.item_name(place)

    def label_texts(self, index: int) -> dict[str, str] | None:
        """Column → value of one image, "" where unknown; None without labels."""
        if self.labels is None:
            return None
        codes = self.labels[index].tolist()
        return {c.name: c.values[code] if code >= 0 else "" for c, code in zip(self.label_columns, codes, strict=True)}

    def verify(self, zips: bool = True) -> None:
        """Compares all parts with their checksums; see :meth:`PackedDataset.verify`."""
        for part in self.parts:
            part.verify(zips)

    def _find(self, index: int) -> tuple[PackedDataset, int]:
        i = int(np.searchsorted(self._ends, index, side="right"))
        return self.parts[i], index - int(self._ends[i]) + len(self.parts[i])


def _translated(part: PackedDataset, columns: Sequence[LabelColumn]) -> NDArray[np.int16]:
    """A part's labels in the codes of other columns: int16 ``(n, K)``."""
    labels = np.full((len(part), len(columns)), -1, dtype=np.int16)
    if part.labels is None:
        return labels
    own = {column.name: k for k, column in enumerate(part.label_columns)}
    for k, column in enumerate(columns):
        if column.name not in own:
            continue
        values = part.label_columns[own[column.name]].values
        # One entry more than there are values: code −1 reads the last one, so unknown stays −1.
        codes = [column.values.index(value) if value in column.values else -1 for value in values] + [-1]
        labels[:, k] = np.array(codes, dtype=np.int16)[part.labels[:, own[column.name]]]
    return labels
