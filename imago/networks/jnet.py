"""The J-shaped network: from a low-resolution crop and its guide to a crop many times as large (Tyka 2017).

A U-Net (Ronneberger et al. 2015; Isola et al. 2017) whose encoder begins at the extent of the low-resolution crop, 32²,
and has a quarter of the decoder's channels. The decoder goes on to 256², 8 times that. "The decoder side has 2
additional convolutional layers between each deconv step", and skip connections join "layers of equal x,y extent on
either side". The post removes pix2pix's batch normalisation; the kinds that it tried are options.

What the post leaves open, and what was chosen: the encoder halves the extent three times, to 4²; its first layer, a
convolution of stride 1, keeps 32² for the topmost skip connection; widths double from ``filters`` next to the image up
to ``max_channels``; leaky ReLU of 0.2 down and ReLU up, kernels of 4 and tanh at the end are pix2pix's (appendix 6.1).
"""

import itertools
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imago.errors import UserError
from imago.faces.guide import GuideStyle, guide_channels
from imago.networks.batch_norm import GroupedBatchNorm2d, normalization, normalized
from imago.networks.pyramid import check_choice
from imago.networks.registry import register

JNetNorm: TypeAlias = Literal["none", "batch", "sample"]
Upsampling: TypeAlias = Literal["transposed", "upconv"]
Init: TypeAlias = Literal["he", "normal"]

_SLOPE = 0.2
_EXTRA_CONVOLUTIONS = 2
_ENCODER_SHARE = 4


class _Layer(nn.Module):
    """A convolution, its normalisation and its activation."""

    def __init__(self, conv: nn.Module, channels: int, norm: JNetNorm, slope: float) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.InstanceNorm2d(channels, affine=True) if norm == "sample" else normalization(norm, channels)
        self.slope = slope

    def forward(self, x: Tensor, group_size: int | None, batch_statistics: bool) -> Tensor:
        x = self.conv(x)
        if batch_statistics and isinstance(self.norm, GroupedBatchNorm2d) and not self.training:
            x = F.batch_norm(x, None, None, self.norm.weight, self.norm.bias, True, 0.0, self.norm.eps)
        else:
            x = normalized(self.norm, x, group_size)
        return F.leaky_relu(x, self.slope)


