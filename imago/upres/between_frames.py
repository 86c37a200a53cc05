"""Every k-th frame of a film up-resolved, those between made of their two neighbours along the optical flow.

"Upresing every nth frame and interpolating" is the remedy for flicker that Tyka 2017 proposes. It also costs a k-th of
the network's time. Its price: between two key frames one rendering of the detail fades into the other.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from imago.upres.film_blending import trust
from imago.upres.film_options import FilmOptions
from imago.upres.flow import enlarge_rows, match_frames, strips, warp

UpresNumbered = Callable[[int, Tensor], Tensor]
"""Up-resolves a frame, given its number in the film."""


@dataclass(frozen=True)
class KeyFrame:
    """A frame that was up-resolved.

    Attributes:
        number: In the film.
        low: ``(3, h, w)``.
        high: ``(3, f · h, f · w)``.
    """

    number: int
    low: Tensor
    high: Tensor


def every_kth(
    lows: Iterable[Tensor], upres: UpresNumbered, options: FilmOptions, loop: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Up-resolves frames 0, k, 2k, … (and the last of an open film) and interpolates the others.

    A frame that resembles neither neighbour, after a cut and before another, is up-resolved as well. Two high frames
    are held (in a loop, the first as well), and k low ones.

    Args:
        lows: ``(3, h, w)`` each, in [-1, 1].
        upres: Up-resolves one of them.
        options: With k and the tolerances.
        loop: The film is closed: its end is interpolated towards its first frame.

    Yields:
        Each low frame with its high one, in order.
    """
    key: KeyFrame | None = None
    first: KeyFrame | None = None
    waiting: list[Tensor] = []  # since the key frame
    for number, low in enumerate(lows):
        waiting.append(low)
        if key is None or len(waiting) == options.k:
            following = KeyFrame(number, low, upres(number, low))
            yield from _fill(key, waiting[:-1], following, upres, options)
            yield low, following.high
            key, waiting = following, []
            first = key if loop and first is None else first
    if key is None or not waiting:
        return
    end = key.number + len(waiting)
    if first is not None:
        yield from _fill(key, waiting, KeyFrame(end + 1, first.low, first.high), upres, options)
    else:
        following = KeyFrame(end, waiting[-1], upres(end, waiting[-1]))
        yield from _fill(key, waiting[:-1], following, upres, options)
        yield following.low, following.high


def _fill(
    before: KeyFrame | None, lows: list[Tensor], after: KeyFrame, upres: UpresNumbered, options: FilmOptions
) -> Iterator[tuple[Tensor, Tensor]]:
    """The frames between two key frames."""
    for step, low in enumerate(lows, start=1):
        assert before is not None
        high = between(before, after, low, step / (after.number - before.number), options)
        yield low, upres(before.number + step, low) if high is None else high


def between(before: KeyFrame, after: KeyFrame, low: Tensor, position: float, options: FilmOptions) -> Tensor | None:
    """A frame made of the up-resolved frames on both sides of it.

    Each is carried along its flow and weighs as much as it is near in time and trusted. What the low frame shows and
    the low key frames, carried and weighted alike, do not, is added, enlarged: changes of light; and where neither is
    trusted, the enlarged low frame itself.

    Args:
        before: The key frame before.
        after: The key frame after.
        low: The frame, ``(3, h, w)``.
        position: Where it lies between the two, in time, in (0, 1).
        options: With the tolerances.

    Returns:
        ``(3, f · h, f · w)``; None if it resembles neither.
    """
    matches = [match_frames(low, key.low) for key in (before, after)]
    trusts = [trust(match, options) for match in matches]
    # On the far side of a cut, what seems to match does so by chance.
    trusts = [each * bool(each.mean() >= options.cut) for each in trusts]
    if not any(bool(each.any()) for each in trusts):
        return None
    weights = [trusts[0] * (1 - position), trusts[1] * position]
    known = 1 - (1 - trusts[0]) * (1 - trusts[1])
    shares = [(known * weight / (weights[0] + weights[1]).clamp_min(1e-12))[None] for weight in weights]  # (1, h, w)

    height, width = before.high.shape[1:]
    factor = height // low.shape[1]
    unexplained = low.clone()
    result = torch.zeros_like(before.high)
    for key, match, share in zip((before, after), matches, shares, strict=True):
        unexplained -= share * warp(key.low, match.flow)
        carried = warp(key.high, match.flow)
        on_device = share.to(carried.device)
        for top, bottom in strips(height, width):
            result[:, top:bottom] += carried[:, top:bottom] * enlarge_rows(on_device, factor, top, bottom)
    unexplained = unexplained.to(result.device)
    for top, bottom in strips(height, width):
        result[:, top:bottom] += enlarge_rows(unexplained, factor, top, bottom, "bicubic")
    return result
