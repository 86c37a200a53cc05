"""Multi-scale structural similarity of pairs of images (Wang et al. 2003), exactly as Karras et al. 2018 compute it.

Among generated images it measures variation: a high mean similarity of random pairs tells that a generator makes the
same picture again and again; a low one says nothing about quality. Implementations differ, and their numbers are not
comparable. This one keeps within the image (no padding), shrinks its window with small images, takes the mean of each
scale's map over all pixels and channels of a pair before the scales are multiplied, and averages over 2×2 boxes between
scales. Real images' similarity depends on their crop (0.1 to 0.3 for faces), so print it beside the model's.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from imago.errors import UserError
from imago.metrics.checks import check_images

# Of the scales, finest first: Wang et al. 2003, section 3.2.
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = 11
_SIGMA = 1.5
_LUMINANCE = (0.01 * 255) ** 2  # C1 and C2 of Wang et al. 2004
_CONTRAST = (0.03 * 255) ** 2
_PIECE_PIXELS = {"cpu": 1 << 19, "cuda": 1 << 24}  # of the pairs that are dealt with at once


def pairs(images: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours as pairs: the first with the second, the third with the fourth.

    This is how the official code pairs the images of a batch; images must be in random order.

    Args:
        images: ``(N, ...)`` with N even.

    Returns:
        ``(N / 2, ...)`` twice, views.

    Raises:
        UserError: N is odd.
    """
    if len(images) % 2:
        raise UserError(f"{len(images)} images do not make pairs; take an even number")
    return images[0::2], images[1::2]


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """MS-SSIM of each pair; not differentiable, as images are bytes.

    Args:
        a: uint8 ``(N, C, H, W)``, C = 1 or 3, of any size: where a scale is smaller than the 11×11 window, the window
            and its σ of 1.5 pixels shrink to it.
        b: As many, of the same shape.

    Returns:
        float64 ``(N,)`` in [0, 1]; 1 for equal images.

    Raises:
        UserError: The images are not alike.
    """
    for images in (a, b):
        check_images(images)
    if a.shape != b.shape:
        shapes = ["×".join(map(str, images.shape)) for images in (a, b)]
        raise UserError(f"pairs need as many images of one shape, not {shapes[0]} and {shapes[1]}")
    piece = max(1, _PIECE_PIXELS.get(a.device.type, 1 << 24) // a[0].numel())
    return torch.cat([_ms_ssim(x.float(), y.float()) for x, y in zip(a.split(piece), b.split(piece), strict=True)])


class MultiScaleSsim(Metric):
    """Mean :func:`ms_ssim` of pairs that come in batches, in one process or several.

    Args:
        kwargs: For :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False  # among generated images; see above
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, a: Tensor, b: Tensor) -> None:
        """Adds pairs; see :func:`ms_ssim`, and :func:`pairs` for where they come from."""
        values = ms_ssim(a, b)
        self.total += values.sum().to(self.total.device)
        self.count += len(values)

    def compute(self) -> Tensor:
        """The mean over pairs, float64 ``()``.

        Raises:
            UserError: There are no pairs yet.
        """
        if self.count == 0:
            raise UserError("no images: MS-SSIM needs at least one pair")
        return self.total / self.count


def _ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """float32 ``(N, C, H, W)`` twice → float64 ``(N,)``."""
    # Sum and difference hold the same as the two images, and their blurred squares all that the formulas ask for. Near
    # zero mean, float32 suffices for the difference between mean square and squared mean.
    plus, minus = a + b, a - b
    centre = plus.mean(dim=(2, 3), keepdim=True).round_()  # (N, C, 1, 1); whole, so that nothing is rounded off below
    plus -= centre
    product = torch.ones(len(a), dtype=torch.float64, device=a.device)
    for scale, weight in enumerate(_WEIGHTS):
        last = scale == len(_WEIGHTS) - 1
        product *= _similarity(plus, minus, centre if last else None).clamp(min=0) ** weight
        if not last:
            plus, minus = _halve(plus), _halve(minus)
    return product


def _similarity(plus: Tensor, minus: Tensor, centre: Tensor | None) -> Tensor:
    """Mean SSIM of pairs, from their sums and differences.

    With p = a + b and m = a − b: 4ab = p² − m² and 2(a² + b²) = p² + m², for products of means as for mean products.

    Args:
        plus: p without its centre, ``(N, C, H, W)``.
        minus: m, likewise.
        centre: What was subtracted from p, ``(N, C, 1, 1)``; without it luminance is left out.

    Returns:
        float64 ``(N,)``.
    """
    window = _gaussian_window(min(_WINDOW, *plus.shape[-2:]))
    mean_plus, mean_minus = _blur(plus, window), _blur(minus, window)
    variance_plus = _blur(plus.square(), window).addcmul_(mean_plus, mean_plus, value=-1)
    variance_minus = _blur(minus.square(), window).addcmul_(mean_minus, mean_minus, value=-1)
    covariance2 = (variance_plus - variance_minus).mul_(1 / 2).add_(_CONTRAST)  # 2 σ_ab + C2
    variances = variance_plus.add_(variance_minus).mul_(1 / 2).add_(_CONTRAST)  # σ_a² + σ_b² + C2
    similarity = covariance2.div_(variances)
    if centre is not None:
        squared_plus, squared_minus = mean_plus.add_(centre).square_(), mean_minus.square_()
        similarity.mul_((squared_plus - squared_minus).mul_(1 / 2).add_(_LUMINANCE))
        similarity.div_((squared_plus + squared_minus).mul_(1 / 2).add_(_LUMINANCE))
    return similarity.mean(dim=(1, 2, 3), dtype=torch.float64)


def _gaussian_window(size: int) -> list[float]:
    """One axis of the window: σ = 1.5 at 11 pixels, in proportion below; its sum is 1."""
    sigma = _SIGMA * size / _WINDOW
    window = [math.exp(-((i - (size - 1) / 2) ** 2) / (2 * sigma**2)) for i in range(size)]
    return [weight / sum(window) for weight in window]


def _blur(images: Tensor, window: list[float]) -> Tensor:
    """Only where the window lies within: ``(..., H, W)`` → ``(..., W − size + 1, H − size + 1)``, transposed.

    The result goes into means over both axes, so turning it back would be in vain.
    """
    return _blur_rows(_blur_rows(images, window).transpose(-1, -2).contiguous(), window)


def _blur_rows(x: Tensor, window: list[float]) -> Tensor:
    size, rows = len(window), x.shape[-2] - len(window) + 1
    taps = [x[..., i : i + rows, :] for i in range(size)]
    result = taps[size // 2] * (window[size // 2] if size % 2 else 0.0)
    for i in range(size // 2):  # the window is symmetric
        result.add_(taps[i] + taps[-1 - i], alpha=window[i])
    return result


def _halve(x: Tensor) -> Tensor:
    """Means of 2×2 boxes; a last odd row or column is repeated."""
    if x.shape[-2] % 2:
        x = torch.cat([x, x[..., -1:, :]], dim=-2)
    if x.shape[-1] % 2:
        x = torch.cat([x, x[..., -1:]], dim=-1)
    rows = x[..., 0::2, :] + x[..., 1::2, :]
    return (rows[..., 0::2] + rows[..., 1::2]).mul_(1 / 4)
