import copy

import pytest
import torch
from torch import nn

from imago.errors import UserError
from imago.networks import DCGANDiscriminator, DCGANGenerator, HDCGANDiscriminator, HDCGANGenerator
from imago.networks.autoencoder import AutoencoderDiscriminator
from imago.networks.pyramid import PyramidDiscriminator, PyramidGenerator
from imago.networks.registry import build


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# --- the published shape ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "layers"), [(32, 4), (256, 7), (512, 8)])
def test_the_size_sets_the_number_of_layers(size, layers):
    """Curtó et al. 2020, section 4.2: 32 has four layers, 256 seven."""
    with torch.device("meta"):
        generator, discriminator = HDCGANGenerator(resolution=size), HDCGANDiscriminator(resolution=size)
    assert len(generator.layers) + 1 == layers
    assert len(discriminator.layers) + 1 == layers


@pytest.mark.parametrize(
    ("size", "limit", "generator", "discriminator"),
    [
        (128, None, 12.8, 11.2),
        (256, None, 48.0, 44.7),
        (512, None, 185.5, 179.0),
        (512, 1024, 46.3, 44.7),
    ],
)
def test_parameters_in_millions(size, limit, generator, discriminator):
    """Counted for the pyramid of the WGAN authors' DCGAN with 64 filters; batch normalisation adds a few thousand."""
    with torch.device("meta"):
        G = HDCGANGenerator(resolution=size, max_channels=limit)
        D = HDCGANDiscriminator(resolution=size, max_channels=limit)
    assert parameters(G) / 1e6 == pytest.approx(generator, abs=0.06)
    assert parameters(D) / 1e6 == pytest.approx(discriminator, abs=0.06)


def test_widths_and_extents_of_dcgan():
    """Radford et al. 2016, figure 1: 4 × 4 features, halved feature maps at doubled extents."""
    G = DCGANGenerator(resolution=64, filters=8)
    sizes = []
    for layer in G.layers:
        layer.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))
    images = G(torch.randn(2, 100))
    assert sizes == [(64, 4, 4), (32, 8, 8), (16, 16, 16), (8, 32, 32)]
    assert images.shape == (2, 3, 64, 64)
    assert images.abs().max() <= 1


def test_initial_weights_are_those_of_dcgan():
    G = DCGANGenerator(resolution=64, filters=32)
    weights = torch.cat([layer.conv.weight.flatten() for layer in G.layers])
    scales = torch.cat([layer.norm.weight for layer in G.layers])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert scales.mean().item() == pytest.approx(1, abs=0.01)
    assert scales.std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("network", [DCGANGenerator, HDCGANGenerator])
def test_a_generator_is_built_again_from_its_config(network):
    G = network(resolution=16, filters=4, latent_size=5, telescope=2).eval()
    again = build(type(G).__name__, copy.deepcopy(G.config)).eval()
    again.load_state_dict(G.state_dict())
    z = torch.randn(3, 5)
    assert torch.equal(G(z), again(z))


# --- against the layers written out -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bs_order", ["bn_selu", "selu_bn"])
def test_the_generator_is_transposed_convolutions_and_bs_layers(bs_order):
    G = HDCGANGenerator(resolution=16, filters=4, latent_size=5, bs_order=bs_order).double().train()
    x = torch.randn(6, 5, dtype=torch.float64)
    expected = x[:, :, None, None]
    for i, layer in enumerate(G.layers):
        weight = layer.conv.weight
        expected = torch.nn.functional.conv_transpose2d(expected, weight, stride=2 if i else 1, padding=1 if i else 0)
        steps = [lambda v, layer=layer: normalised(v, layer.norm), selu]
        for step in steps if bs_order == "bn_selu" else steps[::-1]:
            expected = step(expected)
    expected = torch.tanh(torch.nn.functional.conv_transpose2d(expected, G.to_image.weight, stride=2, padding=1))
    torch.testing.assert_close(G(x), expected, rtol=1e-9, atol=1e-12)


def normalised(x, norm):
    mean, variance = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), keepdim=True, correction=0)
    return (x - mean) / (variance + 1e-5).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


def selu(x):
    """Curtó et al. 2020, equation 9, with the constants of Klambauer et al. 2017."""
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return scale * torch.where(x > 0, x, alpha * (x.exp() - 1))


def test_minibatches_are_kept_apart():
    D = HDCGANDiscriminator(resolution=16, filters=4).double()
    real, fake = torch.randn(2, 5, 3, 16, 16, dtype=torch.float64).unbind()
    together = D(torch.cat([real, fake]), group_size=5)
    torch.testing.assert_close(together, torch.cat([D(real), D(fake)]), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(together, D(torch.cat([real, fake])))
    with pytest.raises(ValueError, match="whole groups of 4"):
        D(torch.cat([real, fake]), group_size=4)


def test_no_normalisation_next_to_the_image():
    D = DCGANDiscriminator(resolution=32, filters=4)
    assert [isinstance(layer.norm, nn.BatchNorm2d) for layer in D.layers] == [False, True, True]
    layer = DCGANDiscriminator(resolution=32, filters=4, norm="layer").layers[1].norm
    assert isinstance(layer, nn.GroupNorm)
    assert layer.num_groups == 1


# --- Glasses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("telescope", "extent", "layers"), [(1, (32, 32), 4), (2, (64, 64), 5), (4, (128, 128), 6), ((2, 1), (64, 32), 5)]
)
def test_a_telescope_adds_layers_and_keeps_the_filters(telescope, extent, layers):
    G = HDCGANGenerator(resolution=32, filters=4, telescope=telescope)
    D = HDCGANDiscriminator(resolution=32, filters=4, telescope=telescope)
    images = G(torch.randn(2, 100))
    assert images.shape == (2, 3, *extent)
    assert len(G.layers) + 1 == layers
    assert {conv.kernel_size for conv in G.modules() if isinstance(conv, nn.ConvTranspose2d)} == {(4, 4)}
    assert D(images).shape == (2,)
    back = G.read_back(images)
    assert back.shape == (2, 3, 32, 32)
    height, width = extent[0] // 32, extent[1] // 32
    torch.testing.assert_close(back, images.unflatten(3, (32, width)).unflatten(2, (32, height)).mean(dim=(3, 5)))


