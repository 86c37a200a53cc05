"""How stable a film is: the warping error of Lai et al. 2018, measured as the film streams by."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from imago.upres.film_blending import trust
from imago.upres.film_options import FilmOptions
from imago.upres.flow import FlowEstimator, Match, dis_flow, enlarge_rows, match_frames, strips, warp


@dataclass(frozen=True)
class FilmReport:
    """What was measured. Colours count from 0 to 1, as in Lai et al. 2018.

    Attributes:
        frames: In the film.
        pairs: Of successive frames that were compared; those across a cut are not.
        warping_error: Mean squared error between a frame and the one before it carried along the flow, over the pixels
            that both show, over all pairs (Lai et al. 2018, section on evaluation metrics).
        absolute_warping_error: The same with the absolute error, which depends less on a few edges.
        detail_warping_error: The part of `warping_error` that is finer than low pixels: what the up-resolution added,
            and made flicker.
        floor: The warping error of the low-resolution film enlarged by Lanczos: what a film leaves to which nothing was
            added, as it changes in ways that no motion explains. In a film that morphs, that is most of it.
        absolute_floor: The same with the absolute error.
        detail: Mean square of what the frames show beyond their enlarged low-pass: blur also lowers the warping error,
            and shows here.
    """

    frames: int
    pairs: int
    warping_error: float
    absolute_warping_error: float
    detail_warping_error: float
    floor: float
    absolute_floor: float
    detail: float

    @property
    def relative(self) -> float:
        """The warping error in units of the floor."""
        return self.warping_error / self.floor if self.floor > 0 else math.nan


class WarpingError(NamedTuple):
    """Means over the colours of all pixels that two frames show, colours from 0 to 1.

    Attributes:
        squared: Error.
        absolute: Error.
        detail: Squared error, less that of the means over low pixels.
    """

    squared: float
    absolute: float
    detail: float


class FilmMeter:
    """Measures a film, frame by frame; holds the last frame (of a closed film, also the first).

    Args:
        loop: The film is closed: its last frame is compared to its first as well.
        estimator: Finds the flow, on the low-resolution frames; another one than the film was made with is the
            stricter judge.
        options: With what tells a cut.
    """

    def __init__(
        self, loop: bool = False, estimator: FlowEstimator = dis_flow, options: FilmOptions | None = None
    ) -> None:
        self.loop, self.estimator = loop, estimator
        self.options = FilmOptions() if options is None else options
        self.frames = self.pairs = 0
        self.sums = np.zeros(6)  # of the film's errors, and those of its floor
        self.detail = 0.0
        self.first: tuple[Tensor, Tensor] | None = None
        self.last: tuple[Tensor, Tensor] | None = None

    def add(self, low: Tensor, high: Tensor) -> None:
        """Takes the next frame.

        Args:
            low: ``(3, h, w)`` in [-1, 1].
            high: ``(3, f · h, f · w)``; kept until the next comes, so it must not change.

        Raises:
            UserError: An extent that differs from the last frame's.
            MissingDependencyError: Without OpenCV.
        """
        if self.last is not None:
            self._compare((low, high), self.last)
        elif self.loop:
            self.first = (low, high)
        self.last = (low, high)
        self.frames += 1
        self.detail += _detail(high, high.shape[1] // low.shape[1])

    def report(self) -> FilmReport:
        """What was measured so far; of a closed film, once, at its end. NaN where there is nothing to measure."""
        if self.first is not None and self.last is not None and self.frames > 1:
            self._compare(self.first, self.last)
            self.first = None
        errors = (self.sums / self.pairs if self.pairs else np.full(6, np.nan)).tolist()
        film, floor = WarpingError(*errors[:3]), WarpingError(*errors[3:])
        detail = self.detail / self.frames if self.frames else math.nan
        return FilmReport(self.frames, self.pairs, *film, floor.squared, floor.absolute, detail)

    def _compare(self, current: tuple[Tensor, Tensor], before: tuple[Tensor, Tensor]) -> None:
        match = match_frames(current[0], before[0], self.estimator)
        if trust(match, self.options).mean() < self.options.cut:
            return
        factor = current[1].shape[1] // current[0].shape[1]
        enlarged = (enlarge_lanczos(current[0], factor), enlarge_lanczos(before[0], factor))
        self.sums += [*warping_error(current[1], before[1], match), *warping_error(*enlarged, match)]
        self.pairs += 1


def warping_error(current: Tensor, before: Tensor, match: Match) -> WarpingError:
    """The error between a frame and the one before it carried along the flow, where both show the same.

    Args:
        current: ``(3, f · h, f · w)`` in [-1, 1].
        before: The same extent.
        match: From the current low frame to the one before.

    Returns:
        The means; NaN if nothing is visible in both.
    """
    height, width = current.shape[1:]
    factor = height // match.flow.shape[1]
    difference = (warp(before, match.flow) - current) / 2
    visible = match.visible.to(difference.device)
    squared = absolute = 0.0
    for top, bottom in strips(height, width):
        rows = torch.arange(top, bottom, device=visible.device) // factor
        mask = visible[rows].repeat_interleave(factor, dim=1)  # (n, W)
        masked = difference[:, top:bottom] * mask
        squared += float(masked.square().sum(dtype=torch.float64))
        absolute += float(masked.abs().sum(dtype=torch.float64))
    means = avg_pool2d(difference[None], factor)[0] * visible  # (3, h, w)
    of_means = factor**2 * float(means.square().sum(dtype=torch.float64))
    count = factor**2 * len(current) * float(visible.sum())
    if count == 0:
        return WarpingError(math.nan, math.nan, math.nan)
    return WarpingError(squared / count, absolute / count, max(squared - of_means, 0.0) / count)


def enlarge_lanczos(low: Tensor, factor: int) -> Tensor:
    """A picture enlarged by Pillow's Lanczos filter (three lobes), in floating point: ``(C, h, w)`` → larger."""
    size = (factor * low.shape[2], factor * low.shape[1])
    enlarged = np.empty((len(low), size[1], size[0]), dtype=np.float32)
    for plane, result in zip(low.float().cpu().numpy(), enlarged, strict=True):
        result[:] = np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS))
    return torch.from_numpy(enlarged).to(low.device)


def _detail(high: Tensor, factor: int) -> float:
    """Mean square of a picture less its means over low pixels, enlarged; colours from 0 to 1."""
    low = avg_pool2d(high[None], factor)[0]
    total = 0.0
    for top, bottom in strips(*high.shape[1:]):
        beyond = (high[:, top:bottom] - enlarge_rows(low, factor, top, bottom, "bicubic")) / 2
        total += float(beyond.square().sum(dtype=torch.float64))
    return total / high.numel()
