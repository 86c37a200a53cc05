"""The two sets that an evaluation compares: images of a packed data set, and what a generator makes.

Image *i* of either is a function of the seed and *i* alone, whatever the batches and the processes.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from imago import randomness
from imago.data.packed import PackedDataset
from imago.errors import UserError
from imago.images import to_uint8, upscale_nearest
from imago.labels import LabelDistribution
from imago.latents import draw_latents
from imago.networks.serialization import LoadedGenerator


class ImageSet(Protocol):
    """Images that can be asked for by number."""

    def images(self, first: int, count: int) -> Tensor:
        """The images first … first + count − 1: uint8 ``(count, C, H, W)``."""
        ...


class RealImages:
    """Images of a packed data set in a random order, so that the first N are a fair sample of them.

    Args:
        dataset: The pack.
        resolution: Height of the images, one that the pack holds.
        mirror: Flip half of them left to right, as where training did so.
        backwards: Go through the order from its end: the first N of these and of the others are disjoint as long as
            the pack holds 2N.
        seed: Keys order and flips.
    """

    def __init__(
        self, dataset: PackedDataset, resolution: int, mirror: bool = False, backwards: bool = False, seed: int = 0
    ) -> None:
        self.dataset = dataset
        self.resolution = resolution
        self.mirror = mirror
        self.seed = seed
        order = randomness.permutation(seed, "evaluation/order", 0, len(dataset))
        self.order = order[::-1] if backwards else order
        self.purpose = "evaluation/flip/backwards" if backwards else "evaluation/flip"

    def __len__(self) -> int:
        return len(self.order)

    def images(self, first: int, count: int) -> Tensor:
        if first + count > len(self):
            raise UserError(f"{self.dataset.name} has {len(self)} images, {first + count} were asked for")
        flips = None
        if self.mirror:
            flips = randomness.uniform(self.seed, self.purpose, first, count)[:, 0] < 0.5
        return torch.from_numpy(self.dataset.images(self.order[first : first + count], self.resolution, flips))


class AllImages:
    """Every image of a packed data set in its own order.

    Args:
        dataset: The pack.
        resolution: Height of the images.
        mirrored: Flip all of them left to right.
    """

    def __init__(self, dataset: PackedDataset, resolution: int, mirrored: bool = False) -> None:
        self.dataset = dataset
        self.resolution = resolution
        self.mirrored = mirrored

    def __len__(self) -> int:
        return len(self.dataset)

    def images(self, first: int, count: int) -> Tensor:
        flips = np.full(count, self.mirrored)
        return torch.from_numpy(self.dataset.images(np.arange(first, first + count), self.resolution, flips))


class GeneratedImages:
    """What a generator makes of latents 0, 1, … of a seed.

    A generator that has not grown to the final resolution yet has its images enlarged by repeating pixels, so that all
    of a run's generators are measured by one protocol (as the official code does).

    Args:
        generate: Latents float32 ``(n, latent_size)``, and codes ``(n, K)`` of labels where there are some, to images
            ``(n, C, h, w)`` about in [−1, 1].
        latent_size: Components of a latent.
        resolution: Height of the images wanted: that of the generator's times a whole number.
        seed: Keys the latents.
        device: Where the generator is.
        batch_size: Images per pass through the generator.
        labels: What the labels are drawn from, for a conditional generator.
    """

    def __init__(
        self,
        generate: Callable[[Tensor, Tensor | None], Tensor],
        latent_size: int,
        resolution: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
        batch_size: int = 64,
        labels: LabelDistribution | None = None,
    ) -> None:
        self.labels = labels
        self.generate = generate
        self.latent_size = latent_size
        self.resolution = resolution
        self.seed = seed
        self.device = torch.device(device)
        self.batch_size = batch_size

    def latents(self, first: int, count: int) -> Tensor:
        """Latents first … first + count − 1 of the seed: float32 ``(count, latent_size)`` on the device."""
        latents = draw_latents(self.seed, first, count, self.latent_size, "evaluation/latents")
        return torch.from_numpy(latents).to(self.device)

    def codes(self, first: int, count: int) -> Tensor | None:
        """Codes of the labels of images first … first + count − 1; None for an unconditional generator."""
        if self.labels is None:
            return None
        return self.labels.draw(self.seed, first, count, "evaluation/labels").to(self.device)

    @torch.no_grad()
    def images(self, first: int, count: int) -> Tensor:
        parts = []
        for start in range(first, first + count, self.batch_size):
            part = min(self.batch_size, first + count - start)
            images = self.generate(self.latents(start, part), self.codes(start, part))
            if not bool(torch.isfinite(images).all()):
                raise UserError("the generator's output is not finite: its training has diverged")
            parts.append(upscale_nearest(to_uint8(images), self.resolution // images.shape[2]))
        return torch.cat(parts)


class PooledImages:
    """Several generators taken together as one: N images hold as many of each, in turn.

    HDCGAN's Fréchet distance is of images from the generators of 17 epochs (Curtó et al. 2020, section 6).

    Args:
        sets: One per generator.
    """

    def __init__(self, sets: list[GeneratedImages]) -> None:
        self.sets = sets

    def images(self, first: int, count: int) -> Tensor:
        numbers = range(first, first + count)
        images: list[Tensor | None] = [None] * count
        for i, one in enumerate(self.sets):
            mine = [n for n in numbers if n % len(self.sets) == i]
            if mine:
                start = mine[0] // len(self.sets)
                for n, image in zip(mine, one.images(start, len(mine)), strict=True):
                    images[n - first] = image
        return torch.stack([image for image in images if image is not None])


def images_of(
    loaded: LoadedGenerator, resolution: int, seed: int, device: torch.device | str, batch_size: int
) -> GeneratedImages:
    """The images of a generator from a file, at the resolution and fade-in that it was saved at.

    Raises:
        UserError: The resolution wanted is below the generator's, or no multiple of it.
    """
    if resolution % loaded.resolution:
        raise UserError(
            f"resolution={resolution}: give a multiple of {loaded.resolution}, the height that the generator makes"
        )
    size = int(loaded.generator.latent_size)  # type: ignore[arg-type]
    return GeneratedImages(loaded.pictures, size, resolution, seed, device, batch_size, loaded.labels)


def batches(
    images: ImageSet, count: int, size: int, rank: int = 0, world_size: int = 1
) -> Iterator[tuple[int, Tensor]]:
    """This process's share of the first `count` images: every `world_size`-th batch.

    Yields:
        The number of a batch's first image, and uint8 ``(n, C, H, W)``.
    """
    for first in range(rank * size, count, world_size * size):
        yield first, images.images(first, min(size, count - first))
