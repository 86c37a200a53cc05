"""Sliced Wasserstein distance between local patches of two sets of images (Karras et al. 2018, section 5).

For each level of the images' Laplacian pyramids, 128 patches of 7×7 pixels are drawn from each image at random. Either
set's patches are normalised by its own mean and standard deviation per channel, so the distance does not see a
brightness, contrast or tint that all images of a set share. Then the two sets are projected on random directions, and
the distance is the mean over these of the 1-Wasserstein distance in one dimension, the mean difference of the sorted
projections. The bias for small sets is large: compare numbers for equally many images only, and print beside them the
distance of the real images from themselves (given as both sets: their patches lie elsewhere).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from imago import randomness
from imago.distributed import rank_and_world_size
from imago.errors import UserError
from imago.metrics.checks import check_alike, check_images
from imago.metrics.descriptors import (
    BLOCK_ROWS,
    PATCH,
    DescriptorFile,
    channel_sums,
    draw_corners,
    extract_patches,
)
from imago.metrics.laplacian import laplacian_pyramid, level_sizes
from imago.metrics.precision import full_precision

_CHANNELS = 3
_SIDES = ("real", "fake")
_PURPOSE = "sliced_wasserstein"

_PIECE_PIXELS = {"cpu": 1 << 18, "cuda": 1 << 24}  # of the images whose pyramids are made at once
_DIRECTIONS = 64  # that are dealt with at once, or as many as their projections fit into:
_PROJECTION_BYTES = 1 << 30
_PROJECTION_ROWS = 1 << 11  # descriptors in one product, 1.2 MB: they stay in the cache
_DIFFERENCE_NUMBERS = 1 << 16


def sliced_wasserstein(
    real: Tensor, fake: Tensor, seed: int = 0, patches: int = 128, directions: int = 512, smallest: int = 16
) -> dict[int | str, float]:
    """Sliced Wasserstein distance per level of the Laplacian pyramid; :class:`SlicedWasserstein` takes images in parts.

    Args:
        real: uint8 ``(N, C, H, W)``, C = 1 or 3.
        fake: As many, of the same shape.
        seed: Of the patches' places and of the directions.
        patches: Patches per image and level.
        directions: Random directions; the official code takes 4 times 128.
        smallest: Shorter side of the coarsest level, at least; 7 or more.

    Returns:
        × 10³: height of a level → distance, finest first; "avg" → their mean.

    Raises:
        UserError: The sets are not alike, or the images are smaller than `smallest`.
    """
    check_alike(real, fake)
    metric = SlicedWasserstein(seed, patches, directions, smallest, sync_on_compute=False).to(real.device)
    metric.update(real, 0, real=True)
    metric.update(fake, 0, real=False)
    return metric.compute()


class SlicedWasserstein(Metric):
    """:func:`sliced_wasserstein` of images that come in batches, in any order, in one process or several.

    An image's patches lie where its index in its set says, so the result does not depend on batches and processes (up
    to rounding). Descriptors take 75 KB per image and level whatever the resolution, 17 GB for the 2 × 16,384 images
    and 7 levels of 1024². They are kept in `memory` bytes, and beyond that in temporary files without names (see
    :class:`~imago.metrics.descriptors.DescriptorFile`). A process takes these `memory` bytes, 1 GiB for projections,
    and at most 0.5 GB for what has not come into a file yet and the pyramids of a few images.

    With several processes each besides gathers the descriptors of all for one level at a time (2.5 GB for 2 × 16,384
    images, up to three times that for a moment) and deals with its share of the directions. Each process needs an image
    of both sets.

    Args:
        seed: See :func:`sliced_wasserstein`, also for the next three.
        patches: Patches per image and level.
        directions: Random directions.
        smallest: Shorter side of the coarsest level, at least; 7 or more.
        memory: Bytes of descriptors that are kept in memory; 4 GiB.
        reset_real: Whether :meth:`reset` forgets the real images too; otherwise they are compared with several sets.
        kwargs: For :class:`torchmetrics.Metric`.

    Raises:
        UserError: A number is out of range.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    def __init__(
        self,
        seed: int = 0,
        patches: int = 128,
        directions: int = 512,
        smallest: int = 16,
        memory: int = 4 << 30,
        reset_real: bool = True,
        **kwargs: Any,
    ) -> None:
        if smallest < PATCH:
            raise UserError(f"smallest={smallest}: a level must hold a patch of {PATCH}×{PATCH} pixels")
        if patches < 1 or directions < 1:
            raise UserError(f"patches={patches}, directions={directions}: each must be at least 1")
        self.shared = bool(kwargs.pop("sync_on_compute", True))  # with other processes
        super().__init__(sync_on_compute=False, **kwargs)  # at once would be too much: level by level, below
        self.seed = seed
        self.patches = patches
        self.directions = directions
        self.smallest = smallest
        self.memory = memory
        self.reset_real = reset_real
        self._shape: tuple[int, ...] | None = None  # (C, H, W) of the images so far
        self._sizes: list[tuple[int, int]] = []  # of the levels
        self._files: dict[str, DescriptorFile] = {}

    def update(self, images: Tensor, first: int, real: bool) -> None:
        """Adds images of one set.

        Args:
            images: uint8 ``(N, C, H, W)``, C = 1 or 3.
            first: Index of the first of them in the whole set, over all batches and processes; the rest follow it.
            real: Which set.

        Raises:
            UserError: See :func:`~imago.metrics.checks.check_images`; or they differ in shape from those before.
        """
        side = _SIDES[not real]
        checked = check_images(images, "real images" if real else "generated images")
        self._expect(tuple(images.shape[1:]))
        height, width = images.shape[2:]
        piece = max(1, _PIECE_PIXELS.get(self.device.type, 1 << 24) // (height * width))
        for part in checked.split(piece):
            pyramid = laplacian_pyramid(part.to(self.device), self.smallest)
            for size, level in zip(self._sizes, pyramid, strict=True):
                purpose = f"{_PURPOSE}/{side}/{size[0]}"
                corners = draw_corners(self.seed, purpose, size, first, len(part), self.patches, self.device)
                self._keep(f"{side}_{size[0]}", extract_patches(level, corners))
            first += len(part)

    def compute(self) -> dict[int | str, float]:
        """See :func:`sliced_wasserstein`.

        Raises:
            UserError: No images, or not as many of both sets.
        """
        mine = [self._rows(f"{side}_{self._sizes[0][0]}") if self._shape else 0 for side in _SIDES]
        rows, others = self._summed(torch.tensor(mine, device=self.device)).tolist()
        if not rows and not others:
            raise UserError("no images: the sliced Wasserstein distance needs real and generated ones")
        if rows != others:
            real, fake = rows // self.patches, others // self.patches
            raise UserError(f"{real} real and {fake} generated images: this metric needs as many of both")
        directions = _unit_directions(self.seed, self.directions, _CHANNELS * PATCH**2)
        together = min(self.directions, _DIRECTIONS, max(1, _PROJECTION_BYTES // (2 * 4 * rows)))
        projections = torch.empty(2, together, rows, device=self.device)  # for every level again: fresh memory is slow
        distances: dict[int | str, float] = {}
        for height, _ in self._sizes:
            distances[height] = 1e3 * self._distance(height, directions, projections)
        return {**distances, "avg": sum(distances.values()) / len(distances)}

    def reset(self) -> None:
        """Forgets the generated images, and the real ones unless `reset_real` is false."""
        kept = {} if self.reset_real else {name: self._state(name) for name in self._defaults if "real" in name}
        super().reset()
        for name, state in kept.items():
            setattr(self, name, state)
        self._files = {name: file for name, file in self._files.items() if name in kept}
        if not kept:
            self._shape = None

    def _expect(self, shape: tuple[int, ...]) -> None:
        """Makes room for images of this shape, or refuses them beside others."""
        if self._shape not in (None, shape):
            shapes = ["×".join(map(str, s)) for s in (shape, self._shape)]
            raise UserError(f"images of {shapes[0]} cannot be compared with those of {shapes[1]} before them")
        if self._shape is None:
            self._sizes = level_sizes(shape[1], shape[2], self.smallest)
            self._shape = shape
            for name in (f"{side}_{height}" for side in _SIDES for height, _ in self._sizes):
                if name not in self._defaults:
                    sums = torch.zeros(2, _CHANNELS, dtype=torch.float64, device=self.device)
                    self.add_state(name, [], dist_reduce_fx="cat")
                    self.add_state(f"{name}_sums", sums, dist_reduce_fx="sum")

    def _state(self, name: str) -> Tensor | list[Tensor]:
        """A state as it is now: torchmetrics empties lists in place."""
        state = getattr(self, name)
        return list(state) if isinstance(state, list) else state

    def _keep(self, name: str, descriptors: Tensor) -> None:
        """Adds descriptors to a state, whose blocks are joined as they come and moved to a file for want of memory."""
        sums = getattr(self, f"{name}_sums")
        sums += channel_sums(descriptors, _CHANNELS)
        blocks = getattr(self, name)
        blocks.append(descriptors)
        small = 0
        while small < len(blocks) and len(blocks[-1 - small]) < BLOCK_ROWS:
            small += 1
        if sum(map(len, blocks[len(blocks) - small :])) < BLOCK_ROWS:
            return
        joined = torch.cat(blocks[len(blocks) - small :])
        del blocks[len(blocks) - small :]
        if self._bytes() + joined.nbytes > self.memory:
            if name not in self._files:
                self._files[name] = DescriptorFile(joined.shape[1])
            self._files[name].append(joined)
        else:
            blocks.append(joined)

    def _bytes(self) -> int:
        lists = (getattr(self, name) for name, default in self._defaults.items() if isinstance(default, list))
        return sum(block.nbytes for blocks in lists for block in blocks)

    def _processes(self) -> tuple[int, int]:
        """This process's number, and how many there are that share the work."""
        return rank_and_world_size() if self.shared else (0, 1)

    def _summed(self, numbers: Tensor) -> Tensor:
        """The sum over all processes."""
        numbers = numbers.clone()
        if self._processes()[1] > 1:
            torch.distributed.all_reduce(numbers)
        return numbers

    def _rows(self, name: str) -> int:
        return sum(map(len, getattr(self, name))) + (self._files[name].rows if name in self._files else 0)

    def _blocks(self, name: str) -> Iterator[Tensor]:
        yield from getattr(self, name)
        if name in self._files:
            yield from self._files[name].blocks()

    def _everyones(self, name: str) -> Callable[[], Iterator[Tensor]]:
        """The descriptors of all processes, in blocks, as often as they are asked for."""
        if self._processes()[1] == 1:
            return lambda: self._blocks(name)
        mine = torch.cat([block.to(self.device) for block in self._blocks(name)])
        gathered = gather_all_tensors(mine)
        return lambda: iter(gathered)

    def _distance(self, height: int, directions: NDArray[np.float64], projections: Tensor) -> float:
        """A level's distance; `projections` ``(2, k, rows)`` are space for k directions at once."""
        together, rows = projections.shape[1:]
        names = [f"{side}_{height}" for side in _SIDES]
        rank, world_size = self._processes()
        count, directions = len(directions), directions[rank::world_size]
        blocks = [self._everyones(name) for name in names]
        # Descriptors are normalised by the directions: x ↦ (x − mean) / std is one scale and one shift per channel.
        weights, shifts = zip(*(self._normalised(name, rows, directions) for name in names), strict=True)
        shift = shifts[0] - shifts[1]
        distances = _distances_by_numpy if self.device.type == "cpu" else _distances_by_torch
        total = 0.0
        with full_precision(self.device):
            for start in range(0, len(directions), together):
                chosen = slice(start, start + together)
                part = projections[:, : len(directions[chosen])]
                for side, weight, out in zip(blocks, weights, part, strict=True):
                    _project(side(), weight[chosen], out)
                total += float(distances(part[0], part[1], shift[chosen]).sum())
        return float(self._summed(torch.tensor(total, dtype=torch.float64, device=self.device))) / count

    def _normalised(self, name: str, rows: int, directions: NDArray[np.float64]) -> tuple[Tensor, NDArray[np.float64]]:
        """Directions ``(K, D)`` for descriptors as they are, and what is to be subtracted from projections ``(K,)``."""
        sums, squares = self._summed(getattr(self, f"{name}_sums")).cpu().numpy() / (rows * PATCH**2)
        variance = squares - sums**2
        # A channel that is the same everywhere has nothing to scale: it becomes zeros.
        std = np.sqrt(np.where(variance > 1e-12 * squares, variance, 1.0))
        scaled = directions / std.repeat(PATCH**2)
        return torch.from_numpy(scaled.astype(np.float32)).to(self.device), scaled @ sums.repeat(PATCH**2)


def _unit_directions(seed: int, count: int, size: int) -> NDArray[np.float64]:
    """Random directions ``(count, size)``, uniform on the sphere."""
    directions = randomness.normal(seed, f"{_PURPOSE}/directions", 0, count, size)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _project(blocks: Iterator[Tensor], weights: Tensor, out: Tensor) -> None:
    """Projections of descriptors ``(M, D)`` in blocks on directions ``(k, D)``, written to ``(k, M)``."""
    row = 0
    for block in blocks:
        for part in block.split(_PROJECTION_ROWS):
            torch.mm(weights, part.to(weights.device).T, out=out[:, row : row + len(part)])
            row += len(part)


def _distances_by_torch(a: Tensor, b: Tensor, shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 1-Wasserstein distance of the numbers a[k] − shift[k] and b[k], for each row k; for GPUs.

    Args:
        a: float32 ``(k, M)``.
        b: Likewise.
        shift: ``(k,)``.

    Returns:
        ``(k,)``.
    """
    differences = a.sort(dim=1).values.sub_(b.sort(dim=1).values)
    differences.sub_(torch.from_numpy(shift).to(differences)[:, None])
    return differences.abs_().mean(dim=1, dtype=torch.float64).cpu().numpy()


def _distances_by_numpy(a: Tensor, b: Tensor, shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same on the CPU, where NumPy sorts floats many times faster than PyTorch; `a` and `b` are overwritten."""

    def distance(x: NDArray[np.float32], y: NDArray[np.float32], offset: float) -> float:
        x.sort()
        y.sort()
        total = 0.0
        for start in range(0, len(x), _DIFFERENCE_NUMBERS):  # parts that stay in the cache
            part = x[start : start + _DIFFERENCE_NUMBERS] - y[start : start + _DIFFERENCE_NUMBERS]
            part -= np.float32(offset)
            total += float(np.abs(part, out=part).sum())
        return total / len(x)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # sorting lets other threads run
        return np.array(list(pool.map(distance, a.numpy(), b.numpy(), shift)))
