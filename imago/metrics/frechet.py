"""Fréchet distance between two sets of features: FID, where the features are Inception's (Heusel et al. 2017)."""

import functools
import logging

import torch
from torch import Tensor
from torchmetrics import Metric

from imago.errors import UserError
from imago.metrics.checks import Features, check_features, check_same_width

logger = logging.getLogger(__name__)


def frechet_distance(real: Features, fake: Features) -> float:
    """Squared Fréchet distance between two Gaussians of the features' means and covariances.

    ``|μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½)``, Heusel et al. 2017, equation 6. It is biased upwards, more so the fewer
    images there are: compare only numbers of as many images. With no more images than components the covariances are
    singular; the number is then given with a warning.

    Args:
        real: Floating point ``(N, D)`` with N ≥ 2.
        fake: Floating point ``(M, D)`` with M ≥ 2.

    Returns:
        The distance, ≥ 0; lower is better.

    Raises:
        UserError: Features that cannot be compared, or a single image.
    """
    real, fake = check_features(real, "real features"), check_features(fake, "generated features")
    check_same_width(real, fake)
    _warn_if_singular(min(len(real), len(fake)), real.shape[1])
    moments = []
    for features, name in ((real, "real"), (fake, "generated")):
        features = features.detach().double().cpu()
        mean = features.mean(dim=0)
        centred = features - mean
        moments += [mean, centred.T @ centred / _degrees_of_freedom(len(features), name)]
    return frechet_distance_of_moments(*moments)


def frechet_distance_of_moments(mean1: Features, cov1: Features, mean2: Features, cov2: Features) -> float:
    """The same of means and covariances.

    The trace of the matrix root is the sum of the square roots of the eigenvalues of ``Aᵀ Σ₂ A`` with ``A Aᵀ = Σ₁``,
    which are those of ``Σ₁Σ₂`` but belong to a symmetric matrix. Eigenvalues below rounding error are taken for the
    zeros that they are in a singular matrix: the root would make them large.

    Args:
        mean1: ``(D,)``.
        cov1: ``(D, D)``, symmetric and positive semidefinite.
        mean2: ``(D,)``.
        cov2: ``(D, D)``, likewise.

    Returns:
        The distance, ≥ 0.

    Raises:
        UserError: Moments that do not fit together, or are not finite.
    """
    moments = [torch.as_tensor(moment).detach().double().cpu() for moment in (mean1, cov1, mean2, cov2)]
    size = moments[0].numel()
    if [tuple(moment.shape) for moment in moments] != [(size,), (size, size)] * 2:
        shapes = ", ".join(str(tuple(moment.shape)) for moment in moments)
        raise UserError(f"means and covariances must be (D,), (D, D), (D,), (D, D), not {shapes}")
    if not all(bool(torch.isfinite(moment).all()) for moment in moments):
        raise UserError("NaN or infinity in means or covariances")
    first_mean, first, second_mean, second = moments
    values, vectors = torch.linalg.eigh(first)
    kept = values > _rounding_error(values)
    factor = vectors[:, kept] * values[kept].sqrt()  # (D, rank): first = factor factorᵀ
    roots = torch.zeros(1, dtype=torch.float64)
    if kept.any():
        product = factor.T @ second @ factor  # (rank, rank)
        values = torch.linalg.eigvalsh((product + product.T) / 2)
        roots = values[values > _rounding_error(values)].sqrt()
    difference = (first_mean - second_mean).square().sum()
    return max(0.0, float(difference + first.trace() + second.trace() - 2 * roots.sum()))


class FrechetDistance(Metric):
    """:func:`frechet_distance` of features that come in batches, and on several processes.

    Keeps sums in float64, so memory does not grow with the number of images.

    Args:
        size: Components D of a feature.
        reset_real: Whether :meth:`reset` forgets the real features, too. False: several checkpoints are compared with
            one real set.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    real_sum: Tensor

    def __init__(self, size: int, reset_real: bool = True) -> None:
        super().__init__()
        if size < 1:
            raise UserError(f"features of {size} components: there must be at least one")
        self.size = size
        self.reset_real = reset_real
        for side in ("real", "fake"):
            self.add_state(f"{side}_count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
            self.add_state(f"{side}_sum", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{side}_products", torch.zeros(size, size, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, features: Tensor, real: bool) -> None:
        """Adds floating point features ``(N, D)``; `real` says of which set.

        Raises:
            UserError: They are not ``(N, D)``, or not finite.
        """
        side = "real" if real else "fake"
        features = check_features(features).detach().to(self.real_sum)
        if features.shape[1] != self.size:
            raise UserError(f"features of {features.shape[1]} components, where {self.size} were announced")
        setattr(self, f"{side}_count", getattr(self, f"{side}_count") + len(features))
        setattr(self, f"{side}_sum", getattr(self, f"{side}_sum") + features.sum(dim=0))
        setattr(self, f"{side}_products", getattr(self, f"{side}_products") + features.T @ features)

    def compute(self) -> Tensor:
        """The distance, float64 ``()``.

        Raises:
            UserError: There are fewer than two images of a set.
        """
        moments, counts = [], []
        for side, name in (("real", "real"), ("fake", "generated")):
            count = int(getattr(self, f"{side}_count"))
            freedom = _degrees_of_freedom(count, name)
            mean = getattr(self, f"{side}_sum") / count
            moments += [mean, (getattr(self, f"{side}_products") - count * torch.outer(mean, mean)) / freedom]
            counts.append(count)
        _warn_if_singular(min(counts), self.size)
        return torch.tensor(frechet_distance_of_moments(*moments), dtype=torch.float64, device=self.real_sum.device)

    def reset(self) -> None:
        """Forgets all features, or with ``reset_real=False`` the generated ones."""
        real = [] if self.reset_real else ["real_count", "real_sum", "real_products"]
        kept = {name: self._defaults.pop(name) for name in real}  # what has no default is left as it is
        super().reset()
        self._defaults.update(kept)


def _rounding_error(eigenvalues: Tensor) -> Tensor:
    """Below which eigenvalues of a symmetric matrix cannot be told from 0."""
    return eigenvalues.abs().max() * len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps


def _degrees_of_freedom(count: int, name: str) -> int:
    if count < 2:
        raise UserError(f"a Fréchet distance of {count} {name} images: a covariance needs at least two")
    return count - 1


@functools.cache  # once, however many checkpoints are compared
def _warn_if_singular(count: int, size: int) -> None:
    if 1 < count <= size:
        logger.warning(
            f"Fréchet distance of {count} images with {size} features each: the covariance is singular (rank at most "
            f"{count - 1}) and the number biased, far too high; it takes more than {size} images, better 10000 or more"
        )
