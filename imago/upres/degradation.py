"""Makes clean low-resolution pictures look like what an up-resolution network is given later.

Trained on faces that were merely shrunk, a network takes the artifacts of a first-stage GAN, or of JPEG, for detail and
enlarges them. So its inputs get, each in a random amount: blur and lost detail (what small generators leave out),
fine noise, blotches, the checkerboards of transposed convolutions, and JPEG's blocks.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from imago.errors import UserError
from imago.noise import normal_tensors
from imago.randomness import uniform

_DRAWS = 12  # uniform numbers for each picture
_BLOTCH = 8  # pixels from one blotch to the next
_JPEG_BLOCK = 16  # with chroma subsampling


@dataclass(frozen=True)
class Degradation:
    """How much of each there is at most; every amount is drawn evenly between none and that.

    Attributes:
        strength: Factor of all of them; 0: none.
        blur: Standard deviation of a Gaussian blur, in pixels.
        shrink: Share of the extent that some pictures are shrunk to and enlarged from again; in (0, 1].
        shrink_share: Of the pictures.
        noise: Standard deviation of independent noise, of the range of values from black to white.
        blotches: The same for noise that is smooth over 8 pixels.
        checkerboard: Amplitude of patterns with a period of two pixels, likewise.
        jpeg_quality: Lowest quality of JPEG, 1 to 100; the highest is 98.
        jpeg_share: Of the pictures that are compressed.

    Raises:
        UserError: A value out of range.
    """

    strength: float = 1.0
    blur: float = 0.8
    shrink: float = 0.5
    shrink_share: float = 0.3
    noise: float = 0.01
    blotches: float = 0.01
    checkerboard: float = 0.01
    jpeg_quality: float = 50.0
    jpeg_share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("strength", "blur", "noise", "blotches", "checkerboard"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"data.degradation.{name} must not be negative, not {getattr(self, name)}")
        if not (0 <= self.shrink_share <= 1 and 0 <= self.jpeg_share <= 1 and 0 < self.shrink <= 1):
            raise UserError("data.degradation: shares lie in [0, 1], shrink in (0, 1]")
        if not 1 <= self.jpeg_quality <= 98:
            raise UserError(f"data.degradation.jpeg_quality must lie in [1, 98], not {self.jpeg_quality}")


def degrade(pictures: Tensor, degradation: Degradation, seed: int, first: int) -> Tensor:
    """Degrades pictures; what happens to one depends on its position alone.

    Args:
        pictures: float32 ``(N, 3, H, W)`` in [-1, 1].
        degradation: How much.
        seed: Keys the draws.
        first: Global position of the first picture.

    Returns:
        ``(N, 3, H, W)`` in [-1, 1].
    """
    if degradation.strength == 0:
        return pictures
    draws = torch.from_numpy(uniform(seed, "degradation", first, len(pictures), _DRAWS)).float()  # (N, 12)
    x = _lose_detail(pictures, degradation, draws[:, :2])
    x = _blur(x, draws[:, 2], degradation.strength * degradation.blur)
    count, channels, height, width = x.shape
    amounts = degradation.strength * draws[:, 3:6, None, None, None] * 2  # values reach from -1 to 1
    fine = normal_tensors(seed, "degradation/noise", first, count, (channels, height, width))
    coarse = (-(-height // _BLOTCH) + 1, -(-width // _BLOTCH) + 1)
    blotches = normal_tensors(seed, "degradation/blotches", first, count, (channels, *coarse))
    blotches = F.interpolate(blotches, size=(height, width), mode="bicubic", align_corners=True)
    x = x + degradation.noise * amounts[:, 0] * fine + degradation.blotches * amounts[:, 1] * blotches
    x = x + degradation.checkerboard * amounts[:, 2] * _checkerboard(height, width, draws[:, 6:9].to(x.dtype))
    return _compress(x.clamp(-1, 1), degradation, draws[:, 9:11])


def _lose_detail(x: Tensor, degradation: Degradation, draws: Tensor) -> Tensor:
    """Shrinks some pictures and enlarges them again."""
    height, width = x.shape[2:]
    result = []
    for picture, (chance, amount) in zip(x, draws.tolist(), strict=True):
        share = 1 - min(1.0, degradation.strength) * (1 - degradation.shrink) * amount
        extent = (max(1, round(share * height)), max(1, round(share * width)))
        if chance >= degradation.shrink_share or extent == (height, width):
            result.append(picture)
            continue
        small = F.interpolate(picture[None], size=extent, mode="bilinear", align_corners=False, antialias=True)
        result.append(F.interpolate(small, size=(height, width), mode="bicubic", align_corners=False)[0].clamp(-1, 1))
    return torch.stack(result)


def _blur(x: Tensor, share: Tensor, most: float) -> Tensor:
    """Gaussian blur with standard deviations of so large a share (N,) of the largest one, in pixels."""
    from kornia.filters import gaussian_blur2d

    radius = int(3 * most + 0.5)  # of the largest for all of them: none is to depend on the others
    radius = min(radius, *(extent - 1 for extent in x.shape[2:]))  # as far as a border can be reflected
    if radius == 0:
        return x
    sides = (most * share).clamp(min=1e-3)[:, None].expand(-1, 2).contiguous()
    return gaussian_blur2d(x, (2 * radius + 1, 2 * radius + 1), sides, border_type="reflect")


def _checkerboard(height: int, width: int, weights: Tensor) -> Tensor:
    """Patterns that change their sign from pixel to pixel: along rows, columns, both; weights (N, 3) in [0, 1)."""
    odd_rows = torch.arange(height, dtype=weights.dtype) % 2  # the default dtype is double while a run in double trains
    odd_columns = torch.arange(width, dtype=weights.dtype) % 2
    rows = (1 - 2 * odd_rows)[:, None].expand(height, width)
    columns = (1 - 2 * odd_columns)[None, :].expand(height, width)
    patterns = torch.stack([rows, columns, rows * columns])  # (3, H, W)
    return torch.einsum("np,phw->nhw", 2 * weights - 1, patterns)[:, None]


def _compress(x: Tensor, degradation: Degradation, draws: Tensor) -> Tensor:
    """JPEG of some pictures; draws (N, 2)."""
    from kornia.enhance import jpeg_codec_differentiable

    chosen = torch.nonzero(draws[:, 0] < degradation.jpeg_share * min(1.0, degradation.strength))[:, 0]
    if len(chosen) == 0:
        return x
    height, width = x.shape[2:]
    pad = (0, -width % _JPEG_BLOCK, 0, -height % _JPEG_BLOCK)
    quality = 98 - (98 - degradation.jpeg_quality) * draws[chosen, 1]
    result = x.clone()
    for i, amount in zip(chosen.tolist(), quality.split(1), strict=True):
        # Each by itself: in a batch its products are summed in an order that depends on how many there are, and a
        # coefficient is rounded the other way.
        padded = F.pad(x[i : i + 1] / 2 + 0.5, pad, mode="replicate")
        compressed = jpeg_codec_differentiable(padded, amount)[0, :, :height, :width]
        result[i] = (compressed * 2 - 1).clamp(-1, 1)
    return result
