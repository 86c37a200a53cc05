"""A small convolutional network that reads several attributes of a face at once.

Curtó et al. 2020 do not describe a classifier; the one in their repository (``curto2/c``) is six convolutions of 16
filters with one pooling, for one attribute of two values. This one is our own: a short residual network (He et al.
2016, "Deep Residual Learning for Image Recognition") with one linear head per attribute.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from imago.errors import UserError
from imago.networks.registry import register

_GROUP = 8  # channels that GroupNorm normalises together
_SMALLEST = 4  # the stages halve the image until its shorter side is this


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions with GroupNorm, the first of which halves the image, and a shortcut past them.

    Args:
        inputs: Channels in.
        outputs: Channels out.

    Shape:
        (N, inputs, H, W) → (N, outputs, ⌈H/2⌉, ⌈W/2⌉).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(outputs // _GROUP, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(outputs // _GROUP, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return F.relu(y + self.shortcut(F.avg_pool2d(x, 2, ceil_mode=True)))


@register
class AttributeClassifier(nn.Module):
    """Images to one set of logits per attribute.

    A convolution at full resolution, then residual blocks that halve the image and double the channels until the
    shorter side is 4, then for each attribute a linear head on all positions of the last block's output. The positions
    are kept apart because the faces are aligned: glasses and beards have their places.

    The layers are normalised by GroupNorm (Wu and He 2018), not BatchNorm: where synthetic images are added to the
    training part, BatchNorm's running statistics would be those of the mixture and not those of the real images that
    are tested, and the comparison would measure that, too.

    Args:
        attributes: Attribute → its values, in the order of the logits.
        resolution: Height of the images.
        width: Width of the images; None: as the height.
        channels: Colour channels of the images.
        base_width: Channels of the first convolution, a multiple of 8.
        max_width: Most channels of a block, a multiple of 8.

    Attributes:
        attributes: Attribute → values.
        features: Numbers that each head sees.
        config: Arguments that build the network.

    Raises:
        UserError: Numbers that make no network, or an attribute of less than two values.
    """

    def __init__(
        self,
        attributes: Mapping[str, Sequence[str]],
        resolution: int,
        width: int | None = None,
        channels: int = 3,
        base_width: int = 16,
        max_width: int = 128,
    ) -> None:
        super().__init__()
        width = width or resolution
        if min(base_width, max_width) < _GROUP or base_width % _GROUP or max_width % _GROUP:
            raise UserError(f"base_width={base_width}, max_width={max_width}: must be multiples of {_GROUP}")
        if min(resolution, width) < _SMALLEST:
            raise UserError(f"images of {resolution}×{width} are too small to classify; at least 4×4")
        if not attributes or any(len(values) < 2 for values in attributes.values()):
            raise UserError("a classifier needs attributes of at least two values each")
        self.attributes = {name: tuple(values) for name, values in attributes.items()}
        self.config: dict[str, Any] = {
            "attributes": {name: list(values) for name, values in attributes.items()},
            "resolution": resolution,
            "width": width,
            "channels": channels,
            "base_width": base_width,
            "max_width": max_width,
        }
        self.stem = nn.Conv2d(channels, base_width, 3, padding=1, bias=False)
        self.stem_norm = nn.GroupNorm(base_width // _GROUP, base_width)
        blocks: list[nn.Module] = []
        features, extent = base_width, (resolution, width)
        while min(extent) > _SMALLEST:
            outputs = min(2 * features, max_width)
            blocks.append(ResidualBlock(features, outputs))
            features, extent = outputs, ((extent[0] + 1) // 2, (extent[1] + 1) // 2)
        self.blocks = nn.Sequential(*blocks)
        self.features = features * extent[0] * extent[1]
        # A list, because attributes may have dots in their names and a ModuleDict's keys may not.
        self.heads = nn.ModuleList(nn.Linear(self.features, len(values)) for values in self.attributes.values())

    def forward(self, images: Tensor, keep: Tensor | None = None) -> list[Tensor]:
        """Logits.

        Args:
            images: ``(N, C, H, W)`` in [-1, 1].
            keep: ``(N, features)``, which the heads' inputs are multiplied by (dropout, drawn by the caller); None: 1.

        Returns:
            For each attribute ``(N, values)``.
        """
        x = F.relu(self.stem_norm(self.stem(images)))  # (N, base_width, H, W)
        features = self.blocks(x).flatten(1)  # (N, features)
        if keep is not None:
            features = features * keep
        return [head(features) for head in self.heads]
