import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from imago.networks import ProgressiveDiscriminator, ProgressiveGenerator
from imago.networks.layers import (
    EqualizedConv2d,
    EqualizedLinear,
    LatentToFeatures,
    MinibatchStdDev,
    PixelNorm,
    UpsampleConv2d,
    downsample,
    fade_reals,
    leaky_relu,
    upsample,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def doubles(*shape, requires_grad=False):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=requires_grad)


def he(fan_in, gain):
    """The standard deviation of He et al. (2015) for a layer with that many inputs per output."""
    return gain / fan_in**0.5


# --- equalized learning rate ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "x", "expected"),
    [
        (EqualizedConv2d(6, 4, 3), torch.ones(1, 6, 5, 5), he(6 * 9, 2**0.5)),
        (EqualizedConv2d(3, 4, 1), torch.ones(1, 3, 5, 5), he(3, 2**0.5)),
        (EqualizedConv2d(6, 3, 1, gain=1.0), torch.ones(1, 6, 5, 5), he(6, 1.0)),
        (UpsampleConv2d(6, 4, 3), torch.ones(1, 6, 5, 5), he(6 * 9, 2**0.5)),
        (UpsampleConv2d(6, 4, 3), torch.ones(1, 6, 16, 16), he(6 * 9, 2**0.5)),
        (EqualizedLinear(10, 4), torch.ones(1, 10), he(10, 2**0.5)),
        (EqualizedLinear(10, 1, gain=1.0), torch.ones(1, 10), he(10, 1.0)),
        (LatentToFeatures(10, 4, (4, 4)), torch.ones(1, 10), he(10, 2**0.5 / 4)),
        (LatentToFeatures(10, 4, (4, 3)), torch.ones(1, 10), he(10, (2 / 12) ** 0.5)),
    ],
)
def test_weights_are_scaled_by_hes_constant_at_runtime_and_biases_are_not(layer, x, expected):
    weight = layer.linear.weight if isinstance(layer, LatentToFeatures) else layer.weight
    inputs = x.shape[1] * (weight.shape[-1] ** 2 if weight.ndim == 4 else 1)  # per output away from the border
    with torch.no_grad():
        weight.fill_(1.0)
        layer.bias.fill_(0.0)
        centre = (0, 0) if x.ndim == 2 and layer(x).ndim == 2 else (0, 0, 2, 2)
        assert layer(x)[centre].item() == pytest.approx(inputs * expected, rel=1e-5)
        weight.fill_(0.0)
        layer.bias.fill_(0.75)
        assert (layer(x) == 0.75).all()


def test_gains_of_the_layers_in_both_networks():
    """√2 in front of every leaky ReLU, √2/4 on the dense first layer, 1 for toRGB and for the last layer of D."""
    G = ProgressiveGenerator(resolution=16, latent_size=24, fmap_base=64, fmap_max=16)
    D = ProgressiveDiscriminator(resolution=16, fmap_base=64, fmap_max=16)
    assert G.blocks[0].first.linear.scale == pytest.approx(he(24, 2**0.5 / 4))
    hidden = [b.second for b in G.blocks] + [b.first for b in G.blocks[1:]]
    hidden += [c for b in D.blocks for c in (b.first, b.second)] + [*D.from_rgb, D.output.conv, D.output.dense]
    for layer in hidden:
        assert layer.scale == pytest.approx(he(layer.weight[0].numel(), 2**0.5))
    for layer in [*G.to_rgb, D.output.output]:
        assert layer.scale == pytest.approx(he(layer.weight[0].numel(), 1.0))


@pytest.mark.parametrize(
    ("make_layer", "shape", "variance"),
    [
        (lambda: EqualizedConv2d(32, 64, 3), (8, 32, 18, 18), 2.0),
        (lambda: EqualizedConv2d(32, 64, 1, gain=1.0), (8, 32, 16, 16), 1.0),
        (lambda: EqualizedLinear(256, 256), (64, 256), 2.0),
        (lambda: EqualizedLinear(256, 256, gain=1.0), (64, 256), 1.0),
        (lambda: LatentToFeatures(256, 32, (4, 4)), (64, 256), 2 / 16),
    ],
)
def test_variance_at_initialisation(make_layer, shape, variance):
    with torch.no_grad():
        y = make_layer()(torch.randn(shape))
    if y.ndim == 4 and y.shape[2] > 4:
        y = y[:, :, 1:-1, 1:-1]  # zero padding lowers it at the border
    assert y.var().item() == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize(
    "make_layer",
    [lambda: EqualizedConv2d(64, 64, 3), lambda: EqualizedLinear(256, 256), lambda: UpsampleConv2d(64, 64, 3)],
)
def test_weights_start_standard_normal_and_biases_zero(make_layer):
    layer = make_layer()
    assert layer.weight.mean().item() == pytest.approx(0, abs=0.02)
    assert layer.weight.std().item() == pytest.approx(1, abs=0.02)
    assert (layer.bias == 0).all()


