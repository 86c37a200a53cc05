"""The convolutional pyramids that DCGAN and HDCGAN share (Radford et al. 2016; Curtó et al. 2020, section 4).

Every layer halves or doubles both extents and doubles or halves the feature maps, so the size of the images sets the
number of layers: 32² has four, 256² seven, 512² eight (Curtó et al. 2020, section 4.2).

The *telescope* (ζ₁, ζ₂) of HDCGAN's Glasses enlarges the images that the networks see to ζ₁H × ζ₂W. The filters stay
as they are, so the larger ζ adds log₂ ζ layers.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imago.errors import UserError
from imago.networks.batch_norm import NORMALIZATIONS, Normalization, normalization, normalized
from imago.networks.layers import at_least_float32, with_labels
from imago.networks.progressive import resolution_levels

Activation: TypeAlias = Literal["relu", "leaky_relu", "selu"]
Order: TypeAlias = Literal["norm_first", "activation_first"]
Init: TypeAlias = Literal["normal", "lecun"]


def activate(x: Tensor, kind: Activation) -> Tensor:
    """ReLU, leaky ReLU of leakiness 0.2 (Radford et al. 2016, section 4) or SELU (Klambauer et al. 2017)."""
    if kind == "selu":
        return F.selu(x)
    return F.relu(x) if kind == "relu" else F.leaky_relu(x, 0.2)


class Pyramid:
    """The extents of a pair of pyramids.

    Args:
        resolution: Height of the images of the data set: the base's height times a power of two, at least one.
        base: (height, width) that the images have when halved that often; (4, 4) for square ones.
        filters: Feature maps of the layer next to the image.
        max_channels: At most this many feature maps; None: no limit.
        telescope: ζ, or (ζ₁, ζ₂) of height and width: powers of two.

    Attributes:
        extent: (height, width) of the images that the networks see.
        base: (height, width) of the smallest features.
        widths: Feature maps from the smallest features to the largest.

    Raises:
        UserError: Numbers that make no pyramid.
    """

    def __init__(
        self,
        resolution: int,
        base: Sequence[int],
        filters: int,
        max_channels: int | None,
        telescope: int | Sequence[int],
    ) -> None:
        zoom = (
            tuple(telescope) if isinstance(telescope, Sequence) and not isinstance(telescope, str) else (telescope,) * 2
        )
        whole = all(isinstance(z, int) and not isinstance(z, bool) for z in zoom)
        if len(zoom) != 2 or not whole or any(z < 1 or z & (z - 1) for z in zoom):
            raise UserError(f"model.telescope must be a power of two, or two of them [ζ₁, ζ₂], not {telescope}")
        if filters < 1 or (max_channels is not None and max_channels < 1):
            raise UserError("model.filters and model.max_channels must be at least 1")
        levels = len(resolution_levels(resolution, (base[0], base[1]))) - 1
        largest = max(zoom)
        self.telescope = (zoom[0], zoom[1])
        self.base = (base[0] * zoom[0] // largest, base[1] * zoom[1] // largest)
        if any(extent * largest != side * z for extent, side, z in zip(self.base, base, zoom, strict=True)):
            raise UserError(
                f"model.telescope={list(zoom)}: the smallest features of {base[0]}×{base[1]} cannot be stretched so "
                "far; take a ratio that divides them, or another base"
            )
        levels += largest.bit_length() - 1
        if levels < 1:
            raise UserError(f"resolution {resolution} is the base itself: a pyramid needs at least {2 * resolution}")
        self.extent = (self.base[0] << levels, self.base[1] << levels)
        limit = math.inf if max_channels is None else max_channels
        self.widths = [int(min(filters << (levels - 1 - i), limit)) for i in range(levels)]


class PyramidLayer(nn.Module):
    """A convolution of stride 2 (or the first features), then normalisation and activation in either order."""

    def __init__(self, conv: nn.Module, channels: int, norm: Normalization, activation: Activation, order: Order):
        super().__init__()
        self.conv = conv
        self.norm = normalization(norm, channels)
        self.activation: Activation = activation
        self.order: Order = order

    def forward(self, x: Tensor, group_size: int | None = None) -> Tensor:
        x = self.conv(x)
        if self.order == "norm_first":
            return activate(normalized(self.norm, x, group_size), self.activation)
        return normalized(self.norm, activate(x, self.activation), group_size)


class Projection(nn.Module):
    """A transposed convolution of the 1 × 1 latent to the smallest features, as one matrix product."""

    def __init__(self, inputs: int, channels: int, extent: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, channels, *extent))

    def forward(self, latents: Tensor) -> Tensor:
        return (latents @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])


class PyramidGenerator(nn.Module):
    """Latents to images.

    Args:
        resolution: Height of the images of the data set.
        channels: Colour channels.
        base: (height, width) of the smallest images.
        latent_size: Components of a latent.
        filters: Feature maps of the last hidden layer; each one below has twice as many.
        max_channels: At most this many feature maps; None: no limit.
        telescope: ζ or (ζ₁, ζ₂) by which the images are larger than those of the data set.
        norm: Of all layers but the last.
        activation: Likewise.
        order: Whether normalisation or activation comes first.
        init: ``normal``: N(0, 0.02) (Radford et al. 2016, section 4); ``lecun``: N(0, 1/fan-in), as self-normalising
            networks want.
        label_size: Width of the one-hot labels that are appended to the latents.

    Raises:
        UserError: Numbers that make no pyramid.
    """

    def __init__(
        self,
        resolution: int = 64,
        channels: int = 3,
        base: Sequence[int] = (4, 4),
        latent_size: int = 100,
        filters: int = 64,
        max_channels: int | None = None,
        telescope: int | Sequence[int] = 1,
        norm: Normalization = "batch",
        activation: Activation = "relu",
        order: Order = "norm_first",
        init: Init = "normal",
        label_size: int = 0,
    ) -> None:
        super().__init__()
        if latent_size < 1 or channels < 1:
            raise UserError("model.latent_size and the channels must be at least 1")
        shape = Pyramid(resolution, base, filters, max_channels, telescope)
        check_choice("norm", norm, NORMALIZATIONS)
        self.resolution = resolution
        self.resolutions = (resolution,)
        self.latent_size = latent_size
        self.label_size = label_size
        self.telescope = shape.telescope
        self.extent = shape.extent
        self.smallest = shape.base
        self.config: dict[str, Any] = {
            "resolution": resolution,
            "channels": channels,
            "base": list(base),
            "latent_size": latent_size,
            "filters": filters,
            "max_channels": max_channels,
            "telescope": list(shape.telescope),
            "norm": norm,
            "label_size": label_size,
        }
        widths = shape.widths
        convolutions: list[nn.Module] = [Projection(latent_size + label_size, widths[0], shape.base)]
        convolutions += [
            nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False)
            for wide, narrow in itertools.pairwise(widths)
        ]
        self.layers = nn.ModuleList(
            PyramidLayer(conv, width, norm, activation, order) for conv, width in zip(convolutions, widths, strict=True)
        )
        self.to_image = nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1, bias=False)
        initialize(self, init)

    def forward(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        resolution: int | None = None,
        alpha: float = 1.0,
        group_size: int | None = None,
    ) -> Tensor:
        """Makes images.

        Args:
            latents: (N, latent_size).
            labels: (N, label_size) one-hot; None for a generator without labels.
            resolution: Only the one that the generator was built for.
            alpha: Unused: nothing fades in.
            group_size: Images that share batch statistics in training; None: all.

        Returns:
            (N, channels, ζ₁H, ζ₂W) in [-1, 1]; see :meth:`read_back`.

        Raises:
            UserError: Latents or labels of another size, or another resolution.
        """
        if resolution not in (None, self.resolution):
            raise UserError(f"this network makes images of {self.resolution} only, not {resolution}")
        if latents.shape[1] != self.latent_size:
            raise UserError(f"latents have {latents.shape[1]} components, this generator takes {self.latent_size}")
        x = with_labels(latents, labels, self.label_size)
        for layer in self.layers:
            x = layer(x, group_size)  # (N, widths[i], base · 2^i)
        return torch.tanh(self.to_image(x))

    def read_back(self, images: Tensor) -> Tensor:
        """Images as large as those of the data set: means over ζ₁ × ζ₂ pixels.

        Args:
            images: (N, channels, ζ₁H, ζ₂W).

        Returns:
            (N, channels, H, W).
        """
        return images if self.telescope == (1, 1) else F.avg_pool2d(images, self.telescope)


class PyramidDiscriminator(nn.Module):
    """Images to one score each, to vectors, and to logits of labels.

    Args:
        resolution: Height of the images of the data set.
        channels: Colour channels.
        base: (height, width) of the smallest images.
        filters: Feature maps of the first layer; each one above has twice as many.
        max_channels: At most this many feature maps; None: no limit.
        telescope: As of the generator.
        norm: Of all layers but the first and the last.
        activation: Of all layers but the last.
        order: Whether normalisation or activation comes first.
        init: See :class:`PyramidGenerator`.
        output_size: Components of the vector that is returned; None: a score.
        label_logits: Outputs of the auxiliary classifier.

    Raises:
        UserError: Numbers that make no pyramid.
    """

    def __init__(
        self,
        resolution: int = 64,
        channels: int = 3,
        base: Sequence[int] = (4, 4),
        filters: int = 64,
        max_channels: int | None = None,
        telescope: int | Sequence[int] = 1,
        norm: Normalization = "batch",
        activation: Activation = "leaky_relu",
        order: Order = "norm_first",
        init: Init = "normal",
        output_size: int | None = None,
        label_logits: int = 0,
    ) -> None:
        super().__init__()
        shape = Pyramid(resolution, base, filters, max_channels, telescope)
        check_choice("norm", norm, NORMALIZATIONS)
        self.extent = shape.extent
        self.channels = channels
        self.output_size = output_size
        widths = shape.widths[::-1]
        inputs = [channels, *widths[:-1]]
        self.layers = nn.ModuleList(
            PyramidLayer(
                nn.Conv2d(before, width, 4, stride=2, padding=1, bias=False),
                width,
                "none" if i == 0 else norm,
                activation,
                order,
            )
            for i, (before, width) in enumerate(zip(inputs, widths, strict=True))
        )
        self.output = nn.Conv2d(widths[-1], (output_size or 1) + label_logits, shape.base, bias=False)
        initialize(self, init)

    def outputs_and_logits(
        self, images: Tensor, alpha: float = 1.0, group_size: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Scores or vectors, and the auxiliary classifier's logits.

        Args:
            images: (N, channels, ζ₁H, ζ₂W) in [-1, 1].
            alpha: Unused: nothing fades in.
            group_size: Images that share batch statistics; None: all.

        Returns:
            (N,) scores or (N, output_size) vectors, float32 or wider; (N, label_logits), or None without labels.

        Raises:
            UserError: Images of another extent or channel count.
        """
        if tuple(images.shape[1:]) != (self.channels, *self.extent):
            expected = "×".join(map(str, (self.channels, *self.extent)))
            raise UserError(f"images of {'×'.join(map(str, images.shape[1:]))}; this discriminator takes {expected}")
        x = images
        for layer in self.layers:
            x = layer(x, group_size)
        with torch.autocast(x.device.type, enabled=False):  # scores need more than eight bits of mantissa
            x = self.output(at_least_float32(x)).flatten(1)  # (N, outputs)
        size = self.output_size or 1
        outputs = x[:, 0] if self.output_size is None else x[:, :size]
        return outputs, x[:, size:] if x.shape[1] > size else None

    def forward(self, images: Tensor, alpha: float = 1.0, group_size: int | None = None) -> Tensor:
        """Scores or vectors alone; see :meth:`outputs_and_logits`."""
        return self.outputs_and_logits(images, alpha, group_size)[0]


def initialize(network: nn.Module, init: Init) -> None:
    """Draws the weights of a pyramid.

    ``normal``: convolutions from N(0, 0.02), scales of batch normalisation from N(1, 0.02) (Radford et al. 2016 and
    its code). ``lecun``: convolutions from N(0, 1/fan-in), scales 1 (Klambauer et al. 2017). The fan-in of a transposed
    convolution of stride 2 is a quarter of its taps: so many meet in one output.

    Raises:
        UserError: Another ``init``.
    """
    check_choice("init", init, ("normal", "lecun"))
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, Projection)):
            if isinstance(module, Projection):
                fan_in = module.weight.shape[0]
            else:
                fan_in = module.weight[0].numel() if isinstance(module, nn.Conv2d) else 4 * module.weight.shape[0]
            nn.init.normal_(module.weight, 0.0, 0.02 if init == "normal" else fan_in**-0.5)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and init == "normal":
            nn.init.normal_(module.weight, 1.0, 0.02)


def check_choice(name: str, value: str, valid: Sequence[str]) -> None:
    """Raises:
    UserError: ``value`` is not one of the valid ones.
    """
    if value not in valid:
        raise UserError(f"model.{name} must be one of {', '.join(valid)}, not {value}")