def test_upright_images():
    G = DCGANGenerator(resolution=40, base=(5, 4), filters=2)
    assert G(torch.randn(2, 100)).shape == (2, 3, 40, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"telescope": 3}, "power of two"),
        ({"telescope": (1, 8), "base": (4, 4)}, "cannot be stretched"),
        ({"resolution": 4}, "needs at least 8"),
        ({"resolution": 48}, "nearest that are: 32 or 64"),
        ({"filters": 0}, "at least 1"),
        ({"norm": "instance"}, "batch, sync, layer, none"),
        ({"init": "he"}, "normal, lecun"),
        ({"bs_order": "selu"}, "bn_selu, selu_bn"),
    ],
)
def test_pyramids_that_cannot_be_built(options, message):
    with pytest.raises(UserError, match=message):
        HDCGANGenerator(**options)


def test_inputs_that_do_not_fit():
    G, D = DCGANGenerator(resolution=16, filters=2, label_size=3), DCGANDiscriminator(resolution=16, filters=2)
    with pytest.raises(UserError, match="latents have 7 components"):
        G(torch.randn(2, 7))
    with pytest.raises(UserError, match="this generator needs labels: 2 × 3, one-hot"):
        G(torch.randn(2, 100))
    with pytest.raises(UserError, match="images of 16 only, not 8"):
        G(torch.randn(2, 100), torch.zeros(2, 3), resolution=8)
    with pytest.raises(UserError, match="takes 3×16×16"):
        D(torch.randn(2, 3, 32, 32))


def test_vectors_and_logits():
    D = DCGANDiscriminator(resolution=16, filters=2, output_size=5, label_logits=4)
    outputs, logits = D.outputs_and_logits(torch.randn(6, 3, 16, 16))
    assert outputs.shape == (6, 5)
    assert logits.shape == (6, 4)
    assert DCGANDiscriminator(resolution=16, filters=2).outputs_and_logits(torch.randn(6, 3, 16, 16))[1] is None


def test_an_autoencoder_returns_images():
    encoder = DCGANDiscriminator(resolution=16, filters=2, output_size=7)
    network = AutoencoderDiscriminator(encoder, DCGANGenerator(resolution=16, filters=2, latent_size=7))
    assert network(torch.randn(6, 3, 16, 16)).shape == (6, 3, 16, 16)


# --- self-normalisation -----------------------------------------------------------------------------------------------


def moments_of_layers(network, x):
    found = []
    hooks = [
        layer.register_forward_hook(lambda module, inputs, output: found.append((output.mean(), output.var())))
        for layer in network.layers
    ]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return torch.tensor(found)


@pytest.mark.parametrize("order", ["norm_first", "activation_first"])
@pytest.mark.parametrize(("network", "size"), [(PyramidGenerator, 256), (PyramidDiscriminator, 256)])
def test_bs_layers_hold_mean_and_variance_where_selu_alone_drifts(network, size, order):
    """Curtó et al. 2020, section 4.1: BatchNorm keeps (μ, ν) close to (0, 1) when SELU does not."""
    options = {"resolution": size, "filters": 4, "activation": "selu", "order": order}
    x = torch.randn(8, 100) if network is PyramidGenerator else torch.randn(8, 3, size, size)
    bs = moments_of_layers(network(norm="batch", **options), x)
    alone = moments_of_layers(network(norm="none", **options), x)
    start = 1 if network is PyramidDiscriminator else 0  # whose first layer has no normalisation
    assert bs[start:, 0].abs().max() < 0.1
    assert bs[start:, 1].min() > 0.8
    assert bs[start:, 1].max() < 1.2
    assert alone[-1, 1] < 1e-3  # the drift: from a variance near 1 to nearly none in six layers


def test_the_fixed_point_of_selu():
    """Klambauer et al. 2017: SELU of standard normals has mean 0 and variance 1; so both orders of BS hold them."""
    x = selu(torch.randn(2_000_000, dtype=torch.float64))
    assert x.mean().item() == pytest.approx(0, abs=4e-3)
    assert x.var().item() == pytest.approx(1, abs=6e-3)


@pytest.mark.parametrize("telescope", [2.0, None, True, [1.5, 1], ["a", "b"], [2, [1]], 0, [2]])
def test_telescopes_of_other_types(telescope):
    with pytest.raises(UserError, match=r"model\.telescope must be a power of two"):
        HDCGANGenerator(telescope=telescope)