def test_first_layer_is_a_4x4_convolution_on_a_1x1_latent():
    layer = LatentToFeatures(6, 5, (4, 4)).double()
    with torch.no_grad():
        layer.bias.copy_(doubles(5))
    latents = doubles(3, 6)
    # As a full convolution: output (i, j) reads the latent through one tap of the kernel.
    kernel = layer.linear.weight.view(5, 4, 4, 6).permute(0, 3, 1, 2).flip(2, 3) * math.sqrt(2 / (6 * 16))
    expected = F.conv2d(latents[:, :, None, None], kernel, layer.bias, padding=3)
    torch.testing.assert_close(layer(latents), expected, rtol=1e-12, atol=1e-12)


# --- up- and down-sampling --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extent", [(1, 1), (4, 4), (15, 17), (16, 16), (32, 8), (24, 20), (5, 64)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_upsampling_convolution_equals_replication_then_convolution_with_gradients(extent, channels_last):
    layer = UpsampleConv2d(3, 4, 3).double()
    with torch.no_grad():
        layer.bias.copy_(doubles(4))
    x = doubles(2, 3, *extent)
    if channels_last:
        layer, x = layer.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    x.requires_grad_()
    replicated = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = F.conv2d(replicated, layer.weight * math.sqrt(2 / 27), layer.bias, padding=1)
    actual = layer(x)
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)
    weights = torch.randn_like(expected)
    inputs = (x, layer.weight, layer.bias)
    torch.testing.assert_close(
        torch.autograd.grad((actual * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        rtol=1e-10,
        atol=1e-10,
    )


def test_both_ways_of_upsampling_are_tested(monkeypatch):
    """The extents above lie on both sides of the threshold: the transposed convolution is taken for some only."""
    calls = []
    original = F.conv_transpose2d
    monkeypatch.setattr(F, "conv_transpose2d", lambda x, *a, **k: calls.append(x.shape[2:]) or original(x, *a, **k))
    layer = UpsampleConv2d(1, 1, 3)
    for extent in [(4, 4), (15, 17), (16, 16), (32, 8)]:
        layer(torch.randn(1, 1, *extent))
    assert calls == [(16, 16), (32, 8)]


def test_upsample_replicates_and_downsample_averages():
    x = doubles(2, 3, 6, 4)
    np.testing.assert_array_equal(upsample(x).numpy(), np.kron(x.numpy(), np.ones((2, 2))))
    expected = x.numpy().reshape(2, 3, 3, 2, 2, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(downsample(x).numpy(), expected, rtol=1e-14)


def test_reals_fade_in_like_the_generators_output():
    images = doubles(2, 3, 8, 6)
    coarse = images.numpy().reshape(2, 3, 4, 2, 3, 2).mean(axis=(3, 5))
    coarse = np.repeat(np.repeat(coarse, 2, axis=2), 2, axis=3)
    for alpha in (0.0, 0.3, 1.0):
        expected = alpha * images.numpy() + (1 - alpha) * coarse
        np.testing.assert_allclose(fade_reals(images, alpha).numpy(), expected, rtol=1e-13, atol=1e-13)


# --- pixel normalisation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 7), (2, 5, 4, 3)])
@pytest.mark.parametrize("size", [1.0, 1e-4, 1e3])
def test_pixel_norm_follows_its_formula(shape, size):
    x = size * doubles(*shape)
    a = x.numpy()
    expected = a / np.sqrt((a**2).sum(axis=1, keepdims=True) / shape[1] + 1e-8)
    np.testing.assert_allclose(PixelNorm()(x).numpy(), expected, rtol=1e-13)


def test_pixel_norm_is_finite_where_all_features_are_zero():
    x = torch.zeros(1, 4, 2, 2, requires_grad=True)
    y = PixelNorm()(x)
    y.sum().backward()
    assert (y == 0).all()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1e4))  # 1 / √ε


def test_pixel_norm_gradients():
    assert torch.autograd.gradcheck(PixelNorm(), doubles(2, 3, 2, 2, requires_grad=True))
    assert torch.autograd.gradcheck(PixelNorm(epsilon=0.5), doubles(3, 4, requires_grad=True))


def test_pixel_norm_sums_half_precision_in_float32():
    x = torch.full((1, 512, 1, 1), 300.0, dtype=torch.float16)  # 300² overflows float16
    assert PixelNorm()(x).dtype == torch.float16
    torch.testing.assert_close(PixelNorm()(x).float(), torch.ones(1, 512, 1, 1), rtol=1e-3, atol=0)


# --- minibatch standard deviation -------------------------------------------------------------------------------------


def minibatch_stddev_by_loops(x, group):
    n, c, h, w = x.shape
    y = np.empty((n, c + 1, h, w))
    y[:, :c] = x
    for first in range(0, n, group):
        total = 0.0
        for channel in range(c):
            for i in range(h):
                for j in range(w):
                    values = x[first : first + group, channel, i, j]
                    mean = sum(values) / group
                    total += math.sqrt(sum((v - mean) ** 2 for v in values) / group + 1e-8)
        y[first : first + group, c] = total / (c * h * w)
    return y


@pytest.mark.parametrize(
    ("n", "group_size", "group"),
    [(8, 4, 4), (12, 4, 4), (6, 3, 3), (3, 16, 3), (14, 16, 14), (4, 1, 1), (1, 4, 1), (2, 2, 2)],
)
def test_minibatch_stddev_equals_an_explicit_loop(n, group_size, group):
    x = doubles(n, 3, 4, 2) * torch.linspace(0.1, 5, n, dtype=torch.float64)[:, None, None, None]
    expected = minibatch_stddev_by_loops(x.numpy(), group)
    actual = MinibatchStdDev(group_size)(x)
    assert actual.shape == (n, 4, 4, 2)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_a_given_group_size_overrides_the_modules():
    x = doubles(6, 2, 2, 2)
    np.testing.assert_allclose(
        MinibatchStdDev(4)(x, group_size=3).numpy(), minibatch_stddev_by_loops(x.numpy(), 3), rtol=1e-12
    )


@pytest.mark.parametrize(("n", "group_size"), [(6, 4), (16, 3), (5, 2)])
def test_minibatch_stddev_refuses_ragged_groups(n, group_size):
    with pytest.raises(ValueError, match=f"batch of {n} does not hold whole groups of {group_size}"):
        MinibatchStdDev(group_size)(torch.zeros(n, 1, 2, 2))


def test_minibatch_stddev_is_taken_in_float32():
    """Of bfloat16 features that hardly differ, the variance would drown in eight bits of mantissa."""
    x = (100 + torch.randn(4, 8, 4, 4)).to(torch.bfloat16)
    expected = torch.from_numpy(minibatch_stddev_by_loops(x.double().numpy(), 4)[:, -1]).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = MinibatchStdDev(4)(x)
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual[:, -1], expected.to(torch.bfloat16), rtol=0, atol=0)


