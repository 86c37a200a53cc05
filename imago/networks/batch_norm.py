"""Batch normalisation whose statistics are taken over known groups of images (Ioffe & Szegedy 2015).

A batch may hold several minibatches one after the other (reals, then fakes); each is normalised by its own statistics,
as if the network had been called once for each. Groups smaller than a process's share of the batch make the statistics
independent of the number of processes and micro-batches.

The running statistics, by which networks normalise in evaluation mode, move once in a training step: by the mean of all
groups that passed in it, on all processes. So they depend on processes and micro-batches no more than the groups do.
"""

from collections.abc import Iterable
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imago.distributed import average_over_processes

Normalization: TypeAlias = Literal["batch", "sync", "layer", "none"]
NORMALIZATIONS: tuple[Normalization, ...] = ("batch", "sync", "layer", "none")


class GroupedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over contiguous groups of the batch; see :func:`update_running_statistics`.

    Shape:
        (N, C, H, W) → (N, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.passed: Tensor | None = None  # (2, C): sums of the groups' means and variances since the last update
        self.groups = 0

    def forward(self, x: Tensor, group_size: int | None = None) -> Tensor:
        """Normalises.

        Args:
            x: (N, C, H, W).
            group_size: Images per group in training; None: all of them.

        Raises:
            ValueError: N is not a multiple of the group size.
        """
        if not self.training:
            return super().forward(x)
        parts = _groups(x, group_size)
        normalised = []
        for part in parts:
            statistics = torch.zeros(2, self.num_features, device=x.device, dtype=self.weight.dtype)
            # With a momentum of 1 what comes back is the group's mean and unbiased variance.
            mean, variance = statistics[0], statistics[1]
            normalised.append(F.batch_norm(part, mean, variance, self.weight, self.bias, True, 1.0, self.eps))
            self.passed = statistics if self.passed is None else self.passed + statistics
            self.groups += 1
        return torch.cat(normalised) if len(normalised) > 1 else normalised[0]


def normalization(kind: Normalization, channels: int) -> nn.Module:
    """A normalisation layer.

    Args:
        kind: ``batch``; ``sync``, whose statistics are those of all processes (PyTorch's, for GPUs only, without
            second derivatives); ``layer``, over all features and positions of one image (Ba et al. 2016); ``none``.
        channels: Feature maps.
    """
    if kind == "batch":
        return GroupedBatchNorm2d(channels)
    if kind == "sync":
        return nn.SyncBatchNorm(channels)
    return nn.GroupNorm(1, channels) if kind == "layer" else nn.Identity()


def normalized(layer: nn.Module, x: Tensor, group_size: int | None) -> Tensor:
    """Applies a layer of :func:`normalization` to groups of images (N, C, H, W).

    Raises:
        ValueError: N is not a multiple of the group size.
    """
    if isinstance(layer, GroupedBatchNorm2d):
        return layer(x, group_size)
    if isinstance(layer, nn.SyncBatchNorm) and layer.training:
        return torch.cat([layer(part) for part in _groups(x, group_size)])
    return layer(x)


@torch.no_grad()
def update_running_statistics(networks: Iterable[nn.Module]) -> None:
    """Moves the running statistics by what has passed since the last update, on all processes.

    Statistics that are not finite are forgotten, as the updates of such steps are.

    Args:
        networks: After a training step.
    """
    layers = [m for network in networks for m in network.modules() if isinstance(m, GroupedBatchNorm2d) and m.groups]
    if not layers:
        return
    means = [layer.passed / layer.groups for layer in layers if layer.passed is not None]
    average_over_processes(means)
    for layer, statistics in zip(layers, means, strict=True):
        if bool(torch.isfinite(statistics).all()):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.lerp_(statistics[0].to(layer.running_mean), layer.momentum or 0.1)
            layer.running_var.lerp_(statistics[1].to(layer.running_var), layer.momentum or 0.1)
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked += 1
        layer.passed, layer.groups = None, 0


def _groups(x: Tensor, group_size: int | None) -> tuple[Tensor, ...]:
    if group_size is None or group_size >= len(x):
        return (x,)
    if len(x) % group_size:
        raise ValueError(f"batch normalisation: a batch of {len(x)} does not hold whole groups of {group_size}")
    return x.split(group_size)
