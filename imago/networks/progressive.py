"""The growing generator and discriminator (Karras et al. 2018, Figure 2, Table 2 and appendix A.1).

All blocks exist from the start; a forward pass runs those that its resolution needs. Level 0 is the smallest extent
(4 × 4 in the paper) and each level doubles it. An image extent is named by its height, called *resolution*.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from imago.errors import UserError
from imago.networks.layers import (
    EqualizedConv2d,
    EqualizedLinear,
    LatentToFeatures,
    MinibatchStdDev,
    PixelNorm,
    UpsampleConv2d,
    at_least_float32,
    downsample,
    leaky_relu,
    upsample,
    with_labels,
)
from imago.networks.registry import register


def resolution_levels(resolution: int, base: tuple[int, int]) -> tuple[int, ...]:
    """Heights of all levels, from the base to ``resolution``.

    Raises:
        UserError: ``resolution`` is not the base's height times a power of two.
    """
    height, width = base
    if height < 1 or width < 1:
        raise UserError(f"base {height}×{width}: both extents must be at least 1")
    levels = [height]
    while levels[-1] < resolution:
        levels.append(2 * levels[-1])
    if levels[-1] != resolution:
        near = f"{levels[-2]} or {levels[-1]}" if len(levels) > 1 else f"{levels[-1]}"
        raise UserError(
            f"resolution {resolution} is not {height} (the height of base {height}×{width}) times a power of two; "
            f"the nearest that are: {near}"
        )
    return tuple(levels)


class _Progressive(nn.Module):
    """What both networks share: levels, feature map counts and the record of how to build them again."""

    def __init__(
        self, resolution: int, channels: int, base: tuple[int, int], fmap_base: int, fmap_max: int, **config: Any
    ) -> None:
        super().__init__()
        if min(channels, fmap_base, fmap_max) < 1:
            raise UserError("channels, fmap_base and fmap_max must be at least 1")
        self.base = (int(base[0]), int(base[1]))
        self.resolutions = resolution_levels(resolution, self.base)
        self.resolution = resolution
        self.channels = channels
        self.fmap_base = fmap_base
        self.fmap_max = fmap_max
        self.config: dict[str, Any] = {
            "resolution": resolution,
            "channels": channels,
            "base": list(self.base),
            "fmap_base": fmap_base,
            "fmap_max": fmap_max,
            **config,
        }

    def feature_maps(self, level: int) -> int:
        """nf(s) = min(fmap_base / 2^s, fmap_max) with s = level + 1, and at least one."""
        return max(1, min(self.fmap_base // 2 ** (level + 1), self.fmap_max))

    def level_of(self, resolution: int) -> int:
        """The level whose images are ``resolution`` pixels high.

        Raises:
            UserError: There is no such level.
        """
        if resolution not in self.resolutions:
            raise UserError(
                f"this network has no resolution {resolution}; it has {', '.join(map(str, self.resolutions))}"
            )
        return self.resolutions.index(resolution)

    def active_modules(self, resolution: int, alpha: float) -> Iterator[nn.Module]:
        """The blocks that take part at (resolution, alpha)."""
        raise NotImplementedError

    def active_parameters(self, resolution: int, alpha: float) -> list[nn.Parameter]:
        """The parameters that take part at (resolution, alpha), in a fixed order."""
        return [p for module in self.active_modules(resolution, alpha) for p in module.parameters()]


class GeneratorBlock(nn.Module):
    """Conv, LReLU, PixelNorm, twice; the first convolution makes the features from the latent or the level below."""

    def __init__(self, first: nn.Module, channels: int) -> None:
        super().__init__()
        self.first = first
        self.second = EqualizedConv2d(channels, channels, 3)
        self.norm = PixelNorm()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(leaky_relu(self.first(x)))
        return self.norm(leaky_relu(self.second(x)))


@register
class ProgressiveGenerator(_Progressive):
    """Latents to images, growing (Table 2, left).

    Args:
        resolution: Height of the final images: the base's height times a power of two.
        channels: Colour channels of the images.
        base: (height, width) of the smallest images; (4, 4) in the paper, (4, 3) gives upright images of 4:3.
        latent_size: Components of a latent.
        fmap_base: Feature maps are min(fmap_base / 2^s, fmap_max) at level s - 1.
        fmap_max: At most this many feature maps.
        label_size: Width of the one-hot labels that are appended to the latents.

    Raises:
        UserError: ``resolution`` is not the base's height times a power of two.
    """

    def __init__(
        self,
        resolution: int = 1024,
        channels: int = 3,
        base: tuple[int, int] = (4, 4),
        latent_size: int = 512,
        fmap_base: int = 8192,
        fmap_max: int = 512,
        label_size: int = 0,
    ) -> None:
        super().__init__(resolution, channels, base, fmap_base, fmap_max, latent_size=latent_size)
        if latent_size < 1:
            raise UserError(f"latent_size must be at least 1, not {latent_size}")
        self.latent_size = latent_size
        if label_size < 0:
            raise UserError(f"label_size must not be negative, not {label_size}")
        self.label_size = label_size
        if label_size:  # not said of generators without labels, so that their files stay as they are
            self.config["label_size"] = label_size
        self.normalize_latents = PixelNorm()
        blocks: list[nn.Module] = []
        to_rgb: list[nn.Module] = []
        for level in range(len(self.resolutions)):
            out = self.feature_maps(level)
            first: nn.Module
            if level == 0:
                first = LatentToFeatures(latent_size + label_size, out, self.base)
            else:
                first = UpsampleConv2d(self.feature_maps(level - 1), out, 3)
            blocks.append(GeneratorBlock(first, out))
            to_rgb.append(EqualizedConv2d(out, channels, 1, gain=1.0))
        self.blocks = nn.ModuleList(blocks)
        self.to_rgb = nn.ModuleList(to_rgb)

    def active_modules(self, resolution: int, alpha: float) -> Iterator[nn.Module]:
        level = self.level_of(resolution)
        yield from self.blocks[: level + 1]
        yield self.to_rgb[level]
        if alpha < 1 and level > 0:
            yield self.to_rgb[level - 1]

    def forward(
        self, latents: Tensor, labels: Tensor | None = None, resolution: int | None = None, alpha: float = 1.0
    ) -> Tensor:
        """Makes images.

        Args:
            latents: (N, latent_size); they are normalised to the hypersphere here, together with the labels as in the
                official TensorFlow code (its Theano code normalises the latents alone).
            labels: (N, label_size) one-hot; None for a generator without labels.
            resolution: Height of the images; the final one by default.
            alpha: Weight of the newest level in [0, 1]; the rest goes to the replicated image of the level below.

        Returns:
            (N, channels, H, W), about in [-1, 1] (linear output, no tanh).

        Raises:
            UserError: No such resolution, or latents or labels of another size.
        """
        if latents.shape[1] != self.latent_size:
            raise UserError(f"latents have {latents.shape[1]} components, this generator takes {self.latent_size}")
        level = self.level_of(self.resolution if resolution is None else resolution)
        x = below = self.normalize_latents(with_labels(latents, labels, self.label_size))
        for block in self.blocks[: level + 1]:
            below, x = x, block(x)  # (N, nf, base · 2^level)
        images = self.to_rgb[level](x)
        if alpha < 1 and level > 0:
            images = torch.lerp(upsample(self.to_rgb[level - 1](below)), images, alpha)
        return images

    def read_back(self, images: Tensor) -> Tensor:
        """Images as large as those of the data set: as they are. Others see them enlarged (HDCGAN's Glasses)."""
        return images


class DiscriminatorBlock(nn.Module):
    """Conv 3 × 3, LReLU, Conv 3 × 3, LReLU, Downsample."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = EqualizedConv2d(in_channels, in_channels, 3)
        self.second = EqualizedConv2d(in_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_relu(self.first(x))
        return downsample(leaky_relu(self.second(x)))


class DiscriminatorOutput(nn.Module):
    """The smallest level: minibatch stddev, Conv 3 × 3, Conv 4 × 4 (all positions at once), fully-connected."""

    def __init__(self, channels: int, extent: tuple[int, int], mbstd_group: int, outputs: int = 1) -> None:
        super().__init__()
        self.minibatch_stddev = MinibatchStdDev(mbstd_group)
        self.conv = EqualizedConv2d(channels + 1, channels, 3)
        self.dense = EqualizedLinear(channels * extent[0] * extent[1], channels)
        self.output = EqualizedLinear(channels, outputs, gain=1.0)

    def forward(self, x: Tensor, group_size: int | None = None) -> Tensor:
        x = leaky_relu(self.conv(self.minibatch_stddev(x, group_size)))
        with torch.autocast(x.device.type, enabled=False):  # scores need more than eight bits of mantissa
            x = leaky_relu(self.dense(at_least_float32(x).flatten(1)))
            return self.output(x)  # (N, outputs)


@register
class ProgressiveDiscriminator(_Progressive):
    """Images to one score each, to vectors, and to logits of labels, growing (Table 2, right).

    Args:
        resolution: Height of the final images.
        channels: Colour channels of the images.
        base: (height, width) of the smallest images.
        fmap_base: See :class:`ProgressiveGenerator`.
        fmap_max: See :class:`ProgressiveGenerator`.
        mbstd_group: Images per minibatch-stddev group: 4 as the official code, 16 as the paper's largest minibatch.
        output_size: Components of the vector that is returned; None: a score.
        label_logits: Outputs of the auxiliary classifier, which shares all layers (the official code's label loss).

    Raises:
        UserError: ``resolution`` is not the base's height times a power of two.
    """

    def __init__(
        self,
        resolution: int = 1024,
        channels: int = 3,
        base: tuple[int, int] = (4, 4),
        fmap_base: int = 8192,
        fmap_max: int = 512,
        mbstd_group: int = 4,
        output_size: int | None = None,
        label_logits: int = 0,
    ) -> None:
        super().__init__(resolution, channels, base, fmap_base, fmap_max, mbstd_group=mbstd_group)
        if mbstd_group < 1:
            raise UserError("mbstd_group must be at least 1")
        if label_logits < 0 or (output_size is not None and output_size < 1):
            raise UserError("output_size must be at least 1 and label_logits not negative")
        self.output_size = output_size
        if output_size is not None:  # as in the generator: said only of networks that have it
            self.config["output_size"] = output_size
        if label_logits:
            self.config["label_logits"] = label_logits
        levels = range(len(self.resolutions))
        self.from_rgb = nn.ModuleList(EqualizedConv2d(channels, self.feature_maps(level), 1) for level in levels)
        outputs = (output_size or 1) + label_logits
        self.output = DiscriminatorOutput(self.feature_maps(0), self.base, mbstd_group, outputs)
        # blocks[i] belongs to level i + 1; level 0 is the output block.
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(self.feature_maps(level), self.feature_maps(level - 1)) for level in levels[1:]
        )

    def active_modules(self, resolution: int, alpha: float) -> Iterator[nn.Module]:
        level = self.level_of(resolution)
        yield self.output
        yield from self.blocks[:level]
        yield self.from_rgb[level]
        if alpha < 1 and level > 0:
            yield self.from_rgb[level - 1]

    def outputs_and_logits(
        self, images: Tensor, alpha: float = 1.0, group_size: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Scores or vectors, and the auxiliary classifier's logits.

        Args:
            images: (N, channels, H, W) in [-1, 1]; the height selects the level.
            alpha: Weight of the newest level in [0, 1].
            group_size: Minibatch-stddev group, when the batch holds several minibatches one after the other.

        Returns:
            (N,) scores, high for images that look real, or (N, output_size) vectors, float32 or wider;
            (N, label_logits), or None without labels.

        Raises:
            UserError: Images of an extent or a channel count that this network does not have.
        """
        level = self.level_of(images.shape[2])
        width = self.base[1] * 2**level
        if images.shape[1] != self.channels or images.shape[3] != width:
            raise UserError(
                f"images of {images.shape[1]} channels and {images.shape[2]}×{images.shape[3]}; this discriminator "
                f"takes {self.channels} channels and {images.shape[2]}×{width}"
            )
        x = leaky_relu(self.from_rgb[level](images))
        for i in range(level, 0, -1):
            x = self.blocks[i - 1](x)
            if i == level and alpha < 1:
                x = torch.lerp(leaky_relu(self.from_rgb[level - 1](downsample(images))).to(x.dtype), x, alpha)
        x = self.output(x, group_size)  # (N, outputs)
        size = self.output_size or 1
        outputs = x[:, 0] if self.output_size is None else x[:, :size]
        return outputs, x[:, size:] if x.shape[1] > size else None

    def forward(
        self, images: Tensor, labels: Tensor | None = None, alpha: float = 1.0, group_size: int | None = None
    ) -> Tensor:
        """Scores or vectors alone; see :meth:`outputs_and_logits`.

        Raises:
            UserError: Labels are given: the auxiliary classifier has to find them.
        """
        if labels is not None:
            raise UserError("this discriminator is not shown labels: its auxiliary classifier has to find them")
        return self.outputs_and_logits(images, alpha, group_size)[0]
