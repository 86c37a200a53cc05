"""Kernel distance between two sets of features: KID, where they are Inception's (Bińkowski et al. 2018)."""

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imago.errors import UserError
from imago.metrics.checks import Features, check_features, check_same_width
from imago.metrics.feature_sets import FeatureSetsMetric
from imago.randomness import permutation

logger = logging.getLogger(__name__)


def kernel_distance(
    real: Features,
    fake: Features,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
    by_content: bool = True,
) -> tuple[float, float]:
    """Squared maximum mean discrepancy with the kernel ``(xᵀy / D + 1)³``, over random subsets.

    The unbiased estimate of Bińkowski et al. 2018, section 4: 0 is expected where both sets come from one distribution,
    at any number of images, and single values may be negative.

    Args:
        real: Floating point ``(N, D)`` with N ≥ 2.
        fake: Floating point ``(M, D)`` with M ≥ 2.
        subsets: How many pairs of subsets.
        subset_size: Images in each; reduced, with a warning, to the smaller set where that is smaller. Within a subset
            no image comes twice.
        seed: Of the subsets.
        by_content: Draw the subsets from the images in an order of their own features, so that the number does not
            depend on the order in which they came (but on the last bit of a feature). Without it, from the images as
            they are ordered, which is the better choice where that order is always the same.

    Returns:
        Mean over the subsets, lower is better, and standard deviation (of the values, not of their mean).

    Raises:
        UserError: Features that cannot be compared, too few images, or no subsets.
    """
    real, fake = check_features(real, "real features"), check_features(fake, "generated features")
    check_same_width(real, fake)
    if subsets < 1 or subset_size < 2:
        raise UserError(f"{subsets=}, {subset_size=}: need at least one subset of two images")
    smaller = min(len(real), len(fake))
    if smaller < 2:
        raise UserError("a kernel distance needs at least two real and two generated images")
    if subset_size > smaller:
        logger.warning(
            f"kernel distance: subsets of {smaller} images instead of {subset_size}, as there are {len(real)} real and "
            f"{len(fake)} generated ones"
        )
        subset_size = smaller
    if subset_size == len(real) == len(fake):
        subsets = 1  # each would hold everything
    sides = []
    for features in (real, fake):
        features = features.detach()
        if by_content:
            features = features[torch.from_numpy(order_by_content(features)).to(features.device)]
        sides.append(features.double())
    values = []
    for i in range(subsets):
        x, y = (
            side[torch.from_numpy(permutation(seed, f"kernel distance/{name}", i, len(side))[:subset_size])]
            for side, name in zip(sides, ("real", "fake"), strict=True)
        )
        values.append(_discrepancy(x, y))
    return float(np.mean(values)), float(np.std(values))


def order_by_content(rows: Tensor) -> NDArray[np.int64]:
    """An order of rows ``(N, D)`` that depends on what is in them alone, not on where they stand: ``(N,)`` indices."""
    array = (
        rows.to("cpu", torch.promote_types(rows.dtype, torch.float32)).contiguous().numpy() + 0
    )  # there is a -0, too
    return np.argsort(array.view(np.dtype((np.void, array[0].nbytes))).ravel(), kind="stable").astype(np.int64)


class KernelDistance(FeatureSetsMetric):
    """:func:`kernel_distance` of features that come in batches, and on several processes.

    Args:
        subsets: See there.
        subset_size: See there.
        seed: See there.
        reset_real: Whether :meth:`reset` forgets the real features, too. False: several checkpoints are compared with
            one real set.
    """

    higher_is_better = False

    def __init__(self, subsets: int = 100, subset_size: int = 1000, seed: int = 0, reset_real: bool = True) -> None:
        super().__init__(reset_real)
        self.subsets, self.subset_size, self.seed = subsets, subset_size, seed

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, float64 ``()`` each."""
        real, fake = self.sets("a kernel distance needs at least two real and two generated images")
        values = kernel_distance(real, fake, self.subsets, self.subset_size, self.seed)
        mean, deviation = torch.tensor(values, dtype=torch.float64, device=real.device)
        return mean, deviation


def _discrepancy(x: Tensor, y: Tensor) -> float:
    """Unbiased MMD² of two subsets, float64 ``(m, D)`` each."""
    count = len(x)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    within = torch.zeros((), dtype=x.dtype, device=x.device)
    for side in (x, y):
        values = kernel(side, side)
        within = within + (values.sum() - values.diagonal().sum()) / (count * (count - 1))
    return float(within - 2 * kernel(x, y).mean())
