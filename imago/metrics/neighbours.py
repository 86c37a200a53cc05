"""Exact nearest neighbours in feature space, in memory that does not grow with the number of pairs."""

import torch
from torch import Tensor

from imago.errors import UserError
from imago.metrics.checks import Features, check_features, check_same_width

_CHUNK_ELEMENTS = 1 << 24  # of a block of the distance matrix: 64 MB in float32


def nearest_neighbours(
    queries: Features, references: Features, k: int = 1, same_set: bool = False
) -> tuple[Tensor, Tensor]:
    """The k nearest references of each query, by Euclidean distance.

    Candidates are found with matrix products in the features' own precision, about their common mean, and the
    distances of those that are returned are then computed from differences: so that of equal features is exactly 0.

    Args:
        queries: Floating point ``(M, D)``.
        references: Floating point ``(N, D)`` with N ≥ k.
        k: How many.
        same_set: Whether the queries are the references: then none is its own neighbour, though an equal one may be.

    Returns:
        Distances ``(M, k)``, ascending, and int64 indices ``(M, k)`` of the references.

    Raises:
        UserError: Not enough references, or features that cannot be compared.
    """
    queries, references = check_features(queries, "queries"), check_features(references, "references")
    check_same_width(queries, references)
    available = len(references) - same_set
    if not 1 <= k <= available:
        raise UserError(f"{k} nearest neighbours of {available} images: k must lie in [1, {available}]")
    references = references.to(queries)
    centre = references.mean(dim=0)
    centred = references - centre  # (N, D): cancellation in the expansion below stays small
    squares = centred.square().sum(dim=1)  # (N,)
    rows = max(1, _CHUNK_ELEMENTS // len(references))
    distances, indices = [], []
    for first in range(0, len(queries), rows):
        part = queries[first : first + rows]
        # |q - r|² without |q|², which does not change the order.
        scores = torch.addmm(squares, part - centre, centred.T, alpha=-2)  # (m, N)
        if same_set:
            own = torch.arange(len(part), device=part.device)
            scores[own, own + first] = torch.inf
        candidates = scores.topk(k, dim=1, largest=False).indices  # (m, k)
        exact = torch.stack([(part - references[candidates[:, j]]).norm(dim=1) for j in range(k)], dim=1)
        order = exact.argsort(dim=1, stable=True)
        distances.append(exact.gather(1, order))
        indices.append(candidates.gather(1, order))
    return torch.cat(distances), torch.cat(indices)
