"""A measure evaluates one thing: it takes generated images, compares them with real ones and gives rows of a report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from imago.data.packed import PackedDataset
from imago.distributed import rank_and_world_size
from imago.errors import UserError
from imago.evaluation.image_sets import AllImages, ImageSet, RealImages, batches
from imago.metrics.resizing import resize, to_bytes

Progress: TypeAlias = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows how far something is: takes what is done, gives what to call with (done, total)."""


def no_progress(doing: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """Shows nothing."""
    return nullcontext(lambda done, total: None)


@dataclass(frozen=True)
class Row:
    """One number of a report.

    Attributes:
        metric: "swd/128", "swd/avg", "ms_ssim", "frechet/face", …
        value: Of the generated images.
        images: How many generated images it is of.
        protocol: How it was measured, in words.
        spread: Standard deviation, where the metric gives one.
        reference: What to hold it against; None: nothing.
        reference_is: What that is.
        higher_is_better: None: neither.
    """

    metric: str
    value: float
    images: int
    protocol: str
    spread: float | None = None
    reference: float | None = None
    reference_is: str = ""
    higher_is_better: bool | None = False


@dataclass(frozen=True)
class Reals:
    """The real images of an evaluation.

    Attributes:
        sample: In a random order; the first N are compared with N generated images.
        others: In the reverse order: the first N are compared with the first N of `sample`.
        everything: All of them, in the pack's order.
        identity: Tells these images from others, to recognise cached results.
    """

    sample: RealImages
    others: RealImages
    everything: AllImages
    identity: dict[str, Any]

    @classmethod
    def of(cls, dataset: PackedDataset, resolution: int, mirror: bool, seed: int = 0) -> Reals:
        """Those of a pack.

        Args:
            dataset: The pack.
            resolution: Height of the images.
            mirror: Flip half of the samples left to right, as where training did so.
            seed: Keys order and flips.
        """
        return cls(
            RealImages(dataset, resolution, mirror, backwards=False, seed=seed),
            RealImages(dataset, resolution, mirror, backwards=True, seed=seed),
            AllImages(dataset, resolution),
            {"data": dataset.checksum, "height": resolution, "mirror": mirror, "order": seed},
        )

    def __len__(self) -> int:
        return len(self.sample)


class Measure(ABC):
    """Evaluates one thing on images that come batch by batch, on one or several processes.

    First :meth:`prepare`; then, for each generator, :meth:`begin`, :meth:`add` for this process's batches, and
    :meth:`rows`. All but :meth:`add` may talk to the other processes.

    Attributes:
        name: As in ``metrics=[…]``.
        count: How many generated images it takes.
    """

    name: str
    count: int

    def prepare(self, reals: Reals | None, progress: Progress = no_progress) -> None:  # noqa: B027 (some need no real images)
        """Measures what of the real images is needed.

        Raises:
            UserError: Too few images, sizes that cannot be measured.
        """

    @abstractmethod
    def begin(self, generated: ImageSet) -> None:
        """Forgets what it knows of the generator before."""

    @abstractmethod
    def add(self, first: int, images: Tensor) -> None:
        """Takes generated images number ``first`` …, uint8 ``(n, C, H, W)``."""

    @abstractmethod
    def rows(self) -> list[Row]:
        """What was measured; the same on all processes."""


def go_through(
    images: ImageSet, count: int, batch_size: int, take: Callable[[int, Tensor], None], doing: str, progress: Progress
) -> None:
    """Hands this process's share of the first `count` images to `take`, and shows how far it is.

    Batches are of an even number, at most `batch_size` (or 2), and so small that every process gets one.

    Raises:
        UserError: Fewer than two images for each process.
    """
    rank, world_size = rank_and_world_size()
    if world_size > 1 and count < 2 * world_size:
        raise UserError(f"{count} images cannot be shared by {world_size} processes; take at most {max(1, count // 2)}")
    size = max(2, min(batch_size, count // world_size) // 2 * 2)
    with progress(doing) as tell:
        tell(0, count)
        for first, batch in batches(images, count, size, rank, world_size):
            take(first, batch)
            tell(min(count, first + world_size * size), count)


_MOST_SHARED = 0.2  # of the images behind a floor that may be the same on both sides


def comparable(reals: Reals | None, count: int, name: str, floor: bool) -> int:
    """How many generated images can be compared with as many real ones.

    With a floor, as many other real images are needed besides. A fifth of them may be the same as the first (as where
    the official code compares 16,384 of CelebA-HQ's 30,000 with the 16,384 after them); if more would be, half of all
    are compared with the other half, because a floor of the same images is too low.

    Args:
        reals: The real images.
        count: How many the protocol wants.
        name: Of the metric.
        floor: Whether real images are compared with real ones, too.

    Raises:
        UserError: There are no real images, or a single one.
    """
    if reals is None:
        raise UserError(f"{name} compares with real images: add data.path=…, a folder, a zip or a pack")
    if len(reals) < 2:
        raise UserError(f"{name} needs at least two real images; {reals.sample.dataset.name} has {len(reals)}")
    count = min(count, len(reals))
    return len(reals) // 2 if floor and 2 * count - len(reals) > _MOST_SHARED * count else count


def floor_is(reals: Reals, count: int) -> str:
    """What the value of `count` real images against as many others is, in words."""
    shared = max(0, 2 * count - len(reals))
    return "real against real" + (f", {shared:,} images in both" if shared else "")


def resized(images: Tensor, resolution: int | None, how: str) -> Tensor:
    """Images as a protocol wants them, as bytes.

    Args:
        images: uint8 ``(N, C, H, W)``.
        resolution: Height wanted, the width in proportion; None: as they are.
        how: See :func:`imago.metrics.resizing.resize`.
    """
    if resolution is None or resolution == images.shape[2]:
        return images
    height, width = images.shape[2:]
    return to_bytes(resize(images, (resolution, max(1, round(width * resolution / height))), how))


def evaluate(
    measures: list[Measure], generated: ImageSet, batch_size: int, doing: str, progress: Progress = no_progress
) -> list[Row]:
    """What prepared measures say of a generator; every image is made once.

    Args:
        measures: All prepared.
        generated: The generator's images.
        batch_size: Images at a time; even.
        doing: What is shown meanwhile.
        progress: Shows it.
    """
    for measure in measures:
        measure.begin(generated)
    counts = [measure.count for measure in measures if measure.count]
    if counts:
        smallest_share = min(counts) // rank_and_world_size()[1]  # every process gets some images for every measure

        def take(first: int, images: Tensor) -> None:
            for measure in measures:
                if first < measure.count:
                    measure.add(first, images[: measure.count - first])

        go_through(generated, max(counts), min(batch_size, smallest_share), take, doing, progress)
    return [row for measure in measures for row in measure.rows()]
