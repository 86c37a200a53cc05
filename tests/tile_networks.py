"""Networks of known effect, that the tests of up-resolution share."""

from collections.abc import Callable

import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]


def nearest(factor: int) -> Network:
    """Repeats every pixel."""
    return lambda stacks: stacks[:, :3].repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)


def constant(factor: int, value: float) -> Network:
    """One value everywhere, as a view of a single number."""

    def run(stacks: Tensor) -> Tensor:
        n, _, height, width = stacks.shape
        return torch.full((1, 1, 1, 1), value).expand(n, 3, factor * height, factor * width)

    return run


def patterned(factor: int, tile: int) -> Network:
    """Of each tile its pixels, repeated, in another pattern of factors at each place of the tile: it makes seams."""
    pattern = torch.rand(3, factor * tile, factor * tile, generator=torch.Generator().manual_seed(1)) - 0.5
    return lambda stacks: nearest(factor)(stacks) * pattern


class Failing:
    """Runs a network, but raises an error for more than so many tiles at a time.

    Attributes:
        sizes: Of the batches that were run.
    """

    def __init__(self, network: Network, most: int, error: Exception) -> None:
        self.network, self.most, self.error = network, most, error
        self.sizes: list[int] = []

    def __call__(self, stacks: Tensor) -> Tensor:
        if len(stacks) > self.most:
            raise self.error
        self.sizes.append(len(stacks))
        return self.network(stacks)
