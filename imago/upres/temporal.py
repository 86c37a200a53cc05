"""Films up-resolved frame by frame, made stable.

What a network adds to a low-resolution frame changes with every shift by a fraction of a pixel: fine detail flickers.
The remedies, from cheap to costly: a fixed tile grid (whoever up-resolves the frames sees to that), one variant for
the whole film, landmarks smoothed over time; "upresing every nth frame and interpolating" (Tyka 2017), see
:mod:`imago.upres.between_frames`; and here, the frame before carried along the optical flow of the low-resolution
frames and mixed in where the two agree (as Lai et al. 2018, "Learning Blind Video Temporal Consistency", train a
network to do; recursive filters along the motion are older). Films stream through: two high-resolution frames and the
one in the making are held, whatever the length.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from imago.errors import UserError
from imago.upres.between_frames import every_kth
from imago.upres.film_blending import Recursion
from imago.upres.film_landmarks import smooth_landmarks
from imago.upres.film_options import FilmOptions

_WARM_UP_LEFT = 0.05  # of what a closed film's frames owe to how its warm-up began


class UpresFrame(Protocol):
    """Up-resolves a frame.

    Args:
        low: ``(3, h, w)`` in [-1, 1].
        landmarks: float64 ``(68, 2)`` in low pixels, or None where there is no face.
        variant: The choice to show it by, as an earlier call returned it; None: choose.

    Returns:
        ``(3, f · h, f · w)``, about [-1, 1], and the choice that it shows.
    """

    def __call__(self, low: Tensor, landmarks: NDArray[np.float64] | None, variant: Any) -> tuple[Tensor, Any]: ...


def stabilise(
    lows: Iterable[Tensor],
    upres_frame: UpresFrame,
    options: FilmOptions | None = None,
    landmarks: NDArray[np.floating] | None = None,
    loop: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Up-resolves a film.

    Args:
        lows: Low-resolution frames ``(3, h, w)`` in [-1, 1], of one extent; a sequence if `loop`.
        upres_frame: Up-resolves one of them.
        options: How the film is made stable.
        landmarks: Of all frames, as they were found: ``(T, 68, 2)`` in low pixels, NaN where there is no face.
        loop: The film is closed: its first frame follows its last. Some frames (29 by default) are up-resolved twice,
            so that the first agrees with the last.

    Yields:
        Each low frame with its high one, float32 ``(3, f · h, f · w)``; not cut to [-1, 1]. The next frame is made of
        the one before: do not change it in place.

    Raises:
        UserError: Frames of different extents, more frames than landmarks, or a loop that is not a sequence.
        MissingDependencyError: Without OpenCV, in any mode but "frame_by_frame".
    """
    options = FilmOptions() if options is None else options
    if loop and not isinstance(lows, Sequence):
        raise UserError("a closed film must be given as a sequence of frames")
    tracks = None
    if landmarks is not None:
        tracks = smooth_landmarks(landmarks, options.landmark_sigma, loop, options.landmark_hold)
    upres = _FrameByNumber(upres_frame, tracks, options.one_variant)
    if options.mode == "frame_by_frame":
        return ((low, upres(number, low)) for number, low in enumerate(lows))
    if options.mode == "every_kth":
        return every_kth(lows, upres, options, loop)
    return _blended(lows, upres, options, loop)


class _FrameByNumber:
    """Up-resolves frame number n, with its landmarks and the variant of the film."""

    def __init__(self, upres_frame: UpresFrame, tracks: NDArray[np.float64] | None, one_variant: bool) -> None:
        self.upres_frame, self.tracks, self.one_variant = upres_frame, tracks, one_variant
        self.variant: Any = None

    def __call__(self, number: int, low: Tensor) -> Tensor:
        landmarks = None
        if self.tracks is not None:
            if number >= len(self.tracks):
                raise UserError(f"the film has more frames than landmarks ({len(self.tracks)})")
            landmarks = self.tracks[number] if np.isfinite(self.tracks[number]).all() else None
        high, chosen = self.upres_frame(low, landmarks, self.variant)
        factor = high.shape[-1] // low.shape[-1]
        assert high.shape == (3, factor * low.shape[1], factor * low.shape[2]), "a frame was not enlarged evenly"
        if self.one_variant:
            self.variant = chosen
        return high.float()


def _blended(
    lows: Iterable[Tensor], upres: _FrameByNumber, options: FilmOptions, loop: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    numbered: Iterable[tuple[int, Tensor]] = enumerate(lows)
    warm_up = 0
    if loop:
        assert isinstance(lows, Sequence)
        warm_up = min(warm_up_frames(options.strength), max(len(lows) - 1, 0))
        start = len(lows) - warm_up
        numbered = itertools.chain(((number, lows[number]) for number in range(start, len(lows))), numbered)
    recursion = Recursion(options)
    for step, (number, low) in enumerate(numbered):
        high = recursion.add(low, upres(number, low))
        if step >= warm_up:
            yield low, high


def warm_up_frames(strength: float) -> int:
    """Frames after which a recursive blend has forgotten how it began, all but a twentieth."""
    return math.ceil(math.log(_WARM_UP_LEFT) / math.log(strength)) if strength > 0 else 0
