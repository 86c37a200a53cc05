"""Discrete modes (Metz et al. 2016; Karras et al. 2018, appendix E): how many of MNIST-RGB's 1,000 numbers are made.

A generator makes digits in three colour channels at once; a classifier reads them, and the three digits form a number
from 0 to 999. Counted are the numbers that occur at least once, and how unevenly they occur: KL(histogram ‖ uniform),
"arguably a more accurate metric than the raw count". Both depend on how many images are counted, so the values of a
perfect generator at that many (:func:`perfect_modes_and_divergence`) belong beside them.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torchmetrics import Metric

from imago.errors import UserError
from imago.metrics.digit_classifier import DigitClassifier

MODES = 1000
IMAGES = 25_600  # that the papers count


def modes_and_divergence(numbers: ArrayLike | Tensor, modes: int = MODES) -> tuple[int, float]:
    """Covered modes, and the divergence of their histogram from the uniform one.

    Args:
        numbers: Integers ``(N,)`` in [0, modes): which mode each image belongs to.
        modes: How many there are.

    Returns:
        How many occur; and KL(histogram ‖ uniform) = Σ p log(p · modes) in nats, from 0 (all as often) to log(modes)
        (always the same).

    Raises:
        UserError: No number, or one outside the range.
    """
    return _of_histogram(_histogram(torch.as_tensor(numbers), modes))


def perfect_modes_and_divergence(images: int = IMAGES, modes: int = MODES) -> tuple[float, float]:
    """What a perfectly uniform generator is expected to score with so many images.

    The count of each mode is Binomial(N, 1/K). So the expected number of covered modes is K (1 - (1 - 1/K)^N), and the
    expected divergence, by the linearity of its sum, is log K - log N + K/N · E[X log X]; about (K - 1) / 2N where
    N is several times K: 0.020 nats for 25,600 images of 1,000 modes.

    Args:
        images: N, at least 1.
        modes: K, at least 1.

    Returns:
        Expected covered modes, and expected divergence in nats.

    Raises:
        UserError: Fewer than one image or mode.
    """
    if images < 1 or modes < 1:
        raise UserError(f"{images=}, {modes=}: at least one of each is needed")
    if modes == 1:
        return 1.0, 0.0
    covered = -modes * math.expm1(images * math.log1p(-1 / modes))
    counts = np.arange(1, images + 1, dtype=np.float64)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(counts))])  # of 0 … N
    log_choose = log_factorials[-1] - log_factorials[1:] - log_factorials[-2::-1]
    probabilities = np.exp(log_choose - counts * math.log(modes) + (images - counts) * math.log1p(-1 / modes))
    mean_x_log_x = float((probabilities * counts * np.log(counts)).sum())
    return covered, math.log(modes) - math.log(images) + modes / images * mean_x_log_x


def digits_to_numbers(digits: Tensor) -> Tensor:
    """Numbers of several digits, the first channel (red) the most significant.

    Args:
        digits: Integers ``(N, C)`` from 0 to 9.

    Returns:
        int64 ``(N,)`` from 0 to 10^C - 1.
    """
    places = 10 ** torch.arange(digits.shape[1] - 1, -1, -1, device=digits.device)
    return (digits.long() * places).sum(dim=1)


class DiscreteModes(Metric):
    """Counts the modes of generated MNIST-RGB images over batches and processes; see :func:`modes_and_divergence`.

    Args:
        classifier: Reads digits, see :func:`imago.metrics.digit_classifier.digit_classifier`.
        channels: Digits per image; the modes are 10 to this power.
        **kwargs: See :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    histogram: Tensor

    def __init__(self, classifier: DigitClassifier, channels: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._classify = classifier.classify  # a bound method: the network is no part of the metric's state
        self.channels = channels
        self.add_state("histogram", torch.zeros(10**channels, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, images: Tensor) -> None:
        """Counts generated images, uint8 ``(N, C, H, H)``.

        Raises:
            UserError: Other channels, or not images of digits.
        """
        if images.ndim == 4 and images.shape[1] != self.channels:
            raise UserError(f"images of {self.channels} digits have {self.channels} channels, not {images.shape[1]}")
        digits = self._classify(images)
        if len(digits):
            self.histogram += _histogram(digits_to_numbers(digits), len(self.histogram)).to(self.histogram.device)

    def compute(self) -> dict[str, float]:
        """Of all images counted.

        Returns:
            "images"; "modes" and "kl" (nats); "perfect_modes" and "perfect_kl", what a uniform generator is expected
            to score with as many images.

        Raises:
            UserError: None was counted.
        """
        modes, divergence = _of_histogram(self.histogram)
        images = int(self.histogram.sum())
        perfect_modes, perfect_divergence = perfect_modes_and_divergence(images, len(self.histogram))
        return {
            "images": images,
            "modes": modes,
            "kl": divergence,
            "perfect_modes": perfect_modes,
            "perfect_kl": perfect_divergence,
        }


def _histogram(numbers: Tensor, modes: int) -> Tensor:
    if numbers.ndim != 1 or numbers.is_floating_point() or modes < 1:
        raise UserError(f"modes are counted over integers (N,), not {numbers.dtype} of shape {tuple(numbers.shape)}")
    if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < modes:
        raise UserError(
            f"numbers from {int(numbers.min())} to {int(numbers.max())}, but modes go from 0 to {modes - 1}"
        )
    return torch.bincount(numbers.long(), minlength=modes)


def _of_histogram(histogram: Tensor) -> tuple[int, float]:
    total = int(histogram.sum())
    if total == 0:
        raise UserError("no image was counted: the modes of an empty set are not known")
    share = histogram[histogram > 0].double() / total
    return len(share), max(0.0, float((share * (share * len(histogram)).log()).sum()))
