"""Batch normalisation whose statistics are taken over known groups of images (Ioffe & Szegedy 2015).

A batch may hold several minibatches one after the other (reals, then fakes); each is normalised by its own statistics,
as if the network had been called once for each. Groups smaller than a process's share of the batch make the statistics
independent of the number of processes and micro-batches.
"""

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

Normalization: TypeAlias = Literal["batch", "sync", "layer", "none"]
NORMALIZATIONS: tuple[Normalization, ...] = ("batch", "sync", "layer", "none")


def normalization(kind: Normalization, channels: int) -> nn.Module:
    """A normalisation layer.

    Args:
        kind: ``batch``; ``sync``, whose statistics are those of all processes (PyTorch's, for GPUs only, without
            second derivatives); ``layer``, over all features and positions of one image (Ba et al. 2016); ``none``.
        channels: Feature maps.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "sync":
        return nn.SyncBatchNorm(channels)
    return nn.GroupNorm(1, channels) if kind == "layer" else nn.Identity()


def normalized(layer: nn.Module, x: Tensor, group_size: int | None) -> Tensor:
    """Applies a layer of :func:`normalization` to groups of images.

    In evaluation mode batch normalisation uses running statistics, which every group of every training pass has moved.

    Args:
        layer: The layer.
        x: (N, C, H, W).
        group_size: Images per contiguous group; None: all of them.

    Raises:
        ValueError: N is not a multiple of the group size.
    """
    if not layer.training or group_size is None or group_size >= len(x) or not is_batch_norm(layer):
        return layer(x)
    if len(x) % group_size:
        raise ValueError(f"batch normalisation: a batch of {len(x)} does not hold whole groups of {group_size}")
    return torch.cat([layer(part) for part in x.split(group_size)])


def is_batch_norm(layer: nn.Module) -> bool:
    """Whether a layer normalises by statistics of a batch."""
    return isinstance(layer, (nn.BatchNorm2d, nn.SyncBatchNorm))
