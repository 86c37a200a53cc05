"""Several stages, one after the other: a face of 128² to 768², that to 4096² (Tyka 2017).

Each stage reads what the one before it made, brought to the extent at which its network reads pictures, and the same
landmarks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from imago.errors import UserError
from imago.upres.execution import TilingReport
from imago.upres.options import TilingOptions
from imago.upres.pixels import Sink
from imago.upres.selection import Choice
from imago.upres.stacking import resample, stack_picture
from imago.upres.stages import Stage, upres_stack

PRINT_SIZE = 4096
"""Pixels of a picture that went through several stages."""


@dataclass(frozen=True)
class Step:
    """A stage and the extent at which it reads a picture.

    Attributes:
        stage: The stage.
        low: (height, width) of its stack.
    """

    stage: Stage
    low: tuple[int, int]

    @property
    def high(self) -> tuple[int, int]:
        """(height, width) of what it makes."""
        return self.low[0] * self.stage.factor, self.low[1] * self.stage.factor

    @property
    def seen(self) -> tuple[int, int]:
        """(height, width) to which larger pictures are shrunk before the guide is stacked on them, as in training."""
        ratio = self.stage.face_size / self.stage.low_size
        return max(1, round(self.low[0] * ratio)), max(1, round(self.low[1] * ratio))


@dataclass(frozen=True)
class ChainResult:
    """What came out.

    Attributes:
        pictures: What each step made, ``(3, H, W)``: float32 in [-1, 1], the last one `out` if that was given.
        choices: The variant that each step shows, see :class:`~imago.upres.stages.UpresResult`.
        reports: What happened on the way, in each step.
    """

    pictures: list[Any]
    choices: tuple[Choice, ...]
    reports: list[TilingReport]


def portrait_steps(stages: Sequence[Stage], extent: tuple[int, int], size: int | None = None) -> list[Step]:
    """The steps for a picture framed as those that the stages were trained on.

    All stages but the last read and make what they were trained for.

    Args:
        stages: At least one.
        extent: (height, width) of the picture; only its aspect counts.
        size: Height of the result. None: ``PRINT_SIZE`` of several stages, the trained one of a single stage.

    Raises:
        UserError: A size that the last stage cannot make.
    """
    *before, last = stages
    if size is None:
        size = PRINT_SIZE if before else last.low_size * last.factor
    heights = [*(stage.low_size for stage in before), _low_of(size, last)]
    return [
        Step(stage, (height, max(1, round(height * extent[1] / extent[0]))))
        for stage, height in zip(stages, heights, strict=True)
    ]


def whole_steps(
    stages: Sequence[Stage], extent: tuple[int, int], size: int | None = None, largest: int | None = None
) -> list[Step]:
    """The steps for any picture, of which the face is a part.

    Nothing that the picture shows is given up before it must be: each stage but the last reads it as it is, and is left
    out where the picture is as large already as the last one reads it.

    Args:
        stages: At least one.
        extent: (height, width) of the picture.
        size: Longer side of the result. None: ``PRINT_SIZE`` of several stages; of a single one, the picture's times
            the stage's factor.
        largest: Longest side that a result may have; what would be larger is made smaller.

    Raises:
        UserError: A size that the last stage cannot make.
    """
    *before, last = stages
    longer = max(extent)
    low = longer if size is None and not before else _low_of(PRINT_SIZE if size is None else size, last)
    if largest is not None:
        low = max(1, min(low, largest // last.factor))
    steps = []
    for stage in before:
        if max(extent) < low:
            steps.append(Step(stage, extent))
            extent = steps[-1].high
    height, width = (max(1, round(side * low / max(extent))) for side in extent)
    return [*steps, Step(last, (height, width))]


def run_steps(
    steps: Sequence[Step],
    picture: Tensor,
    faces: Sequence[NDArray[np.floating]] = (),
    options: TilingOptions | None = None,
    out: Sink | None = None,
    choices: Sequence[Choice] | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> ChainResult:
    """Takes a picture through all steps.

    Args:
        steps: At least one.
        picture: float32 ``(3, H, W)`` in [-1, 1].
        faces: Landmarks ``(68, 2)`` of the faces in it, in its pixels.
        options: How each stage goes over its picture.
        out: Where the last step writes, see :func:`~imago.upres.stages.upres_stack`.
        choices: A choice of variants made before, kept.
        progress: progress(step, tiles done, tiles in all).

    Raises:
        UserError: As :func:`~imago.upres.stages.upres_stack`.
    """
    current, pictures, chosen, reports = picture, [], [], []
    known = [np.asarray(face, dtype=np.float64) for face in faces]
    for number, step in enumerate(steps):
        known, current = shrunk_to(step.seen, current, known)
        stack = stack_picture(current, known, step.low, step.stage.guide_style)
        result = upres_stack(
            step.stage,
            stack,
            options,
            out if number == len(steps) - 1 else None,
            None if choices is None else choices[number],
            None if progress is None else partial(progress, number),
        )
        known = scaled_landmarks(known, (current.shape[1], current.shape[2]), step.high)
        current = result.picture
        pictures.append(current)
        chosen.append(result.choice)
        reports.append(result.report)
    return ChainResult(pictures, tuple(chosen), reports)


def shrunk_to(
    extent: tuple[int, int], picture: Tensor, faces: Sequence[NDArray[np.float64]] = ()
) -> tuple[list[NDArray[np.float64]], Tensor]:
    """Shrinks a picture by means over areas, if it is larger: exact means where it is a whole multiple.

    Args:
        extent: (height, width) to shrink to.
        picture: ``(3, H, W)``.
        faces: Landmarks in its pixels.

    Returns:
        The landmarks in the pixels of the result, and that.
    """
    height, width = picture.shape[1:]
    if height <= extent[0] and width <= extent[1]:
        return list(faces), picture
    extent = (min(height, extent[0]), min(width, extent[1]))
    factor = height // extent[0]
    if (factor * extent[0], factor * extent[1]) == (height, width):
        small = F.avg_pool2d(picture, factor)
    else:
        small = resample(picture, extent)
    return scaled_landmarks(faces, (height, width), extent), small


def scaled_landmarks(
    faces: Sequence[NDArray[np.float64]], before: tuple[int, int], after: tuple[int, int]
) -> list[NDArray[np.float64]]:
    """Landmarks in a picture that was brought from one extent (height, width) to another."""
    ratio = np.array([after[1] / before[1], after[0] / before[0]])
    return [(face + 0.5) * ratio - 0.5 for face in faces]


def _low_of(size: int, last: Stage) -> int:
    low, rest = divmod(size, last.factor)
    if rest or low < 1:
        below, above = max(low, 1) * last.factor, (low + 1) * last.factor
        fitting = str(above) if low < 1 else f"{below} or {above}"
        raise UserError(f"size={size}: the last stage enlarges {last.factor} times; choose {fitting}")
    return low
