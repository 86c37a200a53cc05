"""One frame of a film mixed into another, as far as the two agree."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

from imago.upres.film_options import FilmOptions
from imago.upres.flow import Match, enlarge_rows, strips, warp


def trust(match: Match, options: FilmOptions) -> Tensor:
    """How far the other frame may stand in for this one: ``(h, w)`` in [0, 1].

    Args:
        match: Between two low-resolution frames.
        options: With the tolerances.
    """
    closing = match.closing_error / options.flow_tolerance
    difference = match.difference / options.colour_tolerance
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
