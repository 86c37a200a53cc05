"""Measures of what the pictures show, and of the latent space: faces, digits, perceptual path length."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from imago.distributed import rank_and_world_size
from imago.errors import UserError
from imago.evaluation.image_sets import GeneratedImages, ImageSet
from imago.evaluation.measure import Measure, Progress, Reals, Row, go_through, no_progress
from imago.evaluation.statistics_cache import StatisticsCache
from imago.metrics.digit_classifier import DigitClassifier
from imago.metrics.discrete_modes import DiscreteModes
from imago.metrics.face_detection import PROTOCOL, FaceDetection
from imago.metrics.lpips import Lpips
from imago.metrics.path_length import PerceptualPathLength
from imago.metrics.precision import full_precision


class FaceMeasure(Measure):
    """In how many images dlib finds a face, and how sure it is.

    Args:
        count: Generated images; and at most as many real ones.
        batch_size: Images at a time.
        cache: Keeps the real images' values.
        device: Where counts are kept, for processes that can exchange nothing else.
    """

    name = "faces"

    def __init__(
        self,
        count: int,
        batch_size: int = 64,
        cache: StatisticsCache | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.count = count
        self.batch_size = batch_size
        self.cache = cache or StatisticsCache(None)
        self.metric = FaceDetection().to(device)
        self.real: dict[str, float] = {}
        self.real_count = 0

    def prepare(self, reals: Reals | None, progress: Progress = no_progress) -> None:
        if reals is None:
            return
        count = min(self.count, len(reals))

        def measure() -> dict[str, float]:
            go_through(reals.sample, count, self.batch_size, self.add, "faces: real images", progress)
            values = self._values()
            self.metric.reset()
            return values

        self.real_count = count
        self.real = self.cache.numbers({"metric": "faces", "count": count, **reals.identity}, measure)

    def _values(self) -> dict[str, float]:
        found = self.metric.compute()
        return {"face_rate": found["rate"], "face_confidence": found["confidence"]}

    def begin(self, generated: ImageSet) -> None:
        self.metric.reset()

    def add(self, first: int, images: Tensor) -> None:
        self.metric.update(images)

    def rows(self) -> list[Row]:
        words = {"face_rate": "images with a face", "face_confidence": "score of the best face where there is one"}
        return [
            Row(
                name,
                value,
                self.count,
                f"{words[name]}, {PROTOCOL}",
                reference=self.real.get(name),
                reference_is=f"the real images' own, {self.real_count:,} images" if self.real else "",
                higher_is_better=True,
            )
            for name, value in self._values().items()
        ]


class ModesMeasure(Measure):
    """How many of 1,000 numbers a generator of MNIST-RGB makes (Karras et al. 2018, appendix E).

    Args:
        count: Images; 25,600 in the paper.
        classifier: Gives what reads the digits, trained now if need be; ``progress`` is called with (done, total).
        device: Where counts are kept, for processes that can exchange nothing else.
    """

    name = "modes"

    def __init__(
        self, count: int, classifier: Callable[..., DigitClassifier], device: torch.device | str = "cpu"
    ) -> None:
        self.count = count
        self.classifier = classifier
        self.device = torch.device(device)

    def prepare(self, reals: Reals | None, progress: Progress = no_progress) -> None:
        with progress("modes: digit classifier") as tell:
            classifier = self.classifier(progress=tell)
        self.error = classifier.test_error
        self.metric = DiscreteModes(classifier).to(self.device)

    def begin(self, generated: ImageSet) -> None:
        self.metric.reset()

    def add(self, first: int, images: Tensor) -> None:
        self.metric.update(images)

    def rows(self) -> list[Row]:
        found = self.metric.compute()
        protocol = f"digits read with {100 * self.error:.2f} % error"
        meaning = "expected of uniform draws"
        return [
            Row("modes", found["modes"], self.count, protocol, None, found["perfect_modes"], meaning, True),
            Row(
                "modes_kl",
                found["kl"],
                self.count,
                f"KL(histogram ‖ uniform) in nats, {protocol}",
                reference=found["perfect_kl"],
                reference_is=meaning,
            ),
        ]


class PathLengthMeasure(Measure):
    """Perceptual path length (Karras et al. 2019, section 4.1).

    Args:
        samples: Steps that are measured.
        distance: LPIPS.
        path: "full" or "end", see :class:`imago.metrics.path_length.PerceptualPathLength`.
        seed: Keys the latents.
        batch_size: Steps at a time, each of two images.
        device: Where results are kept, for processes that can exchange nothing else.
    """

    name = "path_length"
    count = 0

    def __init__(
        self,
        samples: int,
        distance: Lpips,
        path: str = "full",
        seed: int = 0,
        batch_size: int = 16,
        device: torch.device | str = "cpu",
    ) -> None:
        self.samples = samples
        self.distance = distance
        self.path = path
        self.seed = seed
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.metric: PerceptualPathLength | None = None
        self.first = 0  # number of the first step of the batch under way

    def begin(self, generated: ImageSet) -> None:
        if not isinstance(generated, GeneratedImages):
            raise UserError("path_length is measured of one generator, not of several pooled")

        def generate(latents: Tensor) -> Tensor:  # both ends of every step, with the same labels
            codes = generated.codes(self.first, len(latents) // 2)
            return generated.generate(latents.to(generated.device), None if codes is None else codes.repeat(2, 1))

        size, options = generated.latent_size, {"path": self.path, "seed": self.seed}
        self.metric = PerceptualPathLength(generate, size, self.distance, **options).to(self.device)  # type: ignore[arg-type]

    def add(self, first: int, images: Tensor) -> None:
        raise AssertionError("it asks for no images")

    def rows(self) -> list[Row]:
        assert self.metric is not None
        rank, world_size = rank_and_world_size()
        with full_precision(self.device):
            for start in range(rank * self.batch_size, self.samples, world_size * self.batch_size):
                self.first = start
                self.metric.update(start, min(self.batch_size, self.samples - start))
        protocol = f"in z, {self.path}, ε = 10⁻⁴, LPIPS of VGG16"
        return [Row(self.name, self.metric.compute(), self.samples, protocol)]
