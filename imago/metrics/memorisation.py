"""Memorisation: do generated images lie closer to the training images than unseen real images do?

A generator that copies makes images whose nearest training image is suspiciously near. How near is suspicious depends
on the data and the features; what settles it are real images that were held out of training. Two numbers:

- `share`: the probability that a generated image lies closer to its nearest training image than a held-out one does
  to its own. It is the Mann–Whitney statistic of the two sets of distances, the test of Meehan, Chaudhuri and Dasgupta
  2020 ("A non-parametric test to detect data-copying in generative models", section 3) over the whole space at once. A
  generator that draws from the distribution of the data has ½; one that copies tends to 1; below ½ it makes images
  that are further from the data than real ones are.
- `close`: the share of generated images closer than the 1% of held-out images that are closest. A generator that copies
  some images and makes other ones beside them shows here first: with 10% of copies among 500 photos of faces, compared
  by their pixels at 32², `share` is 0.53 (z = 1.7) and `close` 0.12, where 0.01 is expected.

A high `share` with a low `close` is not copying: smooth images are near to everything in pixels, and the same photos
made blurry by 4×4 blocks have a `share` of 0.62 and a `close` of 0.03. Features that blur moves away from photos do
not have this fault.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from imago.errors import UserError
from imago.metrics.checks import Features, check_features
from imago.metrics.neighbours import nearest_neighbours

CLOSEST = 0.01  # share of the held-out images that sets how close is suspicious


@dataclass(frozen=True)
class Memorisation:
    """What distances to the nearest training image tell. Standard errors are those of a generator that does not copy.

    Attributes:
        share: Of pairs of a generated and a held-out image in which the generated one is closer to the training
            images, in [0, 1]; pairs that are equally close count half.
        standard_error: Of `share` about its expectation ½.
        z: (share - ½) / standard_error: beyond 3, the difference is not chance.
        close: Share of generated images closer than the closest held-out ones, in [0, 1].
        expected_close: What `close` is expected to be.
        close_standard_error: Of `close` about its expectation.
        held_out: How many real images.
        generated: How many generated images.
    """

    share: float
    standard_error: float
    z: float
    close: float
    expected_close: float
    close_standard_error: float
    held_out: int
    generated: int


def memorisation(training: Features, held_out: Features, generated: Features, closest: float = CLOSEST) -> Memorisation:
    """Memorisation by features of images.

    The held-out images must be drawn as the training images were: with persons of their own if those of the training
    images are to count as copied. A generator that was trained with mirrored images is compared with them by adding
    their features to `training`.

    Args:
        training: Features of the training images, ``(N, D)``.
        held_out: Of real images that the generator has not seen, ``(M, D)``.
        generated: ``(G, D)``.
        closest: See :func:`memorisation_of_distances`.

    Raises:
        UserError: Features that cannot be compared, or `closest` is no share.
    """
    held_out_distances = nearest_neighbours(held_out, training)[0][:, 0]
    return memorisation_of_distances(held_out_distances, nearest_neighbours(generated, training)[0][:, 0], closest)


def memorisation_of_distances(held_out: Tensor, generated: Tensor, closest: float = CLOSEST) -> Memorisation:
    """Memorisation by distances to the nearest training image, whatever distance that is.

    With M held-out and G generated images whose distances come from one distribution, `share` has the expectation ½ and
    the variance (M + G + 1) / 12MG, less where distances are equal (Mann and Whitney 1947). The k-th smallest of M
    distances is, as a quantile, Beta(k, M + 1 - k); so `close`, the share below it, has the expectation k / (M + 1).

    Args:
        held_out: Of real images, ``(M,)``, any unit.
        generated: Of generated images, ``(G,)``, the same unit.
        closest: Share of the held-out images that sets what is close, in (0, 1); k = closest · (M + 1), rounded, is at
            least 1.

    Raises:
        UserError: Not such distances, or `closest` is no share.
    """
    real, fake = _check(held_out, "held-out images").sort().values, _check(generated, "generated images")
    if not 0 < closest < 1:
        raise UserError(f"closest={closest}: must be a share between 0 and 1")
    m, g = len(real), len(fake)
    not_above = torch.searchsorted(real, fake, right=True)
    equal = not_above - torch.searchsorted(real, fake)
    share = float(((m - not_above) + 0.5 * equal).sum()) / (m * g)

    tied = torch.cat([real, fake]).unique(return_counts=True)[1].double()
    correction = float((tied**3 - tied).sum()) / ((m + g) * (m + g - 1))
    error = math.sqrt(max(0.0, m + g + 1 - correction) / (12 * m * g))

    k = min(m, max(1, round(closest * (m + 1))))
    mean = k / (m + 1)
    square = mean * (k + 1) / (m + 2)  # E[p²] of Beta(k, m + 1 - k)
    close = float((fake < real[k - 1]).double().mean())
    close_error = math.sqrt((mean - square) / g + square - mean**2)
    z = (share - 0.5) / error if error else 0.0
    return Memorisation(share, error, z, close, mean, close_error, m, g)


class MemorisationMetric(Metric):
    """Memorisation over batches and processes; see :func:`memorisation`.

    Args:
        training: Features of all training images, ``(N, D)``, the same on every process.
        closest: See :func:`memorisation_of_distances`.
        reset_real: Whether :meth:`reset` forgets the held-out images too.
        **kwargs: See :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    held_out: list[Tensor]
    generated: list[Tensor]

    def __init__(self, training: Features, closest: float = CLOSEST, reset_real: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.training_features = check_features(training, "training features")
        self.closest = closest
        self.reset_real = reset_real
        self.set_dtype(torch.float64)  # also of what a process without images contributes
        self.add_state("held_out", [], dist_reduce_fx="cat")
        self.add_state("generated", [], dist_reduce_fx="cat")

    def update(self, features: Features, real: bool) -> None:
        """Adds features ``(B, D)`` of held-out images (`real`) or of generated ones.

        Raises:
            UserError: They cannot be compared with those of the training images.
        """
        distances = nearest_neighbours(features, self.training_features)[0][:, 0]
        (self.held_out if real else self.generated).append(distances.double())

    def compute(self) -> dict[str, float]:
        """Of all features added: the attributes of :class:`Memorisation` by name.

        Raises:
            UserError: Of one of the two sets there are none.
        """
        for distances, name in ((self.held_out, "held-out"), (self.generated, "generated")):
            if isinstance(distances, list) and not distances:
                raise UserError(f"no {name} images were given: memorisation compares held-out with generated ones")
        held_out, generated = dim_zero_cat(self.held_out), dim_zero_cat(self.generated)
        return asdict(memorisation_of_distances(held_out, generated, self.closest))

    def reset(self) -> None:
        """Forgets the images; with ``reset_real=False`` the generated ones only."""
        held_out = list(self.held_out)  # a copy: what torchmetrics resets, it empties
        super().reset()
        if not self.reset_real:
            self.held_out = held_out


def _check(distances: Tensor, name: str) -> Tensor:
    if distances.ndim != 1 or len(distances) == 0:
        raise UserError(f"distances of {name} must be (N,) with N ≥ 1, not of shape {tuple(distances.shape)}")
    if not bool(torch.isfinite(distances).all()):
        raise UserError(f"distances of {name}: NaN or infinity among them")
    return distances.detach().cpu().double()
