"""Improved precision and recall: are generated images realistic, and do they cover the real ones?

Kynkäänniemi et al. 2019, "Improved precision and recall metric for assessing generative models".
"""

import torch
from torch import Tensor

from imago.errors import UserError
from imago.metrics.checks import Features, check_features, check_same_width
from imago.metrics.feature_sets import FeatureSetsMetric
from imago.metrics.neighbours import nearest_neighbours

_CHUNK_ELEMENTS = 1 << 22  # of a block of the distance matrix: 32 MB in float64
_ROUNDING = 1e-12  # relative, of a distance in float64: within it, a point lies on a ball's surface


def precision_recall(real: Features, fake: Features, k: int = 3) -> tuple[float, float]:
    """The shares of generated images among the real ones, and of real images among the generated ones.

    An image is among those of a set if it lies in the ball around one of them, surface included, whose radius is the
    distance to the k-th nearest other one of that set (section 2, equations 1 and 2). Distances are float64 and ties
    are exact. Both numbers depend on the numbers of images: compare only numbers of as many, and take as many of both.

    Args:
        real: Floating point ``(N, D)`` with N > k; the paper takes 50000 images and VGG16's features.
        fake: Floating point ``(M, D)`` with M > k.
        k: Neighbours; 3 in the paper.

    Returns:
        Precision and recall, in [0, 1], higher is better.

    Raises:
        UserError: Features that cannot be compared, or too few images.
    """
    real, fake = check_features(real, "real features"), check_features(fake, "generated features")
    check_same_width(real, fake)
    smaller = min(len(real), len(fake))
    if not 1 <= k < smaller:
        raise UserError(
            f"precision and recall with k={k} of {len(real)} real and {len(fake)} generated images: need k+1"
        )
    real = real.detach().double()
    fake = fake.detach().double().to(real.device)
    return _share_among(fake, real, k), _share_among(real, fake, k)


class PrecisionRecall(FeatureSetsMetric):
    """:func:`precision_recall` of features that come in batches, and on several processes.

    Args:
        k: See there.
        reset_real: Whether :meth:`reset` forgets the real features, too. False: several checkpoints are compared with
            one real set.
    """

    higher_is_better = True

    def __init__(self, k: int = 3, reset_real: bool = True) -> None:
        super().__init__(reset_real)
        self.k = k

    def compute(self) -> tuple[Tensor, Tensor]:
        """Precision and recall, float64 ``()`` each."""
        features = self.sets("precision and recall need real and generated images")
        precision, recall = torch.tensor(precision_recall(*features, self.k), dtype=torch.float64)
        return precision.to(features[0].device), recall.to(features[0].device)


def _share_among(queries: Tensor, references: Tensor, k: int) -> float:
    """The share of queries ``(M, D)`` in a ball around one of the references ``(N, D)``, both float64.

    Squared distances come from matrix products, which are fast but off by their rounding error. Only a query that lies
    within that error of surfaces, and clearly in no ball, has its distances computed again from differences.
    """
    radii = nearest_neighbours(references, references, k, same_set=True)[0][:, -1] * (1 + _ROUNDING)  # (N,)
    centre = references.mean(dim=0)
    balls = references - centre
    squares = balls.square().sum(dim=1)  # (N,)
    error = 4 * references.shape[1] * torch.finfo(torch.float64).eps
    rows = max(1, _CHUNK_ELEMENTS // len(references))
    inside = 0
    for part in queries.split(rows):
        moved = part - centre
        own = moved.square().sum(dim=1, keepdim=True)  # (m, 1)
        beyond = torch.addmm(own + squares, moved, balls.T, alpha=-2) - radii.square()  # (m, N)
        margin = error * (own + squares + radii.square())
        among = (beyond < -margin).any(dim=1)  # (m,)
        unsure = (beyond <= margin) & ~among[:, None]
        for i in unsure.any(dim=1).nonzero().flatten().tolist():
            near = unsure[i]
            among[i] = ((part[i] - references[near]).norm(dim=1) <= radii[near]).any()
        inside += int(among.sum())
    return inside / len(queries)
