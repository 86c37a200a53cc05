"""Which pictures of a generator go into a synthetic data set, and the source that packs them.

Curtó et al. 2020 (section 5.2) enlarge their data set by 4,239 unlabelled images of HDCGAN; a later release keeps those
in which a detector finds a face.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imago import randomness
from imago.data.packed import PackedDataset
from imago.data.sources.source import Item
from imago.errors import UserError

_MOST_COMPARED = 2000  # training images whose nearest neighbours set the threshold
_COMPARED_TOGETHER = 100  # of them: 300 MB at 1024²

Pictures = Callable[[Sequence[int]], Tensor]  # numbers to uint8 (n, C, H, W)
Keep = Callable[[Tensor], NDArray[np.bool_]]  # uint8 (n, C, H, W) to whether each is kept


@dataclass(frozen=True)
class Filter:
    """A reason to leave pictures out.

    Attributes:
        name: What is left out: "no face".
        keep: Which pictures are kept.
    """

    name: str
    keep: Keep


@dataclass(frozen=True)
class Selection:
    """The numbers that are kept, and what became of the others.

    Attributes:
        numbers: Ascending.
        tried: Pictures that were made.
        left_out: Filter → how many; a picture counts for the first that it fails.
    """

    numbers: list[int]
    tried: int
    left_out: dict[str, int]


def select(
    pictures: Pictures,
    count: int,
    filters: Sequence[Filter],
    batch_size: int,
    most: int,
    progress: Callable[[int, int], None] | None = None,
) -> Selection:
    """The first `count` pictures, in the order of their numbers, that pass all filters.

    Args:
        pictures: Numbers to pictures.
        count: How many are wanted.
        filters: In the order in which they are asked; none keeps everything and makes nothing.
        batch_size: Pictures at a time.
        most: Give up after so many.
        progress: Called with (kept, wanted).

    Raises:
        UserError: Too few pass.
    """
    if not filters:
        return Selection(list(range(count)), count, {})
    kept: list[int] = []
    left_out = {one.name: 0 for one in filters}
    tried = 0
    while len(kept) < count:
        if tried >= most:
            reasons = ", ".join(f"{number} {name}" for name, number in left_out.items())
            raise UserError(
                f"of {tried:,} pictures only {len(kept):,} of the {count:,} wanted were kept ({reasons}); ask for "
                "fewer, loosen the filters, or raise dataset.max_tries"
            )
        first, tried = tried, min(tried + batch_size, most)
        numbers = np.arange(first, tried)
        images = pictures(numbers.tolist())
        failed: dict[str, NDArray[np.int64]] = {}
        for one in filters:
            passes = one.keep(images) if len(images) else np.zeros(0, dtype=bool)
            failed[one.name] = numbers[~passes]
            images, numbers = images[torch.from_numpy(passes)], numbers[passes]
        kept += numbers[: count - len(kept)].tolist()
        if len(kept) == count:  # what the batch holds beyond the last one was made for nothing
            tried = kept[-1] + 1
        for name, which in failed.items():
            left_out[name] += int((which < tried).sum())
        if progress is not None:
            progress(len(kept), count)
    return Selection(kept, tried, left_out)


def faces_only() -> Filter:
    """Keeps pictures in which a face is found.

    Raises:
        MissingDependencyError: dlib is not installed.
    """
    from imago.metrics.face_detection import FaceDetection, face_scores

    FaceDetection()  # says so if dlib is missing

    def keep(images: Tensor) -> NDArray[np.bool_]:
        return ~torch.isnan(face_scores(images)).numpy()

    return Filter("without a face", keep)


def no_copies(dataset: PackedDataset, resolution: int, closest: float, mirror: bool) -> Filter:
    """Leaves out pictures that are nearer to a training image than the nearest training images are to each other.

    Distances are of pixels, of whole images, at 32² where the pictures are larger (:class:`NearestPixels`). The
    threshold is the `closest` quantile of the distances of (at most 2,000) training images to their nearest other one,
    or the smallest one that is not 0 if that is larger: data sets hold images twice.

    Args:
        dataset: The training images.
        resolution: Height of the pictures.
        closest: Share in (0, 1).
        mirror: Whether mirror images count.

    Raises:
        UserError: A share out of range, too few images, or none of this height.
    """
    from imago.data.nearest_pixels import NearestPixels

    if not 0 < closest < 1:
        raise UserError(f"dataset.closest is a share: it must lie in (0, 1), not be {closest}")
    if len(dataset) < 3:
        raise UserError(f"dataset.closest: {dataset.name} has only {len(dataset)} images to compare with")
    training = NearestPixels(dataset, resolution, mirror)
    order = randomness.permutation(0, "synthetic/threshold", 0, len(dataset))[:_MOST_COMPARED]
    # The nearest image of a training image is itself.
    parts = np.array_split(order, -(-len(order) // _COMPARED_TOGETHER))
    apart = [training.distances(torch.from_numpy(dataset.images(part, resolution)), 2)[:, 1] for part in parts]
    nearest = np.concatenate(apart)
    if not (nearest > 0).any():
        raise UserError(f"dataset.closest: all images of {dataset.name} are there twice")
    threshold = max(float(np.quantile(nearest, closest)), float(nearest[nearest > 0].min()))

    def keep(images: Tensor) -> NDArray[np.bool_]:
        return np.asarray(training.distances(images)[:, 0] > threshold)

    return Filter("too near to a training image", keep)


class GeneratedPictures:
    """The kept pictures as a source to pack.

    Args:
        name: Of the set.
        pictures: Numbers to pictures.
        labels: A number's labels by name; None for an unlabelled set.
        numbers: Which pictures.
        identity: All that the pictures depend on besides their numbers.
        batch_size: Pictures made at a time; they are read in order.
    """

    def __init__(
        self,
        name: str,
        pictures: Pictures,
        labels: Callable[[int], dict[str, str]] | None,
        numbers: Sequence[int],
        identity: str,
        batch_size: int,
    ) -> None:
        self.name = name
        self.pictures = pictures
        self.labels = labels
        self.numbers = list(numbers)
        self.identity = identity
        self.batch_size = batch_size
        self._batch: tuple[int, NDArray[np.uint8]] | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def fingerprint(self) -> str:
        """16 hexadecimal digits of what the pictures depend on."""
        text = f"{self.identity}/{self.batch_size}/{self.labels is not None}/{self.numbers}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def item_name(self, index: int) -> str:
        """``synthetic_`` and the picture's number."""
        return f"synthetic_{self.numbers[index]:07d}"

    def read(self, index: int) -> Item:
        """One picture, from a batch that always begins at the same place, so that it does not depend on the others.

        Args:
            index: 0 … len − 1.
        """
        start = index // self.batch_size * self.batch_size
        if self._batch is None or self._batch[0] != start:
            images = self.pictures(self.numbers[start : start + self.batch_size])
            self._batch = start, images.permute(0, 2, 3, 1).numpy()
        labels = None if self.labels is None else self.labels(self.numbers[index])
        return Item(image=self._batch[1][index - start], name=self.item_name(index), labels=labels)
