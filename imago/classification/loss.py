"""The loss of several classifications at once, where some labels are unknown."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from imago.networks.layers import at_least_float32


def masked_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the known labels: ``1/n Σ w_y · (log Σ_j exp z_j − z_y)``.

    The weights do not enter the divisor (in PyTorch's own mean they do), so that a batch which happens to hold a rare
    value is worth no less than others.

    Args:
        logits: ``(N, V)``.
        labels: int64 ``(N,)``, −1 where unknown.
        weights: ``(V,)`` of the values; None: 1.

    Returns:
        A scalar; 0 where nothing is known.
    """
    logits = at_least_float32(logits)
    total = F.cross_entropy(logits, labels, weights, ignore_index=-1, reduction="sum")
    return total / (labels >= 0).sum().clamp(min=1)


def balanced_weights(labels: NDArray[np.int64], values: Sequence[str]) -> Tensor:
    """Weights of an attribute's values that make each present value weigh the same in sum.

    ``w_v = n / (k · n_v)`` with n known labels, n_v of value v, and k values that occur: the mean weight of a label is
    1. A value that does not occur weighs 0.

    Args:
        labels: int64 ``(N,)``, −1 where unknown.
        values: Of the attribute.

    Returns:
        float32 ``(V,)``.
    """
    counts = np.bincount(labels[labels >= 0], minlength=len(values))
    weights = counts.sum() / ((counts > 0).sum() * np.maximum(counts, 1)) * (counts > 0)
    return torch.from_numpy(weights.astype(np.float32))
