"""Metrics of generated images: pure functions, and beside each a ``torchmetrics.Metric`` that accumulates."""

from imago.metrics.frechet import FrechetDistance, frechet_distance
from imago.metrics.inception_score import InceptionScore, inception_score
from imago.metrics.kernel import KernelDistance, kernel_distance
from imago.metrics.ms_ssim import MultiScaleSsim, ms_ssim
from imago.metrics.precision_recall import PrecisionRecall, precision_recall
from imago.metrics.sliced_wasserstein import SlicedWasserstein, sliced_wasserstein

__all__ = [
    "FrechetDistance",
    "InceptionScore",
    "KernelDistance",
    "MultiScaleSsim",
    "PrecisionRecall",
    "SlicedWasserstein",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "ms_ssim",
    "precision_recall",
    "sliced_wasserstein",
]
