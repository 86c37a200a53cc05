"""A film up-resolved in several settings, and what each is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imago.errors import UserError
from imago.upres.film_options import FilmOptions
from imago.upres.film_report import FilmMeter, FilmReport
from imago.upres.flow import FlowEstimator, dis_flow
from imago.upres.temporal import UpresFrame, stabilise
from imago.upres.temporal_profile import TemporalProfile

# What a film comes to that nothing was done for: landmarks as found, each frame with a variant of its own.
NOTHING_DONE = FilmOptions(mode="frame_by_frame", one_variant=False, landmark_sigma=0.0, landmark_hold=0)

SETTINGS: Mapping[str, FilmOptions] = {
    "nothing done": NOTHING_DONE,
    "frame by frame": FilmOptions(mode="frame_by_frame"),
    "blended": FilmOptions(mode="blended"),
    "high frequencies": FilmOptions(),
    "every 2nd": FilmOptions(mode="every_kth", k=2),
    "every 4th": FilmOptions(mode="every_kth", k=4),
}


@dataclass(frozen=True)
class MeasuredFilm:
    """What came of one setting.

    Attributes:
        options: The setting.
        report: What was measured.
        profile: uint8 ``(3, T · stretch, W)``: the middle row of every frame.
    """

    options: FilmOptions
    report: FilmReport
    profile: Tensor


def compare_settings(
    lows: Sequence[Tensor],
    upres_frame: UpresFrame,
    settings: Mapping[str, FilmOptions] = SETTINGS,
    landmarks: NDArray[np.floating] | None = None,
    loop: bool = False,
    estimator: FlowEstimator = dis_flow,
    position: float = 0.5,
    stretch: int = 4,
) -> dict[str, MeasuredFilm]:
    """Up-resolves a film in each setting and measures it, holding a few frames at a time.

    Args:
        lows: ``(3, h, w)`` each, in [-1, 1].
        upres_frame: Up-resolves one of them.
        settings: By the names that the result has.
        landmarks: Of all frames, ``(T, 68, 2)``, or None.
        loop: The film is closed.
        estimator: Of the flow to measure along; blending always takes its own.
        position: Height of the profile's row, from 0 to 1.
        stretch: Rows of the profile for each frame.

    Returns:
        What came of each.

    Raises:
        UserError: A film of no frame, and as :func:`~imago.upres.temporal.stabilise`.
        MissingDependencyError: Without OpenCV.
    """
    if len(lows) == 0:
        raise UserError("a film without frames cannot be measured")
    measured = {}
    for name, options in settings.items():
        meter, profile = FilmMeter(loop, estimator, options), TemporalProfile("row", position)
        for low, high in stabilise(lows, upres_frame, options, landmarks, loop):
            meter.add(low, high)
            profile.add(high)
        measured[name] = MeasuredFilm(options, meter.report(), profile.picture(stretch))
    return measured


def as_table(measured: Mapping[str, MeasuredFilm]) -> str:
    """The measures as a Markdown table; errors and detail also in units of the first setting's."""
    columns = ("warping error ×10⁴", "of detail ×10⁴", "absolute ×10²", "detail ×10⁴")
    lines = [
        f"| setting | {' | of first | '.join(columns)} | of first | floors |",
        f"|---|{'---:|' * 9}",
    ]
    first = next(iter(measured.values())).report
    for name, film in measured.items():
        report = film.report
        cells = []
        for measure, scale in (
            ("warping_error", 1e4),
            ("detail_warping_error", 1e4),
            ("absolute_warping_error", 1e2),
            ("detail", 1e4),
        ):
            value, reference = getattr(report, measure), getattr(first, measure)
            cells += [f"{scale * value:.3f}", f"{value / reference:.2f}" if reference > 0 else "–"]
        cells.append(f"{report.relative:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def profiles(measured: Mapping[str, MeasuredFilm]) -> Tensor:
    """All profiles, one below the other, with a white line between: uint8 ``(3, H, W)``."""
    pictures = [film.profile for film in measured.values()]
    line = torch.full((3, 4, pictures[0].shape[2]), 255, dtype=torch.uint8)
    parts = [part for picture in pictures for part in (picture, line)]
    return torch.cat(parts[:-1], dim=1)
