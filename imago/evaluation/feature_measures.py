"""Measures of features: Fréchet and kernel distance, Inception score, precision and recall, memorisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from imago.data.packed import PackedDataset
from imago.distributed import gathered_in_order
from imago.errors import UserError
from imago.evaluation.image_sets import AllImages, ImageSet
from imago.evaluation.measure import (
    Measure,
    Progress,
    Reals,
    Row,
    comparable,
    floor_is,
    go_through,
    no_progress,
    resized,
)
from imago.evaluation.statistics_cache import StatisticsCache
from imago.metrics.features.extractor import FeatureExtractor
from imago.metrics.frechet import frechet_distance
from imago.metrics.inception_score import inception_score
from imago.metrics.kernel import kernel_distance
from imago.metrics.memorisation import memorisation
from imago.metrics.precision_recall import precision_recall

DISTANCES = ("frechet", "kernel", "precision_recall")


class FeatureCollector:
    """Turns images into features and keeps them.

    Args:
        extractor: Makes the features.
        resolution: Images are resized to this height first; None: as they are.
        resize: How.
        logits: Keep logits instead of features.
        batch_size: Images at a time.
        cache: Keeps those of real images.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        resolution: int | None,
        resize: str,
        logits: bool,
        batch_size: int,
        cache: StatisticsCache,
    ) -> None:
        self.extractor = extractor
        self.resolution = resolution
        self.resize = resize
        self.logits = logits
        self.batch_size = batch_size
        self.cache = cache
        self._parts: list[tuple[int, Tensor]] = []

    @property
    def protocol(self) -> str:
        """In words."""
        if self.resolution is None:
            return self.extractor.protocol
        return f"resized to {self.resolution}² ({self.resize}), {self.extractor.protocol}"

    @property
    def identity(self) -> dict[str, Any]:
        """Tells what it makes of images from what others make, to recognise cached results."""
        how = {"resolution": self.resolution, "resize": self.resize, "logits": self.logits}
        return {"extractor": self.extractor.identity, **how}

    def clear(self) -> None:
        """Forgets all images."""
        self._parts = []

    def prepared(self, images: Tensor) -> Tensor:
        """Images uint8 ``(n, C, H, W)`` as the extractor gets them: ``(n, 3, h, w)``."""
        return resized(images, self.resolution, self.resize).expand(-1, 3, -1, -1)

    def add(self, first: int, images: Tensor) -> None:
        """Takes images number ``first`` …: uint8 ``(n, C, H, W)``."""
        images = self.prepared(images)
        found = self.extractor.features_and_logits(images)[1] if self.logits else self.extractor(images)
        self._parts.append((first, found))

    def gathered(self) -> Tensor:
        """Features ``(N, D)``, or logits ``(N, K)``, of all processes' images, in order."""
        return gathered_in_order(self._parts)

    def of(self, images: ImageSet, count: int, identity: dict[str, Any], doing: str, progress: Progress) -> Tensor:
        """Features, or logits, of the first images of a set, from the cache where they are there.

        Args:
            images: The set.
            count: How many of it.
            identity: Tells the set from others.
            doing: What is shown while they are made.
            progress: Shows it.
        """

        def measure() -> dict[str, Tensor]:
            self.clear()
            go_through(images, count, self.batch_size, self.add, doing, progress)
            found = self.gathered()
            self.clear()
            return {"features": found}

        return self.cache.tensors({"count": count, **self.identity, **identity}, measure)["features"]


class FeatureMeasure(Measure):
    """Distances between the features of real and of generated images.

    Args:
        metrics: Of :data:`DISTANCES`; those that are wanted.
        count: Images of each set; fewer where there are fewer real ones.
        collector: Makes the features.
        floor: Measure the same of real images, too.
        seed: Keys the subsets of the kernel distance.
    """

    def __init__(
        self, metrics: Sequence[str], count: int, collector: FeatureCollector, floor: bool = True, seed: int = 0
    ) -> None:
        self.metrics = [metric for metric in DISTANCES if metric in metrics]
        self.name = ",".join(self.metrics)
        self.count = count
        self.collector = collector
        self.floor = floor
        self.seed = seed
        self.floor_is = ""
        self.floors: dict[str, float] = {}

    def prepare(self, reals: Reals | None, progress: Progress = no_progress) -> None:
        self.count = comparable(reals, self.count, self.name, self.floor)
        assert reals is not None
        collector, count, network = self.collector, self.count, self.collector.extractor.name
        identity = {"set": "sample", **reals.identity}
        self.real = collector.of(reals.sample, count, identity, f"{network}: real images", progress)
        if not self.floor:
            return

        def measure() -> dict[str, float]:
            identity = {"set": "others", **reals.identity}
            others = collector.of(reals.others, count, identity, f"{network}: other real images", progress)
            return {row.metric: row.value for row in self._compared(others)}

        key = {"set": "floors", "metrics": self.metrics, "seed": self.seed, "count": count}
        self.floors = collector.cache.numbers({**key, **collector.identity, **reals.identity}, measure)
        self.floor_is = floor_is(reals, count)

    def begin(self, generated: ImageSet) -> None:
        self.collector.clear()

    def add(self, first: int, images: Tensor) -> None:
        self.collector.add(first, images)

    def rows(self) -> list[Row]:
        return self._compared(self.collector.gathered())

    def _compared(self, other: Tensor) -> list[Row]:
        how, real, rows = self.collector.protocol, self.real, []
        if "frechet" in self.metrics:
            rows.append(self._row("frechet", frechet_distance(real, other), how))
        if "kernel" in self.metrics:
            subsets = "100 subsets of 1,000" if len(real) > 1000 else "one subset"
            value, spread = kernel_distance(real, other, seed=self.seed, by_content=False)
            rows.append(self._row("kernel", value, f"{subsets}, {how}", spread))
        if "precision_recall" in self.metrics:
            for metric, value in zip(("precision", "recall"), precision_recall(real, other), strict=True):
                rows.append(self._row(metric, value, f"k = 3, {how}", higher_is_better=True))
        return rows

    def _row(
        self, metric: str, value: float, protocol: str, spread: float | None = None, higher_is_better: bool = False
    ) -> Row:
        name = f"{metric}/{self.collector.extractor.name}"
        return Row(name, value, self.count, protocol, spread, self.floors.get(name), self.floor_is, higher_is_better)


