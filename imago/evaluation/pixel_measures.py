"""Measures of the pixels themselves: sliced Wasserstein distance and MS-SSIM, by the protocols of PGGAN and HDCGAN."""

from __future__ import annotations

import torch
from torch import Tensor

from imago.errors import UserError
from imago.evaluation.image_sets import ImageSet
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
from imago.metrics.ms_ssim import MultiScaleSsim
from imago.metrics.sliced_wasserstein import SlicedWasserstein


class SlicedWassersteinMeasure(Measure):
    """Sliced Wasserstein distance at every level of the Laplacian pyramid (Karras et al. 2018, section 5).

    Args:
        count: Images of each set; fewer where there are fewer real ones.
        patches: Descriptors per image and level.
        directions: Projections.
        smallest: Height of the coarsest level.
        seed: Keys the places of the descriptors and the directions.
        batch_size: Images at a time.
        floor: Measure the distance of real images from other real images, too.
        cache: Keeps that.
        device: Where descriptors are kept and projected.
    """

    name = "swd"

    def __init__(
        self,
        count: int,
        patches: int = 128,
        directions: int = 512,
        smallest: int = 16,
        seed: int = 0,
        batch_size: int = 64,
        floor: bool = True,
        cache: StatisticsCache | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.count = count
        self.patches = patches
        self.directions = directions
        self.batch_size = batch_size
        self.floor = floor
        self.cache = cache or StatisticsCache(None)
        self.settings = {"patches": patches, "directions": directions, "smallest": smallest, "seed": seed}
        self.device = torch.device(device)
        self.metric = SlicedWasserstein(**self.settings, reset_real=False).to(self.device)
        self.floors: dict[str, float] = {}
        self.floor_is = ""

    def prepare(self, reals: Reals | None, progress: Progress = no_progress) -> None:
        self.count = comparable(reals, self.count, self.name, self.floor)
        assert reals is not None
        go_through(reals.sample, self.count, self.batch_size, self._add_real, "swd: real images", progress)
        if not self.floor:
            return

        def measure() -> dict[str, float]:
            go_through(reals.others, self.count, self.batch_size, self.add, "swd: real against real", progress)
            floors = {str(level): value for level, value in self.metric.compute().items()}
            self.metric.reset()
            return floors

        key = {"metric": "swd", "count": self.count, **self.settings, **reals.identity}
        self.floors = self.cache.numbers(key, measure)
        self.floor_is = floor_is(reals, self.count)

    def begin(self, generated: ImageSet) -> None:
        self.metric.reset()

    def _add_real(self, first: int, images: Tensor) -> None:
        self.metric.update(images.to(self.device), first, real=True)

    def add(self, first: int, images: Tensor) -> None:
        self.metric.update(images.to(self.device), first, real=False)

    def rows(self) -> list[Row]:
        protocol = f"×10³, {self.patches} descriptors of 7×7×3, {self.directions} projections"
        return [
            Row(
                f"swd/{level}",
                value,
                self.count,
                protocol,
                reference=self.floors.get(str(level)),
                reference_is=self.floor_is,
            )
            for level, value in self.metric.compute().items()
        ]


class MultiScaleSsimMeasure(Measure):
    """MS-SSIM among generated images, lower is more varied (Odena et al. 2017; Karras et al. 2018, section 6.1).

    Args:
        count: Images, two to a pair.
        resolution: Images are resized to this height first; None: as they are. 128 in HDCGAN's protocol.
        resize: How.
        batch_size: Images at a time; even.
        cache: Keeps the real images' own value.
        device: Where it is computed.
    """

    name = "ms_ssim"

    def __init__(
        self,
        count: int,
        resolution: int | None = None,
        resize: str = "box",
        batch_size: int = 64,
        cache: StatisticsCache | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if count < 2:
            raise UserError(f"ms_ssim compares pairs: it needs at least 2 images, not {count}")
        assert batch_size % 2 == 0, "pairs must not be torn apart"
        self.count = count // 2 * 2
        self.resolution = resolution
        self.resize = resize
        self.batch_size = batch_size
        self.cache = cache or StatisticsCache(None)
        self.device = torch.device(device)
        self.metric = MultiScaleSsim().to(self.device)
        self.real: float | None = None
        self.real_is = ""
        self.height = 0

    def prepare(self, reals: Reals | None, progress: Progress = no_progress) -> None:
        if reals is None or len(reals) < 2:
            return
        count = min(self.count, len(reals)) // 2 * 2

        def measure() -> dict[str, float]:
            go_through(reals.sample, count, self.batch_size, self.add, "ms_ssim: real images", progress)
            value = float(self.metric.compute())
            self.metric.reset()
            return {"ms_ssim": value}

        how = {"resolution": self.resolution, "resize": self.resize}
        self.real = self.cache.numbers({"metric": "ms_ssim", "count": count, **how, **reals.identity}, measure)[
            "ms_ssim"
        ]
        self.real_is = "the real images' own" + (f", {count // 2:,} pairs" if count < self.count else "")

    def begin(self, generated: ImageSet) -> None:
        self.metric.reset()

    def add(self, first: int, images: Tensor) -> None:
        images = resized(images.to(self.device), self.resolution, self.resize)
        self.height = images.shape[2]
        self.metric.update(images[0::2], images[1::2])

    def rows(self) -> list[Row]:
        resize = f", resized ({self.resize})" if self.resolution is not None else ""
        protocol = f"{self.count // 2:,} pairs at {self.height}²{resize}, as in the official PGGAN code"
        value = float(self.metric.compute())
        return [Row(self.name, value, self.count, protocol, reference=self.real, reference_is=self.real_is)]
