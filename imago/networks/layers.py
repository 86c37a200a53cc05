"""The building blocks of the progressive networks (Karras et al. 2018, sections 3 and 4, appendix A.1).

Shapes: N images, C feature maps, H × W pixels; weights are (out, in, height, width).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imago.errors import UserError

LEAKINESS = 0.2  # appendix A.1: "leaky ReLU with leakiness 0.2 in all layers of both networks"
HE_GAIN = math.sqrt(2.0)  # He et al. 2015

# From this many input pixels on, one strided transposed convolution beats up-sampling followed by a convolution.
_FUSED_UPSAMPLING_PIXELS = 256


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU in place: what it overwrites is never needed again, so an activation is stored once, not twice."""
    return F.leaky_relu_(x, LEAKINESS)


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32 when it is narrower than that (half precisions); float64 stays float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class EqualizedConv2d(nn.Module):
    """Convolution with an equalized learning rate (section 4.1): N(0, 1) weights, scaled by He's constant at runtime.

    Args:
        in_channels: Feature maps in.
        out_channels: Feature maps out.
        kernel_size: Odd extent of the kernel; the output keeps the extent of the input.
        gain: √2 before a leaky ReLU, 1 before a linear output (toRGB).

    Shape:
        (N, in_channels, H, W) → (N, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, gain: float = HE_GAIN) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale = gain / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[-1] // 2)


class UpsampleConv2d(EqualizedConv2d):
    """2×2 element replication followed by an :class:`EqualizedConv2d` (Table 2: Upsample, Conv 3 × 3).

    On larger extents both are done at once by a transposed convolution of stride 2. Replicating pixels makes pairs of
    kernel taps read the same pixel; summing those taps first turns the 3 × 3 kernel into a 4 × 4 one that is applied
    to a quarter of the positions: 16 instead of 36 multiplications per input pixel, the same function.

    Shape:
        (N, in_channels, H, W) → (N, out_channels, 2H, 2W).
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] * x.shape[3] < _FUSED_UPSAMPLING_PIXELS:
            return super().forward(upsample(x))
        kernel = F.pad((self.weight * self.scale).flip(2, 3).transpose(0, 1), (1, 1, 1, 1))  # (in, out, 5, 5)
        kernel = kernel[:, :, 1:] + kernel[:, :, :-1]
        kernel = kernel[..., 1:] + kernel[..., :-1]  # (in, out, 4, 4)
        return F.conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)


class EqualizedLinear(nn.Module):
    """Fully-connected layer with an equalized learning rate (section 4.1).

    Args:
        in_features: Numbers in.
        out_features: Numbers out.
        gain: √2 before a leaky ReLU, 1 before a linear output.
        bias: Whether to add a bias (zero at the start).

    Shape:
        (N, in_features) → (N, out_features).
    """

    def __init__(self, in_features: int, out_features: int, gain: float = HE_GAIN, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.scale = gain / math.sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x * self.scale, self.weight, self.bias)  # the same product: far fewer numbers to scale


class LatentToFeatures(nn.Module):
    """The generator's first layer: Conv 4 × 4 on the 1 × 1 latent (Table 2), computed as one matrix product.

    He's constant of that convolution is √2 / √(16 · latent_size), hence the gain of √2 / 4 on a fan-in of
    ``latent_size``. There is one bias per feature map, as for a convolution.

    Args:
        latent_size: Components of a latent.
        out_channels: Feature maps out.
        extent: (H, W) out; (4, 4) in the paper.

    Shape:
        (N, latent_size) → (N, out_channels, H, W).
    """

    def __init__(self, latent_size: int, out_channels: int, extent: tuple[int, int]) -> None:
        super().__init__()
        height, width = extent
        self.extent = (height, width)
        self.linear = EqualizedLinear(
            latent_size, out_channels * height * width, gain=HE_GAIN / math.sqrt(height * width), bias=False
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, latents: Tensor) -> Tensor:
        features = self.linear(latents).unflatten(1, (self.bias.shape[0], *self.extent))  # (N, C, H, W)
        return features + self.bias.to(features.dtype)[:, None, None]