def test_minibatch_stddev_gradients():
    x = doubles(4, 2, 2, 2, requires_grad=True)
    assert torch.autograd.gradcheck(MinibatchStdDev(2), x)
    assert torch.autograd.gradgradcheck(MinibatchStdDev(2), x)


def test_minibatch_stddev_of_equal_images_has_finite_gradients():
    x = torch.ones(4, 2, 2, 2, requires_grad=True)
    MinibatchStdDev(4)(x)[:, -1].sum().backward()
    assert (x.grad == 0).all()


# --- leaky ReLU -------------------------------------------------------------------------------------------------------


def test_leaky_relu_has_leakiness_0_2_and_works_in_place():
    x = torch.tensor([-5.0, -1.0, 0.0, 2.0])
    assert leaky_relu(x) is x
    torch.testing.assert_close(x, torch.tensor([-1.0, -0.2, 0.0, 2.0]))


def test_double_backward_through_the_discriminator():
    """What the gradient penalty needs: second derivatives by images and by every parameter, in-place ReLUs included."""
    D = ProgressiveDiscriminator(resolution=8, channels=1, fmap_base=8, fmap_max=2, mbstd_group=2).double()
    names = [name for name, _ in D.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for p in D.parameters()]

    def scores(images, *values):
        return functional_call(D, dict(zip(names, values, strict=True)), (images,), {"alpha": 0.4})

    images = doubles(2, 1, 8, 8, requires_grad=True)
    assert torch.autograd.gradcheck(scores, (images, *parameters))
    assert torch.autograd.gradgradcheck(scores, (images, *parameters))
