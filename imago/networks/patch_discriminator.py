"""pix2pix's discriminator of patches, told what the images were made from (Isola et al. 2017; Tyka 2017).

Each of its scores sees 70 × 70 pixels (Isola et al. 2017, appendix 6.1.2). "It's structure is identical to that used in
pix2pix except that the 32x32x6 input is simply concatenated with the feature channels after 4 down samplings of the
highres input when the discriminator spatial extent has reached 32x32" (Tyka 2017).

From 256² it takes three, not four, down-samplings to reach 32², and three are all that pix2pix has before its layers
of stride 1. Where the post contradicts itself, the extent decides: the input joins where it has the extent of the
features, after log₂(factor) down-samplings.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from imago.errors import UserError
from imago.networks.batch_norm import NORMALIZATIONS, Normalization, normalization, normalized
from imago.networks.jnet import JNet
from imago.networks.layers import at_least_float32
from imago.networks.pyramid import check_choice
from imago.networks.registry import register

_SLOPE = 0.2


class _PatchLayer(nn.Module):
    """A convolution of 4, normalisation (or none), leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Normalization) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4, stride=stride, padding=1, bias=norm == "none")
        self.norm = normalization(norm, outputs)

    def forward(self, x: Tensor, group_size: int | None) -> Tensor:
        return nn.functional.leaky_relu(normalized(self.norm, self.conv(x), group_size), _SLOPE)


@register
class PatchDiscriminator(nn.Module):
    """Images, and the stacks that they were made from, to scores of patches.

    Args:
        factor: How much larger the images are than the stacks: a power of two, at least 2.
        guide_channels: Of the guide in the stacks.
        channels: Colour channels.
        filters: Feature maps of the first layer; twice as many in each of the next, eight times as many at most.
        norm: Of all layers but the first and the last.
        output: ``score``: one per patch; ``vector``: the mean over the patches of vectors; ``map``: ``output_size``
            channels at the extent of the stacks, for an autoencoder.
        output_size: Components of a vector, or channels of a map.

    Raises:
        UserError: Numbers that make no network.
    """

    def __init__(
        self,
        factor: int = 8,
        guide_channels: int = 3,
        channels: int = 3,
        filters: int = 64,
        norm: Normalization = "batch",
        output: Literal["score", "vector", "map"] = "score",
        output_size: int = 1,
    ) -> None:
        super().__init__()
        if factor < 2 or factor & (factor - 1):
            raise UserError(f"the factor of an up-resolution must be a power of two from 2 on, not {factor}")
        if min(filters, channels, output_size) < 1 or guide_channels < 0:
            raise UserError("model.discriminator_filters must be at least 1")
        check_choice("discriminator_norm", norm, NORMALIZATIONS)
        self.config: dict[str, Any] = {
            "factor": factor,
            "guide_channels": guide_channels,
            "channels": channels,
            "filters": filters,
            "norm": norm,
            "output": output,
            "output_size": output_size,
        }
        self.factor = factor
        self.output_kind = output
        levels = factor.bit_length() - 1
        widths = [min(filters << i, 8 * filters) for i in range(levels + 1)]
        inputs = [channels, *widths]
        self.layers = nn.ModuleList(
            _PatchLayer(inputs[i], widths[i], 2, "none" if i == 0 else norm) for i in range(levels)
        )
        joined = widths[levels - 1] + channels + guide_channels
        # Of an autoencoder, the extent stays as it is.
        self.joined = _PatchLayer(joined, widths[levels], 1, norm)
        self.output = nn.Conv2d(widths[levels], output_size, 4, padding=1 if output != "map" else 3)
        _initialize(self)

    def forward(self, images: Tensor, stacks: Tensor, group_size: int | None = None) -> Tensor:
        """Judges images.

        Args:
            images: (N, channels, factor · h, factor · w) in [-1, 1].
            stacks: (N, channels + guide_channels, h, w).
            group_size: Images that share batch statistics; None: all.

        Returns:
            float32 or wider: scores (N, patches); vectors (N, output_size); or a map (N, output_size, h, w).

        Raises:
            ValueError: Images and stacks do not belong together.
        """
        if any(large != self.factor * small for large, small in zip(images.shape[2:], stacks.shape[2:], strict=True)):
            raise ValueError(f"images of {tuple(images.shape)} are not {self.factor} times {tuple(stacks.shape)}")
        x = images
        for layer in self.layers:
            x = layer(x, group_size)
        x = self.joined(torch.cat([x, stacks.to(x.dtype)], dim=1), group_size)
        with torch.autocast(x.device.type, enabled=False):  # scores need more than eight bits of mantissa
            x = self.output(at_least_float32(x))
        if self.output_kind == "map":
            return x[:, :, 1:-1, 1:-1]
        return x.flatten(1) if self.output_kind == "score" else x.mean(dim=(2, 3))


class PatchAutoencoder(nn.Module):
    """A discriminator that is an autoencoder, for BEGAN: patches to codes at the stacks' extent, and a J-net back.

    Args:
        encoder: With ``output="map"``.
        decoder: Of as many channels and guide channels as the codes and stacks have.
    """

    def __init__(self, encoder: PatchDiscriminator, decoder: JNet) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.config: dict[str, Any] = {}

    def forward(self, images: Tensor, stacks: Tensor, group_size: int | None = None) -> Tensor:
        """Reconstructions (N, C, H, W); see :meth:`PatchDiscriminator.forward`."""
        return self.decoder(self.encoder(images, stacks, group_size), group_size)


@torch.no_grad()
def _initialize(network: nn.Module) -> None:
    """N(0, 0.02), scales of batch normalisation N(1, 0.02) (Isola et al. 2017, appendix 6.2, and its code)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.normal_(0.0, 0.02)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.weight.normal_(1.0, 0.02)
