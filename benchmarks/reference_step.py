"""A plain PGGAN step to measure imago's against, and networks that share no code with imago's.

What the step does follows ``BaseGAN.optimizeParameters`` of facebookresearch/pytorch_GAN_zoo as it was last published:

- contiguous float32; element replication, then a 3 × 3 convolution; He's constant applied to each layer's output;
- in the discriminator step, reals and fakes pass through the discriminator one after the other; the generator's graph
  is built for the fakes and then cut (``.detach()``), never back-propagated into. (An early version threw the result
  of ``detach`` away and did run backward through the generator; :func:`reference_step` can do that too.);
- the gradient penalty has a forward and a backward of its own, before that of the scores;
- in the generator step the discriminator's weights gather gradients that nobody uses;
- non-finite gradient entries are set to zero, losses are read back with ``item()``, Adam is PyTorch's default one, and
  the averaged generator follows parameter by parameter.

Where the peer departs from the paper (gain √2 everywhere, unbiased variance, sums over the batch) the networks and the
loss here keep to the paper, at the same cost, so that imago's must compute the same numbers.
"""

import copy
import itertools
import math
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _replicate(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, c, h, 1, w, 1).expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)


def _normalize(x: Tensor) -> Tensor:
    return x * ((x**2).mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class ScaledLayer(nn.Module):
    """A layer with N(0, 1) weights whose whole output, bias included, is multiplied by gain / √fan_in.

    Args:
        layer: A convolution or a fully-connected layer with a bias.
        gain: √2 before a leaky ReLU.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, gain: float = math.sqrt(2.0)) -> None:
        super().__init__()
        assert layer.bias is not None
        nn.init.normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        self.layer = layer
        self.scale = gain / math.sqrt(layer.weight[0].numel())

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        x *= self.scale
        return x


def _conv(in_channels: int, out_channels: int, kernel_size: int, gain: float = math.sqrt(2.0)) -> ScaledLayer:
    return ScaledLayer(nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2), gain)


class ReferenceGenerator(nn.Module):
    """Latents (N, latent_size) to images (N, 3, H, H) (Karras et al. 2018, Table 2, left)."""

    def __init__(self, widths: list[int], latent_size: int) -> None:
        super().__init__()
        self.first = ScaledLayer(nn.Linear(latent_size, 16 * widths[0]), gain=math.sqrt(2.0) / 4)
        self.convs = nn.ModuleList([nn.ModuleList([_conv(widths[0], widths[0], 3)])])
        for below, width in itertools.pairwise(widths):
            self.convs.append(nn.ModuleList([_conv(below, width, 3), _conv(width, width, 3)]))
        self.to_rgb = nn.ModuleList([_conv(width, 3, 1, gain=1.0) for width in widths])
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, latents: Tensor, alpha: float = 1.0) -> Tensor:
        x = self.activation(self.first(_normalize(latents)))
        x = below = _normalize(x.view(x.shape[0], -1, 4, 4))
        for level, convs in enumerate(self.convs):
            if level > 0:
                below = x
                x = _replicate(x)
            for conv in cast(nn.ModuleList, convs):
                x = _normalize(self.activation(conv(x)))
        images = self.to_rgb[-1](x)
        if alpha < 1 and len(self.convs) > 1:
            images = alpha * images + (1 - alpha) * _replicate(self.to_rgb[-2](below))
        return images


class ReferenceDiscriminator(nn.Module):
    """Images (N, 3, H, H) to scores (N,) (Karras et al. 2018, Table 2, right)."""

    def __init__(self, widths: list[int], group: int = 4) -> None:
        super().__init__()
        self.group = group
        self.from_rgb = nn.ModuleList([_conv(3, width, 1) for width in widths])
        self.convs = nn.ModuleList(
            [
                nn.ModuleList([_conv(width, width, 3), _conv(width, below, 3)])
                for below, width in itertools.pairwise(widths)
            ]
        )
        self.last_conv = _conv(widths[0] + 1, widths[0], 3)
        self.dense = ScaledLayer(nn.Linear(16 * widths[0], widths[0]))
        self.score = ScaledLayer(nn.Linear(widths[0], 1), gain=1.0)
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, images: Tensor, alpha: float = 1.0) -> Tensor:
        x = self.activation(self.from_rgb[-1](images))
        fading = alpha < 1
        for convs in reversed(self.convs):
            for conv in cast(nn.ModuleList, convs):
                x = self.activation(conv(x))
            x = F.avg_pool2d(x, 2)
            if fading:
                below = self.activation(self.from_rgb[-2](F.avg_pool2d(images, 2)))
                x, fading = alpha * x + (1 - alpha) * below, False
        x = self.activation(self.last_conv(self._with_deviation(x)))
        return self.score(self.activation(self.dense(x.view(x.shape[0], -1))))[:, 0]

    def _with_deviation(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        group = min(self.group, n)
        y = x.view(n // group, group, c, h, w)
        y = torch.sqrt(torch.var(y, 1, unbiased=False) + 1e-8)
        y = y.reshape(n // group, -1).mean(dim=1).view(-1, 1, 1, 1, 1)
        return torch.cat([x, y.expand(-1, group, 1, h, w).reshape(n, 1, h, w)], dim=1)


@dataclass
class Reference:
    """Both networks, the averaged generator and the optimizers.

    Args:
        widths: Feature maps of each level, from 4² up.
        latent_size: Components of a latent.
        group: Images per minibatch-stddev group.
        device: Where to put them.
    """

    widths: list[int]
    latent_size: int = 512
    group: int = 4
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        self.generator = ReferenceGenerator(self.widths, self.latent_size).to(self.device)
        self.discriminator = ReferenceDiscriminator(self.widths, self.group).to(self.device)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=0.001, betas=(0.0, 0.99))
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), lr=0.001, betas=(0.0, 0.99))


def gradient_penalty(discriminator: nn.Module, real: Tensor, fake: Tensor, share: Tensor, alpha: float) -> Tensor:
    """10 · mean((‖∇D(x̂)‖ − 1)²) at x̂ = real + share · (fake − real); ``share`` is (N,) in [0, 1)."""
    share = share.view(-1, 1, 1, 1)
    mixed = ((1 - share) * real + share * fake).detach().requires_grad_(True)
    (gradients,) = torch.autograd.grad(discriminator(mixed, alpha).sum(), mixed, create_graph=True, retain_graph=True)
    norms = gradients.reshape(len(gradients), -1).square().sum(dim=1).sqrt()
    return ((norms - 1.0) ** 2).mean() * 10.0


def discriminator_backward(
    models: Reference, real: Tensor, latents: Tensor, share: Tensor, alpha: float = 1.0, cut_graph: bool = True
) -> float:
    """Gradients of the discriminator's loss (WGAN-GP with drift) in its parameters.

    Args:
        models: The networks.
        real: (N, 3, H, H) in [-1, 1].
        latents: (N, latent_size).
        share: (N,) of the fake in each interpolate.
        alpha: Weight of the newest level.
        cut_graph: Whether backward stops at the fakes, or runs through the generator in vain.

    Returns:
        The loss.
    """
    discriminator = models.discriminator
    real_scores = discriminator(real, alpha)
    loss = -real_scores.mean()
    total = loss.item()
    fake = models.generator(latents, alpha)
    if cut_graph:
        fake = fake.detach()
    fake_loss = discriminator(fake, alpha).mean()
    total += fake_loss.item()
    penalty = gradient_penalty(discriminator, real, fake, share, alpha)
    penalty.backward(retain_graph=True)
    drift = 0.001 * (real_scores**2).mean()
    total += penalty.item() + drift.item()
    (loss + fake_loss + drift).backward(retain_graph=True)
    return total


def generator_backward(models: Reference, latents: Tensor, alpha: float = 1.0) -> float:
    """Gradients of the generator's loss, in the parameters of both networks; returns the loss."""
    loss = -models.discriminator(models.generator(latents, alpha), alpha).mean()
    total = loss.item()
    loss.backward(retain_graph=True)
    return total


def reference_step(models: Reference, real: Tensor, cut_graph: bool = True) -> tuple[float, float]:
    """One discriminator step, one generator step and one step of the averaged generator.

    Args:
        models: The networks; changed.
        real: (N, 3, H, H) in [-1, 1].
        cut_graph: See :func:`discriminator_backward`.

    Returns:
        Both losses.
    """
    n = len(real)
    models.discriminator_optimizer.zero_grad()
    latents, share = torch.randn(n, models.latent_size).to(real.device), torch.rand(n).to(real.device)
    discriminator_loss = discriminator_backward(models, real, latents, share, cut_graph=cut_graph)
    _clear_non_finite(models.discriminator)
    models.discriminator_optimizer.step()

    models.generator_optimizer.zero_grad()
    models.discriminator_optimizer.zero_grad()
    generator_loss = generator_backward(models, torch.randn(n, models.latent_size).to(real.device))
    _clear_non_finite(models.generator)
    models.generator_optimizer.step()

    for new, old in zip(models.generator.parameters(), models.average.parameters(), strict=True):
        old.mul_(0.999).add_(new.detach(), alpha=0.001)
    return discriminator_loss, generator_loss


def _clear_non_finite(network: nn.Module) -> None:
    for p in network.parameters():
        if p.grad is not None:
            p.grad[torch.isinf(p.grad)] = 0
            p.grad[torch.isnan(p.grad)] = 0
