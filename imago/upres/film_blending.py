"""One frame of a film mixed into another, as far as the two agree."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

from imago.upres.film_options import FilmOptions
from imago.upres.flow import Match, enlarge_rows, match_frames, strips, warp


class Recursion:
    """Each frame mixed with the one before, as that one was with its own.

    What the mixed frames hold of the past is not seen in two successive low frames: light that changes slowly, or
    a mouth that opens over ten frames, differs little from one to the next. So a low-resolution film is mixed
    alongside, in the same shares; where it departs from the low frame, the high one is as much out of date, and the
    past loses its share.

    Args:
        options: How.
    """

    def __init__(self, options: FilmOptions) -> None:
        self.options = options
        self.low: Tensor | None = None  # the last low frame
        self.mixed_low: Tensor | None = None
        self.mixed: Tensor | None = None

    def add(self, low: Tensor, high: Tensor) -> Tensor:
        """Mixes the next frame.

        Args:
            low: ``(3, h, w)``.
            high: The same, up-resolved, ``(3, f · h, f · w)``; not changed.

        Returns:
            The extent of `high`; kept for the next frame, so it must not change.
        """
        mixed_low = low
        if self.low is not None and self.mixed_low is not None and self.mixed is not None and self.options.strength > 0:
            match = match_frames(low, self.low)
            carried = warp(self.mixed_low, match.flow)
            trusted = trust(match, self.options, (low - carried).abs().mean(dim=0))
            if trusted.mean() >= self.options.cut:
                share = trusted * share_of_motion(match, self.options)
                high = blend(high, self.mixed, match, share, self.options.mode == "high_frequencies")
                mixed_low = low + share * (carried - low)
        self.low, self.mixed_low, self.mixed = low, mixed_low, high
        return high


def share_of_motion(match: Match, options: FilmOptions) -> Tensor:
    """The share of the frame before where it is trusted: ``(h, w)``."""
    return options.strength / (1 + match.flow.norm(dim=0) / options.motion)


def trust(match: Match, options: FilmOptions, difference: Tensor | None = None) -> Tensor:
    """How far the other frame may stand in for this one: ``(h, w)`` in [0, 1].

    Args:
        match: Between two low-resolution frames.
        options: With the tolerances.
        difference: Of colours, ``(h, w)``; by default that of the match.
    """
    closing = match.closing_error / options.flow_tolerance
    difference = (match.difference if difference is None else difference) / options.colour_tolerance
    return torch.exp(-0.5 * (closing.square() + difference.square())) * match.visible


def blend(current: Tensor, previous: Tensor, match: Match, share: Tensor, high_frequencies: bool) -> Tensor:
    """Mixes the frame before, carried along the flow, into a frame: ``share · warp(previous) + (1 - share) · current``.

    With `high_frequencies`, of the difference between the two only what the low-resolution frame cannot show is mixed
    in: it loses its means over low pixels, smoothed (binomially, σ = 1 low pixel) and enlarged.

    Args:
        current: ``(3, f · h, f · w)``.
        previous: The same extent.
        match: From the current low frame to the one before.
        share: ``(h, w)`` in [0, 1].
        high_frequencies: See above.

    Returns:
        The extent of `current`.
    """
    height, width = current.shape[1:]
    factor = height // share.shape[0]
    share = share[None].to(current.device)
    mixed = warp(previous, match.flow)
    mixed -= current
    coarse = smooth(avg_pool2d(mixed[None], factor)[0]) if high_frequencies else None  # (3, h, w)
    for top, bottom in strips(height, width):
        rows = mixed[:, top:bottom]
        if coarse is not None:
            rows -= enlarge_rows(coarse, factor, top, bottom)
        rows *= enlarge_rows(share, factor, top, bottom)
        rows += current[:, top:bottom]
    return mixed


def smooth(small: Tensor) -> Tensor:
    """Binomial smoothing, σ = 1 pixel, the outermost pixels repeated: ``(C, h, w)``."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=small.device) / 16
    channels = small.shape[0]
    padded = pad(small[None], (2, 2, 2, 2), mode="replicate")
    across = conv2d(padded, kernel.expand(channels, 1, 1, 5), groups=channels)
    return conv2d(across, kernel[:, None].expand(channels, 1, 5, 1), groups=channels)[0]