class PixelNorm(nn.Module):
    """Pixelwise feature vector normalisation (section 4.2): b = a / √(mean over feature maps of a² + ε), ε = 1e-8.

    Shape:
        (N, C, …) → (N, C, …); the root mean square over C is 1 afterwards.
    """

    def __init__(self, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        # Half precisions are summed in float32 without a float32 copy of the activations.
        with torch.autocast(x.device.type, enabled=False):
            dtype = torch.promote_types(x.dtype, torch.float32)
            norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=dtype)
            return x * torch.rsqrt(norm.square() / x.shape[1] + self.epsilon).to(x.dtype)


class MinibatchStdDev(nn.Module):
    """Appends one constant feature map that tells how much the images of a group differ (section 3).

    The standard deviation (biased variance) of each feature at each position over the group, averaged over features
    and positions to a single number per group. Computed in float32 or wider.

    Args:
        group_size: Images per group, contiguous in the batch; larger than the batch means the whole batch. The
            official code takes 4, the paper the whole minibatch (up to 16).

    Shape:
        (N, C, H, W) → (N, C + 1, H, W).
    """

    def __init__(self, group_size: int) -> None:
        super().__init__()
        self.group_size = group_size

    def forward(self, x: Tensor, group_size: int | None = None) -> Tensor:
        """Appends the statistic.

        Args:
            x: (N, C, H, W).
            group_size: Overrides the module's, for a batch that holds several minibatches.

        Raises:
            ValueError: N is not a multiple of the group size.
        """
        n, _, h, w = x.shape
        group = min(group_size or self.group_size, n)
        if n % group:
            raise ValueError(f"minibatch stddev: a batch of {n} does not hold whole groups of {group}")
        with torch.autocast(x.device.type, enabled=False):
            groups = at_least_float32(x).unflatten(0, (n // group, group))  # (M, G, C, H, W)
            differences = groups - groups.mean(dim=1, keepdim=True)  # Tensor.var is far slower on this layout
            deviation = (differences.square().mean(dim=1) + 1e-8).sqrt()  # (M, C, H, W)
            statistic = deviation.mean(dim=(1, 2, 3)).repeat_interleave(group)  # (N,)
        return torch.cat([x, statistic.to(x.dtype)[:, None, None, None].expand(n, 1, h, w)], dim=1)


def upsample(x: Tensor) -> Tensor:
    """2×2 element replication: (N, C, H, W) → (N, C, 2H, 2W)."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def downsample(x: Tensor) -> Tensor:
    """2×2 average pooling: (N, C, H, W) → (N, C, H/2, W/2)."""
    return F.avg_pool2d(x, 2)


def fade_reals(images: Tensor, alpha: float) -> Tensor:
    """Reals during a fade-in: interpolated between two resolutions as the generator's output is (Figure 2).

    Args:
        images: (N, C, H, W) at the new resolution.
        alpha: Weight of the new resolution, in [0, 1].

    Returns:
        (N, C, H, W).
    """
    return images if alpha >= 1 else torch.lerp(upsample(downsample(images)), images, alpha)


def with_labels(latents: Tensor, labels: Tensor | None, label_size: int) -> Tensor:
    """What a conditional generator begins with: latents and labels side by side.

    Args:
        latents: (N, latent_size).
        labels: (N, label_size) one-hot; None for a generator without labels.
        label_size: What the generator takes; 0: no labels.

    Returns:
        (N, latent_size + label_size).

    Raises:
        UserError: Labels are missing, not wanted, or of another shape.
    """
    if labels is None:
        if label_size:
            raise UserError(f"this generator needs labels: {len(latents)} × {label_size}, one-hot")
        return latents
    if not label_size:
        raise UserError("this generator was built without labels")
    if labels.shape != (len(latents), label_size):
        raise UserError(f"labels of {tuple(labels.shape)}: this generator needs {(len(latents), label_size)}, one-hot")
    return torch.cat([latents, labels.to(latents.dtype)], dim=1)
