"""How far pictures are from the nearest images of a packed data set, by their pixels, however many images it holds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from imago.data.packed import PackedDataset
from imago.errors import UserError
from imago.metrics.precision import full_precision

COMPARED_AT = 32  # pixels: a copy is one at this size, too, and ten thousand images fit in a matrix product
_MIDDLE = 127.5  # of the range, taken off before products, where large squares would cancel


class NearestPixels:
    """Distances to the nearest images of a pack: Euclidean, of whole images, of RGB values in [0, 255].

    Images are compared at the pack's level of at most 32 pixels' height, which is the 2×2 means of those above it.
    The nearest are found with matrix products in float32, and the distances of those that are returned are computed
    from differences in float64: so that of equal images is exactly 0.

    Args:
        dataset: The pack.
        height: Of the pictures that will be compared.
        mirror: Whether an image is as near as its mirror image; it still counts once.
        block: Images of the pack at a time.

    Raises:
        UserError: The pack does not hold images of this height.
    """

    def __init__(self, dataset: PackedDataset, height: int, mirror: bool, block: int = 2048) -> None:
        self.extent = dataset.extent(height)
        self.dataset = dataset
        self.level = max([r for r in dataset.resolutions if r <= min(height, COMPARED_AT)], default=height)
        self.mirror = mirror
        self.block = block

    def distances(self, pictures: Tensor, k: int = 1) -> NDArray[np.float64]:
        """Distances to the k nearest images.

        Args:
            pictures: uint8 ``(n, C, H, W)``.
            k: How many; at most as many as the pack holds.

        Returns:
            ``(n, k)``, ascending.

        Raises:
            UserError: Pictures of another shape than the pack's images.
        """
        expected = (self.dataset.channels, *self.extent)
        if tuple(pictures.shape[1:]) != expected:
            shapes = [f"{c}×{h}×{w}" for c, h, w in (pictures.shape[1:], expected)]
            raise UserError(f"pictures are {shapes[0]}, the images of {self.dataset.name} {shapes[1]}")
        small = avg_pool2d(pictures.float(), self.extent[0] // self.level)
        both = [small, small.flip(3)] if self.mirror else [small]  # as near as to the mirror image of the other
        queries = [images.flatten(1) - _MIDDLE for images in both]
        with full_precision("cpu"):
            unique, places = self._nearest(queries, k).unique(return_inverse=True)
            found = torch.from_numpy(self._images(unique.numpy())).flatten(1)  # (u, D)
            exact = [
                torch.stack([(images.flatten(1).double() - found[places[:, j]]).norm(dim=1) for j in range(k)], dim=1)
                for images in both
            ]
        return torch.stack(exact).amin(dim=0).sort(dim=1).values.numpy()

    def _nearest(self, queries: list[Tensor], k: int) -> Tensor:
        """Positions of the k nearest ``(n, k)``, by |q − r|² without |q|², which does not change the order."""
        n = len(queries[0])
        best, where = torch.empty(n, 0), torch.empty(n, 0, dtype=torch.int64)
        for first, images in self._blocks():
            references = torch.from_numpy(images).float().flatten(1) - _MIDDLE
            squares = references.square().sum(dim=1)
            scores = torch.stack([torch.addmm(squares, q, references.T, alpha=-2) for q in queries]).amin(dim=0)
            best = torch.cat([best, scores], dim=1)
            where = torch.cat([where, torch.arange(first, first + len(images)).expand(n, -1)], dim=1)
            best, order = best.topk(min(k, best.shape[1]), dim=1, largest=False)
            where = where.gather(1, order)
        return where

    def _blocks(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for first in range(0, len(self.dataset), self.block):
            yield first, self._images(np.arange(first, min(first + self.block, len(self.dataset))))

    def _images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.dataset.images(indices, self.level)
