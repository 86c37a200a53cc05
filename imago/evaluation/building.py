"""The measures that a list of metrics asks for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from imago.data.packed import PackedDataset
from imago.data.packing import default_cache
from imago.data.sources.mnist import MNIST
from imago.errors import UserError
from imago.evaluation.measure import Measure
from imago.evaluation.protocol import Protocol
from imago.evaluation.statistics_cache import StatisticsCache

if TYPE_CHECKING:
    from imago.evaluation.feature_measures import FeatureCollector
    from imago.metrics.features.extractor import FeatureExtractor

METRICS = (
    "swd",
    "ms_ssim",
    "frechet",
    "kernel",
    "precision_recall",
    "inception_score",
    "faces",
    "neighbours",
    "memorisation",
    "modes",
    "path_length",
)
ALIASES = {"fid": "frechet", "kid": "kernel", "pr": "precision_recall", "is": "inception_score", "ppl": "path_length"}


@dataclass
class MeasureOptions:
    """What the measures depend on, besides the images.

    Attributes:
        metrics: Of :data:`METRICS`.
        protocol: How much is measured.
        seed: Keys descriptors, projections, subsets, latents.
        features: A name that :func:`imago.metrics.features.build.build_extractor` knows.
        weights: The file of its network.
        vgg16_weights: VGG16's, for path_length.
        resize: How images get the size that it wants; None: as its makers do.
        floor: Measure real images against real images, too.
        digits: The folder of MNIST's files, for modes.
        path_sampling: "full" or "end", for path_length.
        batch_size: Images at a time.
        cache: Where results of real images and the digit classifier are kept; None: the default cache.
    """

    metrics: list[str]
    protocol: Protocol = field(default_factory=Protocol)
    seed: int = 0
    features: str = "face"
    weights: str | None = None
    vgg16_weights: str | None = None
    resize: str | None = None
    floor: bool = True
    digits: str | None = None
    path_sampling: str = "full"
    batch_size: int = 64
    cache: Path | None = None


def metric_names(given: Sequence[str]) -> list[str]:
    """The metrics that a user means, each once.

    Raises:
        UserError: One is unknown, or there are none.
    """
    names = list(dict.fromkeys(ALIASES.get(name, name) for name in given))
    for name in names:
        if name not in METRICS:
            raise UserError(f"metrics: {name!r} is unknown; choose from {', '.join(METRICS)}")
    if not names:
        raise UserError(f"metrics=[] asks for nothing; choose from {', '.join(METRICS)}")
    return names


def row_names(options: MeasureOptions, extent: tuple[int, int]) -> dict[str, str]:
    """The rows that measures will give of images of height and width `extent`: name → metric.

    Raises:
        UserError: The images are too small for swd.
    """
    from imago.metrics.laplacian import level_sizes

    network = options.features
    levels = [*(height for height, _ in level_sizes(*extent)), "avg"] if "swd" in options.metrics else []
    rows = {
        "swd": [f"swd/{level}" for level in levels],
        "ms_ssim": ["ms_ssim"],
        "frechet": [f"frechet/{network}"],
        "kernel": [f"kernel/{network}"],
        "precision_recall": [f"precision/{network}", f"recall/{network}"],
        "inception_score": [f"inception_score/{network}"],
        "faces": ["face_rate", "face_confidence"],
        "modes": ["modes", "modes_kl"],
    }
    return {name: metric for metric in options.metrics for name in rows.get(metric, [])}


class MeasureBuilder:
    """Builds measures by options; networks that extract features are built once.

    Args:
        options: What is wanted.
        device: Where networks run.
        resolution: Height of the images.
        open_held_out: Opens a pack of real images that were not trained on, for memorisation; None: there are none.
    """

    def __init__(
        self,
        options: MeasureOptions,
        device: torch.device,
        resolution: int,
        open_held_out: Callable[[], PackedDataset] | None = None,
    ) -> None:
        self.options = options
        self.device = device
        # Where metrics keep what they count: in float64, which mps has not.
        self.metric_device = torch.device("cpu") if device.type == "mps" else device
        self.resolution = resolution
        self.open_held_out = open_held_out
        self.protocol = options.protocol
        self.place = options.cache or default_cache()
        self.cache = StatisticsCache(self.place / "metrics")
        self.even_batch = options.batch_size + options.batch_size % 2
        self._extractors: dict[str, FeatureExtractor] = {}

    def build(self) -> list[Measure]:
        """All that take images or a generator; ``neighbours`` is a picture and made apart.

        Raises:
            UserError: A metric needs something that was not given or is not installed.
        """
        builders: dict[str, Callable[[], Measure]] = {
            "swd": self._sliced_wasserstein,
            "ms_ssim": self._ms_ssim,
            "faces": self._faces,
            "memorisation": self._memorisation,
            "modes": self._modes,
            "path_length": self._path_length,
        }
        measures = [builders[name]() for name in self.options.metrics if name in builders]
        return [*measures, *self._of_features()]

    def extractor(self, name: str | None = None) -> FeatureExtractor:
        """The network of ``features=``, or another."""
        from imago.metrics.features.build import build_extractor

        options = self.options
        name = name or options.features
        if name not in self._extractors:
            weights = options.weights if name == options.features else None
            if name == "vgg16":
                weights = weights or options.vgg16_weights
            self._extractors[name] = build_extractor(name, weights, options.resize, self.device)
        return self._extractors[name]

    def _sliced_wasserstein(self) -> Measure:
        from imago.evaluation.pixel_measures import SlicedWassersteinMeasure

        return SlicedWassersteinMeasure(
            self.protocol.swd_images,
            self.protocol.swd_patches,
            self.protocol.swd_directions,
            seed=self.options.seed,
            batch_size=self.even_batch,
            floor=self.options.floor,
            cache=self.cache,
            device=self.metric_device,
        )

    def _ms_ssim(self) -> Measure:
        from imago.evaluation.pixel_measures import MultiScaleSsimMeasure

        return MultiScaleSsimMeasure(
            self.protocol.ms_ssim_images,
            self.protocol.ms_ssim_resolution,
            self.protocol.resize,
            self.even_batch,
            self.cache,
            self.metric_device,
        )

    def _faces(self) -> Measure:
        from imago.evaluation.other_measures import FaceMeasure

        return FaceMeasure(self.protocol.face_images, self.even_batch, self.cache, self.metric_device)

    def collector(self, name: str | None = None, logits: bool = False) -> FeatureCollector:
        """Turns images into features of the network of ``features=``, or of another, by the protocol."""
        from imago.evaluation.feature_measures import FeatureCollector

        return FeatureCollector(
            self.extractor(name),
            self.protocol.feature_resolution,
            self.protocol.resize,
            logits,
            self.even_batch,
            self.cache,
        )

    def _of_features(self) -> list[Measure]:
        from imago.evaluation.feature_measures import DISTANCES, FeatureMeasure, InceptionScoreMeasure

        options, protocol = self.options, self.protocol
        measures: list[Measure] = []
        if "inception_score" in options.metrics:
            collector = self.collector(logits=True)
            measures.append(
                InceptionScoreMeasure(protocol.score_images, collector, protocol.score_splits, options.floor)
            )
        if set(DISTANCES) & set(options.metrics):
            count, collector = protocol.feature_images, self.collector()
            measures.append(FeatureMeasure(options.metrics, count, collector, options.floor, options.seed))
        return measures

    def _memorisation(self) -> Measure:
        from imago.evaluation.feature_measures import MemorisationMeasure

        if self.open_held_out is None:
            raise UserError(
                "memorisation needs held_out=…: a folder, zip or pack of real images that were not trained on"
            )
        return MemorisationMeasure(
            self.protocol.memorisation_images, self.collector(), self.open_held_out(), self.resolution
        )

    def _modes(self) -> Measure:
        from imago.evaluation.other_measures import ModesMeasure
        from imago.metrics.digit_classifier import digit_classifier

        if not self.options.digits:
            raise UserError("modes needs digits=…: the folder of MNIST's files, to train the digit classifier on")
        MNIST(self.options.digits, "test")  # is it there?
        classifier = functools.partial(digit_classifier, self.options.digits, self.place)
        return ModesMeasure(self.protocol.modes_images, classifier, self.metric_device)

    def _path_length(self) -> Measure:
        from imago.evaluation.other_measures import PathLengthMeasure
        from imago.metrics.lpips import Lpips

        if not self.options.vgg16_weights:
            raise UserError(
                "path_length needs vgg16_weights=…: the file of VGG16's weights (vgg16-397923af.pth), for LPIPS"
            )
        distance = Lpips.from_file(self.options.vgg16_weights, self.device)
        options, samples = self.options, self.protocol.path_length_samples
        return PathLengthMeasure(
            samples, distance, options.path_sampling, options.seed, options.batch_size, self.metric_device
        )
