"""The training images nearest to a few generated ones, found in one pass over a set too large to hold.

For distances that come from whole images, not from short features: of pixels, or of VGG16's activations in five layers
as in figure 10 of Karras et al. 2018, where one image has millions of numbers. Where features of all training images
can be kept, :func:`imago.metrics.neighbours.nearest_neighbours` is the quicker way.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from imago.errors import UserError
from imago.metrics.checks import check_images
from imago.metrics.features.vgg16 import Vgg16
from imago.metrics.precision import full_precision
from imago.metrics.resizing import resize

FACE_CROP = 0.6  # of both sides: from the brows to the lower lip in CelebA-HQ

_CHEN_KOLTUN_LAYERS = ("conv1_2", "conv2_2", "conv3_2", "conv4_2", "conv5_2")
_LONGEST_SIDE = 224  # pixels: VGG16 was trained on such images


@dataclass(frozen=True)
class Nearest:
    """The k nearest images of each of Q queries, the nearest first; of equally near ones, the one of lower index.

    Attributes:
        distances: float64 ``(Q, k)``.
        indices: int64 ``(Q, k)``: positions in the training set.
        mirrored: bool ``(Q, k)``: whether it was the image's mirror image that is so near.
    """

    distances: Tensor
    indices: Tensor
    mirrored: Tensor


class ImageDistance(Protocol):
    """A distance between images, in two steps so that each image is prepared once.

    Attributes:
        protocol: What is printed beside the result.
    """

    protocol: str

    def prepare(self, images: Tensor) -> Any:
        """What is compared of uint8 images ``(N, 3, h, w)``."""
        ...

    def between(self, queries: Any, others: Any) -> Tensor:
        """Distances of prepared images: float64 ``(Q, B)`` on the CPU; row q depends on query q only."""
        ...


class PixelDistance:
    """Euclidean distance of RGB values in [0, 255], exact."""

    protocol = "Euclidean distance of pixels"

    def prepare(self, images: Tensor) -> Tensor:
        """The pixels ``(N, D)``."""
        return images.flatten(1).float()

    def between(self, queries: Tensor, others: Tensor) -> Tensor:
        """See :class:`ImageDistance`."""
        # Squares of differences of bytes are exact in float32, their sums in float64.
        rows = [(others - query).square().sum(dim=1, dtype=torch.float64).sqrt() for query in queries]
        return torch.stack(rows).cpu()


class VggDistance:
    """Distance of VGG16's activations in the five layers of Chen and Koltun 2017: conv1_2, conv2_2, … conv5_2.

    As in their equation 1, it is a sum over the layers of λ times the L1 distance. They set λ "to normalize the
    expected contribution of each term"; Karras et al. do not tell theirs. Here a term is the mean absolute difference
    relative to the query's mean activation in that layer: so each of the layers counts alike, and a query's neighbours
    depend neither on the other queries nor on the batches.

    Args:
        network: See :func:`imago.metrics.features.vgg16.load_vgg16`. Images are prepared on its device.
    """

    protocol = f"VGG16 activations ({', '.join(_CHEN_KOLTUN_LAYERS)}; relative L1)"

    def __init__(self, network: Vgg16) -> None:
        self._network = network

    @torch.inference_mode()
    def prepare(self, images: Tensor) -> list[Tensor]:
        """Activations per layer, ``(N, C, h, w)``; larger images are shrunk to a longer side of 224 (area means)."""
        height, width = images.shape[2:]
        scale = min(1.0, _LONGEST_SIDE / max(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        parameter = next(self._network.parameters())
        pixels = resize(images.to(parameter.device), size, "box").to(parameter.dtype)
        with full_precision(pixels.device):
            return list(self._network(pixels / 127.5 - 1, _CHEN_KOLTUN_LAYERS).values())

    def between(self, queries: list[Tensor], others: list[Tensor]) -> Tensor:
        """See :class:`ImageDistance`."""
        total = torch.zeros(len(queries[0]), len(others[0]), dtype=torch.float64)
        for layer_queries, layer_others in zip(queries, others, strict=True):
            for row, query in enumerate(layer_queries):
                difference = (layer_others - query).abs().flatten(1).mean(dim=1, dtype=torch.float64)
                total[row] += (difference / query.mean(dtype=torch.float64).clamp(min=1e-12)).cpu()
        return total


class NearestImages:
    """Keeps the nearest images of some queries while training images go by; see :func:`nearest_images`."""

    def __init__(
        self, queries: Tensor, distance: ImageDistance, k: int = 5, crop: float = FACE_CROP, mirror: bool = False
    ) -> None:
        if k < 1:
            raise UserError(f"{k} nearest images: at least 1 must be asked for")
        queries = check_images(queries, "generated images")
        self._size = tuple(queries.shape[2:])
        self._distance, self._k, self._crop, self._mirror = distance, k, crop, mirror
        self._queries = distance.prepare(centre_crop(queries, crop))
        empty = torch.zeros(len(queries), 0)
        self._nearest = Nearest(empty.double(), empty.long(), empty.bool())

    def update(self, first_index: int, images: Tensor) -> None:
        """Looks at training images.

        Args:
            first_index: Position in the training set of the first; the others follow it.
            images: uint8 ``(B, 3, H, W)`` (or grey), of the size of the queries.

        Raises:
            UserError: Other images.
        """
        images = check_images(images, "training images")
        if tuple(images.shape[2:]) != self._size:
            sizes = ["×".join(map(str, size)) for size in (images.shape[2:], self._size)]
            raise UserError(f"training images are {sizes[0]}, generated ones {sizes[1]}")
        crops = centre_crop(images, self._crop)
        distances = self._distance.between(self._queries, self._distance.prepare(crops))  # (Q, B)
        mirrored = torch.zeros_like(distances, dtype=torch.bool)
        if self._mirror:
            flipped = self._distance.between(self._queries, self._distance.prepare(crops.flip(3)))
            mirrored = flipped < distances
            distances = torch.minimum(distances, flipped)
        if not bool(torch.isfinite(distances).all()):
            raise UserError(f"training images from {first_index} on: a distance is NaN or infinite")
        indices = torch.arange(first_index, first_index + len(images)).expand_as(distances)
        self._nearest = merge_nearest([self._nearest, Nearest(distances, indices, mirrored)], self._k)

    @property
    def so_far(self) -> Nearest:
        """The nearest of the images seen so far; fewer than k while these are fewer."""
        return self._nearest

    def result(self) -> Nearest:
        """The nearest of all images seen.

        Raises:
            UserError: They were fewer than k.
        """
        found = self._nearest.distances.shape[1]
        if found < self._k:
            raise UserError(f"{self._k} nearest images of {found} training images: ask for fewer")
        return self._nearest


def nearest_images(
    queries: Tensor,
    batches: Iterable[tuple[int, Tensor]],
    distance: ImageDistance,
    k: int = 5,
    crop: float = FACE_CROP,
    mirror: bool = False,
) -> Nearest:
    """The k training images nearest to each generated one, exactly.

    The result does not depend on how the training images are divided into batches, nor on their order.

    Args:
        queries: Generated images, uint8 ``(Q, 3, H, W)``; a few, since what is compared of them is held in memory (24
            MB each for VGG16 at 224×224).
        batches: Training images: the position of the first, and uint8 ``(B, 3, H, W)``; each position once.
        distance: :class:`PixelDistance` or :class:`VggDistance`.
        k: Neighbours per query.
        crop: Side of the centre that is compared, as a share of the image's, in (0, 1]. Karras et al. 2018, figure 10,
            compare the face only, "in order to exclude image background", in a rectangle that they show and give no
            numbers of; the default is our choice for faces aligned like CelebA-HQ's. 1 compares whole images.
        mirror: Whether a training image may be as near as its mirror image is, as is right where the generator was
            trained with mirror augmentation. The image still counts once.

    Raises:
        UserError: Images of other sizes or types, fewer than k, or a crop that is no share.
    """
    search = NearestImages(queries, distance, k, crop, mirror)
    for first_index, images in batches:
        search.update(first_index, images)
    return search.result()


def merge_nearest(parts: Iterable[Nearest], k: int) -> Nearest:
    """The k nearest of several results for the same queries, each of other training images (those of processes, say).

    Returns:
        As many neighbours as there are, at most k.
    """
    found = list(parts)
    distances = torch.cat([part.distances for part in found], dim=1)
    indices = torch.cat([part.indices for part in found], dim=1)
    mirrored = torch.cat([part.mirrored for part in found], dim=1)
    by_index = indices.argsort(dim=1)
    by_distance = distances.gather(1, by_index).argsort(dim=1, stable=True)  # equal ones stay ordered by index
    order = by_index.gather(1, by_distance)[:, :k]
    return Nearest(distances.gather(1, order), indices.gather(1, order), mirrored.gather(1, order))


def centre_crop(images: Tensor, crop: float) -> Tensor:
    """The centre of images.

    Args:
        images: ``(..., H, W)``.
        crop: Side of the centre as a share of the image's, in (0, 1].

    Raises:
        UserError: The crop is no share.
    """
    top, left, height, width = crop_box(images.shape[-2], images.shape[-1], crop)
    return images[..., top : top + height, left : left + width]


def crop_box(height: int, width: int, crop: float) -> tuple[int, int, int, int]:
    """The box that :func:`centre_crop` keeps: top, left, height and width in pixels, each side at least 1.

    It has the same margin on both sides, so that the crop of a mirror image is the mirror image of the crop.
    """
    if not 0 < crop <= 1:
        raise UserError(f"crop={crop}: must be a share of the image's side, above 0 and at most 1")
    top, left = (min((side - 1) // 2, round((1 - crop) * side / 2)) for side in (height, width))
    return top, left, height - 2 * top, width - 2 * left