class InceptionScoreMeasure(Measure):
    """The Inception score (Salimans et al. 2016), beside that of the real images.

    Args:
        count: Generated images; and at most as many real ones.
        collector: Makes the logits.
        splits: Parts of the images, of whose scores mean and deviation are taken.
        floor: Measure the real images, too.

    Raises:
        UserError: The network gives no logits.
    """

    name = "inception_score"

    def __init__(self, count: int, collector: FeatureCollector, splits: int = 10, floor: bool = True) -> None:
        if not collector.extractor.has_logits:
            raise UserError(
                f"inception_score needs class probabilities, which features={collector.extractor.name} has not; "
                "take features=inception"
            )
        self.count = count
        self.collector = collector
        self.splits = splits
        self.floor = floor
        self.real: float | None = None
        self.real_is = ""

    def prepare(self, reals: Reals | None, progress: Progress = no_progress) -> None:
        if reals is None or not self.floor or len(reals) < self.splits:
            return
        count = min(self.count, len(reals))
        identity = {"set": "sample", **reals.identity}
        doing = f"{self.collector.extractor.name}: real images"
        self.real = inception_score(self.collector.of(reals.sample, count, identity, doing, progress), self.splits)[0]
        self.real_is = f"the real images' own, {count:,} images"

    def begin(self, generated: ImageSet) -> None:
        self.collector.clear()

    def add(self, first: int, images: Tensor) -> None:
        self.collector.add(first, images)

    def rows(self) -> list[Row]:
        value, spread = inception_score(self.collector.gathered(), self.splits)
        protocol = f"{self.splits} splits, {self.collector.protocol}"
        name = f"{self.name}/{self.collector.extractor.name}"
        return [Row(name, value, self.count, protocol, spread, self.real, self.real_is, True)]


class MemorisationMeasure(Measure):
    """How often a generated image lies closer to a training image than a real image does that was not trained on.

    Args:
        count: Generated images; and at most as many held-out ones.
        collector: Makes the features.
        held_out: Real images that were not trained on.
        resolution: Height of these.
    """

    name = "memorisation"

    def __init__(self, count: int, collector: FeatureCollector, held_out: PackedDataset, resolution: int) -> None:
        self.count = count
        self.collector = collector
        self.held_out = held_out
        self.resolution = resolution

    def prepare(self, reals: Reals | None, progress: Progress = no_progress) -> None:
        comparable(reals, self.count, self.name, floor=False)
        assert reals is not None
        if self.held_out.checksum == reals.everything.dataset.checksum:
            raise UserError(f"held_out={self.held_out.path} is what was trained on; give images that were not")
        collector, name = self.collector, self.collector.extractor.name
        self.training = features_of_everything(collector, reals, progress)
        self.trained_on = f"{len(reals):,} training" + (" and as many mirrored" if reals.sample.mirror else "")
        identity = {"set": "everything", "data": self.held_out.checksum, "height": self.resolution}
        held_out = AllImages(self.held_out, self.resolution)
        count = min(self.count, len(held_out))
        self.unseen = collector.of(held_out, count, identity, f"{name}: held-out images", progress)

    def begin(self, generated: ImageSet) -> None:
        self.collector.clear()

    def add(self, first: int, images: Tensor) -> None:
        self.collector.add(first, images)

    def rows(self) -> list[Row]:
        fake = self.collector.gathered()
        result = memorisation(self.training, self.unseen, fake)
        protocol = f"{len(self.unseen):,} held-out and {self.trained_on} images, {self.collector.protocol}"
        network = self.collector.extractor.name
        close = f"closer than the closest {100 * result.expected_close:.2g} % of the held-out, {protocol}"
        return [
            Row(
                f"memorisation/{network}",
                result.share,
                self.count,
                f"closer to training than held-out images are, {protocol}",
                result.standard_error,
                0.5,
                "of a generator that does not copy",
                None,
            ),
            Row(
                f"memorised/{network}",
                result.close,
                self.count,
                close,
                result.close_standard_error,
                result.expected_close,
                "of a generator that does not copy",
                None,
            ),
        ]


def features_of_everything(collector: FeatureCollector, reals: Reals, progress: Progress) -> Tensor:
    """Features of all training images, ``(N, D)``; and of their mirror images behind them, ``(2N, D)``, where training
    mirrored: a copy of one of these is a copy, too."""
    mirror = [False, True] if reals.sample.mirror else [False]
    doing = f"{collector.extractor.name}: all training images"
    parts = []
    for mirrored in mirror:
        place = reals.everything
        identity = {"set": "everything", "data": place.dataset.checksum, "height": place.resolution, "mirror": mirrored}
        images = AllImages(reals.everything.dataset, reals.everything.resolution, mirrored)
        name = f"{doing}, mirrored" if mirrored else doing
        parts.append(collector.of(images, len(reals), identity, name, progress))
    return torch.cat(parts)
