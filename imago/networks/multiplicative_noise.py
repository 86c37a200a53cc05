"""Multiplicative Gaussian noise inside a discriminator (Karras et al. 2018, appendix B)."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from imago.networks.layers import EqualizedConv2d
from imago.networks.progressive import DiscriminatorOutput
from imago.networks.pyramid import PyramidDiscriminator
from imago.noise import normal_tensors


@contextlib.contextmanager
def multiplicative_noise(
    discriminator: nn.Module, strength: float, seed: int, purpose: str, first: int, count: int
) -> Iterator[None]:
    """Multiplies the input of each 3 × 3 and 4 × 4 convolution by 1 + strength · ε, ε ~ N(0, 1), while it is entered.

    The paper says no more of the noise than that; every number of the input has a draw of its own here. The official
    Theano code draws once for all positions of a feature map, and multiplies the strength by √channels, of which the
    paper says nothing.

    Args:
        discriminator: The network.
        strength: Standard deviation; 0 changes nothing and costs nothing.
        seed: Of the draws.
        purpose: Of the draws; layers and minibatches are told apart.
        first: Global position of a minibatch's first image.
        count: Images of a minibatch; a batch holds one or several.
    """
    if strength == 0:
        yield
        return

    def multiply(layer: int, module: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
        (x,) = inputs
        shape = tuple(x.shape[1:])
        factors = torch.cat(
            [
                normal_tensors(seed, f"{purpose}/{layer}/{part}", first, count, shape, x.device, x.dtype)
                for part in range(len(x) // count)
            ]
        )
        return x * (1 + strength * factors)

    hooks = [
        layer.register_forward_pre_hook(partial(multiply, i)) for i, layer in enumerate(_convolutions(discriminator))
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _convolutions(network: nn.Module) -> Iterator[nn.Module]:
    last = [module.output for module in network.modules() if isinstance(module, PyramidDiscriminator)]
    for module in network.modules():
        if isinstance(module, DiscriminatorOutput):
            yield module.dense  # the 4 × 4 convolution, over all positions at once
        elif module in last:
            yield module  # the same, also where it is not 4 × 4
        elif (isinstance(module, EqualizedConv2d) and module.weight.shape[-1] == 3) or (
            isinstance(module, nn.Conv2d) and module.kernel_size[0] in (3, 4)
        ):
            yield module