class _UpConvolution(nn.Module):
    """Pixels repeated twice in both directions, then a convolution of 3: no checkerboards (Odena et al. 2016)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


@register
class JNet(nn.Module):
    """A stack of a crop and its guide to the crop, ``factor`` times as large.

    Args:
        factor: How much larger: a power of two, at least 2.
        guide: Style of the guide, which sets its channels; see :func:`imago.faces.guide.draw_guide`.
        channels: Colour channels.
        crop: Extent of the crops that it is trained on; it takes any that its encoder can halve ``depth`` times.
        low_size: Height of the whole low-resolution pictures that the crops are of; kept for those who apply it.
        face_size: Height of the pictures that these were shrunk from; likewise.
        filters: Feature maps next to the image; twice as many at every smaller extent.
        max_channels: At most this many.
        depth: How often the encoder halves the extent.
        norm: ``none``; ``batch``; ``sample``: over the positions of one crop (instance normalisation).
        inference_statistics: Of ``batch``: ``running`` averages, or those of the ``batch`` of tiles at hand ("sometimes
            using batch averages at inference time worked better"), which then depend on the tiles beside it.
        upsampling: ``transposed`` convolutions of stride 2, or ``upconv``.
        init: ``he``: N(0, 2/fan-in), which a deep network without normalisation needs; ``normal``: N(0, 0.02), as in
            pix2pix.
        code_channels: Channels of what it reads in place of a crop and its guide, as the decoder of an autoencoder.

    Shape:
        (N, channels + G, h, w) → (N, channels, factor · h, factor · w), in [-1, 1].

    Raises:
        UserError: Numbers that make no network.
    """

    def __init__(
        self,
        factor: int = 8,
        guide: GuideStyle = "rgb",
        channels: int = 3,
        crop: int = 32,
        low_size: int = 96,
        face_size: int = 128,
        filters: int = 64,
        max_channels: int = 512,
        depth: int = 3,
        norm: JNetNorm = "none",
        inference_statistics: Literal["running", "batch"] = "running",
        upsampling: Upsampling = "transposed",
        init: Init = "he",
        code_channels: int | None = None,
    ) -> None:
        super().__init__()
        if factor < 2 or factor & (factor - 1):
            raise UserError(f"the factor of an up-resolution must be a power of two from 2 on, not {factor}")
        if min(channels, filters, max_channels, crop) < 1:
            raise UserError("model.filters, model.max_channels and model.crop must be at least 1")
        if low_size < crop or face_size < 1:
            raise UserError(
                f"model.low_size={low_size} must be at least model.crop={crop}, and model.face_size above 0"
            )
        if depth < 1 or crop % 2**depth:
            raise UserError(f"model.depth={depth}: a crop of {crop}² cannot be halved {depth} times")
        check_choice("norm", norm, ("none", "batch", "sample"))
        check_choice("inference_statistics", inference_statistics, ("running", "batch"))
        check_choice("upsampling", upsampling, ("transposed", "upconv"))
        check_choice("init", init, ("he", "normal"))
        self.config: dict[str, Any] = {
            "factor": factor,
            "guide": guide,
            "channels": channels,
            "crop": crop,
            "low_size": low_size,
            "face_size": face_size,
            "filters": filters,
            "max_channels": max_channels,
            "depth": depth,
            "norm": norm,
            "inference_statistics": inference_statistics,
            "upsampling": upsampling,
            "code_channels": code_channels,
        }
        self.factor = factor
        self.guide: GuideStyle = guide
        self.guide_channels = guide_channels(guide)
        self.channels = channels
        self.inputs = channels + self.guide_channels if code_channels is None else code_channels
        self.crop = crop
        self.low_size = low_size
        self.face_size = face_size
        self.depth = depth
        self.batch_statistics = norm == "batch" and inference_statistics == "batch"

        levels = depth + factor.bit_length() - 1  # of the decoder above its smallest extent
        up = [min(filters << (levels - i), max_channels) for i in range(levels + 1)]  # from the smallest extent
        down = [max(1, up[depth - i] // _ENCODER_SHARE) for i in range(depth + 1)]  # from the crop's extent
        self.encoder = nn.ModuleList([_Layer(nn.Conv2d(self.inputs, down[0], 3, padding=1), down[0], "none", _SLOPE)])
        for wide, narrow in itertools.pairwise(down):
            conv = nn.Conv2d(wide, narrow, 4, stride=2, padding=1)
            self.encoder.append(_Layer(conv, narrow, norm, _SLOPE))
        self.decoder = nn.ModuleList()
        inputs = down[-1]
        for i, outputs in enumerate(up[1:], start=1):
            step = nn.ModuleList([_Layer(_doubling(upsampling, inputs, outputs), outputs, norm, 0.0)])
            skipped = down[depth - i] if i <= depth else 0
            for k in range(_EXTRA_CONVOLUTIONS):
                width = outputs + skipped * (k == 0)
                step.append(_Layer(nn.Conv2d(width, outputs, 3, padding=1), outputs, norm, 0.0))
            self.decoder.append(step)
            inputs = outputs
        self.to_image = nn.Conv2d(inputs, channels, 3, padding=1)
        _initialize(self, init)

    def forward(self, stack: Tensor, group_size: int | None = None) -> Tensor:
        """Enlarges crops.

        Args:
            stack: (N, channels + G, h, w), the crops in [-1, 1], the guide of G channels in [0, 1].
            group_size: Of batch normalisation in training: crops that share statistics; None: all of them.

        Returns:
            (N, channels, factor · h, factor · w) in [-1, 1].

        Raises:
            ValueError: Other channels, or an extent that cannot be halved ``depth`` times.
        """
        if stack.shape[1] != self.inputs or any(s % 2**self.depth for s in stack.shape[2:]):
            raise ValueError(
                f"a stack of {tuple(stack.shape)}: need {self.inputs} channels and extents "
                f"that are multiples of {2**self.depth}"
            )
        kept: list[Tensor] = []
        x = stack
        for layer in self.encoder:
            x = layer(x, group_size, self.batch_statistics)
            kept.append(x)
        kept.pop()  # the smallest one is where the decoder begins
        for step in self.decoder:
            for k, layer in enumerate(step):  # type: ignore[arg-type]
                x = layer(x, group_size, self.batch_statistics)
                if k == 0 and kept:
                    x = torch.cat([x, kept.pop()], dim=1)
        return torch.tanh(self.to_image(x))


def _doubling(kind: Upsampling, inputs: int, outputs: int) -> nn.Module:
    if kind == "transposed":
        return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
    return _UpConvolution(inputs, outputs)


@torch.no_grad()
def _initialize(network: nn.Module, init: Init) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            if init == "normal":
                module.weight.normal_(0.0, 0.02)
            else:
                # Of a transposed convolution of stride 2, a quarter of the taps meet each pixel of the output.
                meet = module.weight[0, 0].numel() / (4 if isinstance(module, nn.ConvTranspose2d) else 1)
                module.weight.normal_(0.0, (2 / (module.in_channels * meet)) ** 0.5)
            if module.bias is not None:
                module.bias.zero_()
    if init == "he":  # a linear output: about the range of tanh at the start
        last = network.to_image
        assert isinstance(last, nn.Conv2d)
        last.weight.mul_(0.5**0.5)
