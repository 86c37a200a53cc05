"""Labelled images of one pack or of several as one sequence."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imago.data.packed import PackedDataset


class LabelledImages:
    """Chosen images of packs, one after the other, with the labels of all.

    Args:
        parts: (pack, positions in it) each.
        labels: int64 ``(N, K)``, −1 where unknown, for all images in their order.
        resolution: Height at which they are read.
    """

    def __init__(
        self,
        parts: Sequence[tuple[PackedDataset, NDArray[np.int64]]],
        labels: NDArray[np.int64],
        resolution: int,
    ) -> None:
        assert sum(len(positions) for _, positions in parts) == len(labels)
        self.parts = list(parts)
        self.labels = labels
        self.resolution = resolution

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: "LabelledImages") -> "LabelledImages":
        assert self.resolution == other.resolution
        return LabelledImages(self.parts + other.parts, np.concatenate([self.labels, other.labels]), self.resolution)

    def those_with_labels(self, labels: NDArray[np.int64]) -> "LabelledImages":
        """With other labels, and without the images of which none is known."""
        known = np.any(labels >= 0, axis=1)
        parts, first = [], 0
        for dataset, positions in self.parts:
            parts.append((dataset, positions[known[first : first + len(positions)]]))
            first += len(positions)
        return LabelledImages(parts, labels[known], self.resolution)

    def images(self, indices: NDArray[np.int64], mirrored: NDArray[np.bool_] | None = None) -> Tensor:
        """Pixels.

        Args:
            indices: ``(n,)`` in [0, N).
            mirrored: ``(n,)``, which of them to mirror left to right; None: none.

        Returns:
            uint8 ``(n, C, H, W)``, channels last in memory.
        """
        height, width = self.parts[0][0].extent(self.resolution)
        out = np.empty((len(indices), height, width, self.parts[0][0].channels), dtype=np.uint8)
        first = 0
        for dataset, positions in self.parts:
            here = np.flatnonzero((indices >= first) & (indices < first + len(positions)))
            if len(here):
                flips = None if mirrored is None else mirrored[here]
                pixels = dataset.images(positions[indices[here] - first], self.resolution, flips)
                out[here] = pixels.transpose(0, 2, 3, 1)
            first += len(positions)
        return torch.from_numpy(out).permute(0, 3, 1, 2)
