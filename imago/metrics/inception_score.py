"""Inception score of generated images (Salimans et al. 2016, section 4)."""

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from imago.errors import UserError
from imago.metrics.checks import Features, check_features
from imago.metrics.kernel import order_by_content
from imago.randomness import permutation


def inception_score(logits: Features, splits: int = 10, shuffle: int | None = None) -> tuple[float, float]:
    """``exp(E KL(p(class | image) ‖ p(class)))``, over parts of the images.

    The official score takes Inception's logits without the bias of its last layer. It was made for pictures of many
    kinds of objects: portraits are all of much the same class, and for them it says little.

    Args:
        logits: Floating point ``(N, K)``, of generated images; N ≥ splits.
        splits: Parts that are scored one by one, as equal as they can be.
        shuffle: Parts are drawn at random with this seed, whatever the order of the images. None: in order, as in
            PGGAN's code; with several processes that order depends on their number.

    Returns:
        Mean over the parts, in [1, K], higher is better, and standard deviation (ddof 0).

    Raises:
        UserError: Logits that are not finite, no parts, or fewer images than parts.
    """
    logits = check_features(logits, "logits").detach()
    count = len(logits)
    if not 1 <= splits <= count:
        raise UserError(f"an Inception score of {count} images in {splits} parts: need at least one image in each")
    if shuffle is not None:
        order = order_by_content(logits)[permutation(shuffle, "inception score", 0, count)]
        logits = logits[torch.from_numpy(order).to(logits.device)]
    log_p = logits.double().log_softmax(dim=1)  # (N, K)
    scores = []
    for i in range(splits):
        part = log_p[i * count // splits : (i + 1) * count // splits]
        log_marginal = part.logsumexp(dim=0) - np.log(len(part))  # (K,)
        divergence = (part.exp() * (part - log_marginal)).sum(dim=1).mean()
        scores.append(float(divergence.exp()))
    return float(np.mean(scores)), float(np.std(scores))


class InceptionScore(Metric):
    """:func:`inception_score` of logits that come in batches, and on several processes.

    Args:
        splits: See there.
        shuffle: See there.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    logits: list[Tensor]

    def __init__(self, splits: int = 10, shuffle: int | None = None) -> None:
        super().__init__()
        self.splits, self.shuffle = splits, shuffle
        self.add_state("logits", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor) -> None:
        """Adds floating point logits ``(N, K)`` of generated images."""
        self.logits.append(check_features(logits, "logits").detach().to(self.device))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, float64 ``()`` each."""
        if not len(self.logits):
            raise UserError("an Inception score needs at least one image")
        logits = dim_zero_cat(self.logits)
        values = inception_score(logits, self.splits, self.shuffle)
        mean, deviation = torch.tensor(values, dtype=torch.float64, device=logits.device)
        return mean, deviation
