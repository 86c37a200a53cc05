"""A straight line through a curve of evaluations, as in figure 16 of Curtó et al. 2020."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class AffineFit:
    """y ≈ intercept + slope · x by least squares.

    Attributes:
        slope: Per unit of x.
        intercept: At x = 0.
        slope_error: Standard error of the slope; NaN of fewer than three points.
        intercept_error: The same of the intercept.
    """

    slope: float
    intercept: float
    slope_error: float
    intercept_error: float

    def at(self, x: float) -> float:
        """The line's value."""
        return self.intercept + self.slope * x

    def __str__(self) -> str:
        return f"{self.intercept:.4g} ± {self.intercept_error:.2g} + ({self.slope:.3g} ± {self.slope_error:.2g}) · x"


def affine_fit(x: Sequence[float], y: Sequence[float]) -> AffineFit | None:
    """Fits a line to the points that are finite.

    Args:
        x: Where.
        y: What was measured there.

    Returns:
        The line; None of fewer than two different places.
    """
    points = np.array([(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)])
    if len(points) < 2 or np.ptp(points[:, 0]) == 0:
        return None
    centre = points[:, 0].mean()
    spread = ((points[:, 0] - centre) ** 2).sum()
    slope = ((points[:, 0] - centre) * points[:, 1]).sum() / spread
    intercept = points[:, 1].mean() - slope * centre
    n = len(points)
    residual = ((points[:, 1] - intercept - slope * points[:, 0]) ** 2).sum()
    variance = residual / (n - 2) if n > 2 else math.nan
    return AffineFit(
        float(slope),
        float(intercept),
        math.sqrt(variance / spread),
        math.sqrt(variance * (1 / n + centre**2 / spread)),
    )
