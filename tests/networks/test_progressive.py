import itertools

import pytest
import torch

from imago.errors import UserError
from imago.networks import ProgressiveDiscriminator, ProgressiveGenerator
from imago.networks.layers import MinibatchStdDev, UpsampleConv2d
from imago.networks.progressive import resolution_levels

SMALL = {"fmap_base": 64, "fmap_max": 8}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def generator(resolution=32, latent_size=6, dtype=torch.float64, **options):
    return with_biases(ProgressiveGenerator(resolution, latent_size=latent_size, **SMALL | options).to(dtype))


def discriminator(resolution=32, dtype=torch.float64, **options):
    return with_biases(ProgressiveDiscriminator(resolution, **SMALL | options).to(dtype))


def with_biases(network):
    """Biases start at zero, where a wrong one would go unnoticed."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def latents(n=4, size=6, dtype=torch.float64):
    return torch.randn(n, size, dtype=dtype)


def images(n=4, channels=3, height=32, width=32, dtype=torch.float64):
    return torch.rand(n, channels, height, width, dtype=dtype) * 2 - 1


def halved(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean(dim=(3, 5))


def doubled(x):
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


STAGES = [(4, 1.0), *itertools.product((8, 16, 32), (0.0, 0.4, 1.0))]


# --- fade-in ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_generator_starts_a_fade_in_from_the_replicated_image_below(resolution):
    G, z = generator(), latents()
    torch.testing.assert_close(
        G(z, resolution=resolution, alpha=0.0), doubled(G(z, resolution=resolution // 2)), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_discriminator_starts_a_fade_in_from_its_score_of_the_pooled_images(resolution):
    D, x = discriminator(), images(height=resolution, width=resolution)
    torch.testing.assert_close(D(x, alpha=0.0), D(halved(x)), rtol=0, atol=1e-12)
    assert (D(x, alpha=1.0) - D(halved(x))).abs().min() > 1e-3


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_generator_is_linear_in_alpha(alpha):
    G, z = generator(), latents()
    old, new = G(z, resolution=16, alpha=0.0), G(z, resolution=16, alpha=1.0)
    assert (old - new).abs().max() > 0.1
    torch.testing.assert_close(
        G(z, resolution=16, alpha=alpha), (1 - alpha) * old + alpha * new, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_discriminator_fades_features_after_from_rgb(alpha):
    """Figure 2: the features of the new block and those of the pooled image meet in front of the block below."""
    D, x = discriminator(), images(height=16, width=16)
    met = []
    D.blocks[0].register_forward_pre_hook(lambda _, inputs: met.append(inputs[0].clone()))
    for a in (0.0, 1.0, alpha):
        D(x, alpha=a)
    old, new, mixed = met
    features = torch.nn.functional.leaky_relu(D.from_rgb[1](halved(x)), 0.2)
    torch.testing.assert_close(old, features, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mixed, (1 - alpha) * old + alpha * new, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("resolution", "alpha"), STAGES)
def test_inactive_parameters_do_not_take_part(resolution, alpha):
    """Filled with NaN, they change nothing: at alpha = 1 the images are those of the new path alone."""
    G, D, z, x = generator(), discriminator(), latents(), images(height=resolution, width=resolution)
    calls = ((G, lambda: G(z, resolution=resolution, alpha=alpha)), (D, lambda: D(x, alpha=alpha)))
    for network, call in calls:
        before = call()
        active = {id(p) for p in network.active_parameters(resolution, alpha)}
        inactive = [p for p in network.parameters() if id(p) not in active]
        assert inactive
        for parameter in inactive:
            torch.nn.init.constant_(parameter, float("nan"))
        assert torch.isfinite(before).all()
        assert torch.equal(call(), before)


@pytest.mark.parametrize(("resolution", "alpha"), STAGES)
def test_active_parameters_are_those_with_gradients(resolution, alpha):
    G, D, z, x = generator(), discriminator(), latents(), images(height=resolution, width=resolution)
    G(z, resolution=resolution, alpha=alpha).square().sum().backward()
    D(x, alpha=alpha).sum().backward()
    for network in (G, D):
        with_gradients = {name for name, p in network.named_parameters() if p.grad is not None}
        names = {id(p): name for name, p in network.named_parameters()}
        active = [names[id(p)] for p in network.active_parameters(resolution, alpha)]
        assert len(active) == len(set(active))
        assert set(active) == with_gradients
        if alpha > 0:
            assert all(p.grad.abs().max() > 0 for p in network.active_parameters(resolution, alpha))


def test_the_new_block_gets_no_gradient_when_its_weight_is_zero():
    G = generator()
    G(latents(), resolution=16, alpha=0.0).square().sum().backward()
    assert all((p.grad == 0).all() for p in [*G.blocks[2].parameters(), *G.to_rgb[2].parameters()])
    assert all(p.grad.abs().max() > 0 for p in [*G.blocks[1].parameters(), *G.to_rgb[1].parameters()])


# --- what the networks are --------------------------------------------------------------------------------------------


def reference_generator(state, z, levels):
    """Table 2 and section 4.2, written without any of imago's layers."""

    def pixel_norm(x):
        return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()

    def conv(x, name):
        w, b = state[f"{name}.weight"], state[f"{name}.bias"]
        x = torch.nn.functional.conv2d(x, w * (2 / w[0].numel()) ** 0.5, b, padding=1)
        return pixel_norm(torch.nn.functional.leaky_relu(x, 0.2))

    w, b = state["blocks.0.first.linear.weight"], state["blocks.0.first.bias"]
    x = (pixel_norm(z) @ w.T * (2 / (16 * z.shape[1])) ** 0.5).view(len(z), len(b), 4, 4) + b[:, None, None]
    x = conv(pixel_norm(torch.nn.functional.leaky_relu(x, 0.2)), "blocks.0.second")
    for level in range(1, levels):
        x = conv(conv(doubled(x), f"blocks.{level}.first"), f"blocks.{level}.second")
    w, b = state[f"to_rgb.{levels - 1}.weight"], state[f"to_rgb.{levels - 1}.bias"]
    return torch.einsum("nchw,oc->nohw", x, w[:, :, 0, 0]) / w.shape[1] ** 0.5 + b[:, None, None]


def reference_discriminator(state, x, levels):
    def conv(x, name):
        w, b = state[f"{name}.weight"], state[f"{name}.bias"]
        x = torch.nn.functional.conv2d(x, w * (2 / w[0].numel()) ** 0.5, b, padding=w.shape[-1] // 2)
        return torch.nn.functional.leaky_relu(x, 0.2)

    x = conv(x, f"from_rgb.{levels - 1}")
    for level in range(levels - 1, 0, -1):
        x = halved(conv(conv(x, f"blocks.{level - 1}.first"), f"blocks.{level - 1}.second"))
    statistic = ((x - x.mean(0)).square().mean(0) + 1e-8).sqrt().mean()
    x = conv(torch.cat([x, statistic.expand(len(x), 1, 4, 4)], dim=1), "output.conv")
    w, b = state["output.dense.weight"], state["output.dense.bias"]
    x = torch.nn.functional.leaky_relu(x.flatten(1) @ w.T * (2 / w.shape[1]) ** 0.5 + b, 0.2)
    w, b = state["output.output.weight"], state["output.output.bias"]
    return (x @ w.T / w.shape[1] ** 0.5 + b)[:, 0]


@pytest.mark.parametrize("resolution", [4, 8, 32])
def test_networks_equal_a_plain_transcription_of_table_2(resolution):
    levels = {4: 1, 8: 2, 32: 4}[resolution]
    G, D, z = generator(64), discriminator(64, mbstd_group=4), latents()
    x = images(height=resolution, width=resolution)
    torch.testing.assert_close(
        G(z, resolution=resolution), reference_generator(G.state_dict(), z, levels), rtol=1e-10, atol=1e-10
    )
    torch.testing.assert_close(D(x), reference_discriminator(D.state_dict(), x, levels), rtol=1e-10, atol=1e-10)


def test_only_the_direction_of_a_latent_matters():
    G, z = generator(), latents()
    torch.testing.assert_close(G(7.0 * z), G(z), rtol=1e-6, atol=1e-6)


def test_images_are_not_squashed():
    G = generator()
    with torch.no_grad():
        G.to_rgb[-1].bias.fill_(5.0)
        shifted = G(latents())
    assert shifted.min() > 1


def test_the_final_resolution_is_the_default():
    G, z = generator(16), latents()
    assert torch.equal(G(z), G(z, resolution=16))


def test_minibatches_of_one_pass_are_kept_apart():
    D, real, fake = discriminator(mbstd_group=16), images(3), images(3) * 0.1
    together = D(torch.cat([real, fake]), group_size=3)
    torch.testing.assert_close(together, torch.cat([D(real), D(fake)]), rtol=1e-12, atol=1e-12)
    assert (D(torch.cat([real, fake])) - together).abs().max() > 1e-6


# --- extents and channels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("base", "resolution", "extent"),
    [
        ((4, 4), 32, (32, 32)),
        ((4, 3), 32, (32, 24)),
        ((3, 4), 24, (24, 32)),
        ((5, 4), 20, (20, 16)),
        ((1, 7), 4, (4, 28)),
    ],
)
def test_any_base_extent_and_number_of_channels(base, resolution, extent, channels):
    G = generator(resolution, channels=channels, base=base)
    D = discriminator(resolution, channels=channels, base=base)
    for alpha in (0.5, 1.0):
        made = G(latents(), alpha=alpha)
        assert made.shape == (4, channels, *extent)
        assert D(made, alpha=alpha).shape == (4,)
    below = G(latents(), resolution=resolution // 2)
    assert below.shape == (4, channels, extent[0] // 2, extent[1] // 2)
    assert torch.isfinite(D(below)).all()


def test_levels_of_a_base():
    assert resolution_levels(40, (5, 4)) == (5, 10, 20, 40)
    assert resolution_levels(4, (4, 4)) == (4,)


@pytest.mark.parametrize(
    ("resolution", "base", "message"),
    [
        (48, (4, 4), "resolution 48 is not 4 .* the nearest that are: 32 or 64"),
        (64, (5, 4), "the nearest that are: 40 or 80"),
        (2, (4, 4), "the nearest that are: 4"),
        (32, (4, 0), "base 4×0: both extents must be at least 1"),
    ],
)
def test_impossible_extents_are_told(resolution, base, message):
    for network in (ProgressiveGenerator, ProgressiveDiscriminator):
        with pytest.raises(UserError, match=message):
            network(resolution, base=base, **SMALL)


@pytest.mark.parametrize("options", [{"channels": 0}, {"fmap_base": 0}, {"fmap_max": 0}])
def test_numbers_below_1_are_told(options):
    for network in (ProgressiveGenerator, ProgressiveDiscriminator):
        with pytest.raises(UserError, match="must be at least 1"):
            network(8, **options)
    with pytest.raises(UserError, match="mbstd_group must be at least 1"):
        ProgressiveDiscriminator(8, mbstd_group=0, **SMALL)


def test_at_least_one_feature_map_remains():
    assert [ProgressiveGenerator(32, fmap_base=8, fmap_max=4).feature_maps(level) for level in range(4)] == [4, 2, 1, 1]


def test_generator_refuses_what_it_cannot_do():
    G = generator()
    with pytest.raises(UserError, match="latents have 5 components, this generator takes 6"):
        G(latents(size=5))
    with pytest.raises(UserError, match="was built without labels"):
        G(latents(), labels=torch.zeros(4, 1))
    with pytest.raises(UserError, match="no resolution 64; it has 4, 8, 16, 32"):
        G(latents(), resolution=64)
    with pytest.raises(UserError, match="no resolution 12"):
        G.active_parameters(12, 1.0)


def test_discriminator_refuses_what_it_cannot_do():
    D = discriminator(base=(4, 3))
    with pytest.raises(UserError, match="no resolution 64; it has 4, 8, 16, 32"):
        D(images(height=64, width=48))
    with pytest.raises(UserError, match="3 channels and 32×32; this discriminator takes 3 channels and 32×24"):
        D(images())
    with pytest.raises(UserError, match="4 channels and 32×24; this discriminator takes 3 channels"):
        D(images(channels=4, width=24))
    with pytest.raises(UserError, match="not shown labels"):
        D(images(width=24), labels=torch.zeros(4, 1))


def test_state_and_config_build_the_same_network_again():
    G, D = generator(base=(4, 3), channels=1), discriminator(base=(4, 3), channels=1, mbstd_group=2)
    for network, x in ((G, latents()), (D, images(channels=1, width=24))):
        again = type(network)(**network.config).double()
        assert not torch.equal(again(x), network(x))
        again.load_state_dict(network.state_dict())
        assert torch.equal(again(x), network(x))


# --- precision --------------------------------------------------------------------------------------------------------


def bfloat16():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def test_autocast_computes_in_bfloat16_and_scores_in_float32():
    D, x = discriminator(dtype=torch.float32), images(dtype=torch.float32)
    dtypes = {}
    for name, module in D.named_modules():
        module.register_forward_hook(lambda _, i, y, name=name: dtypes.update({name: (i[0].dtype, y.dtype)}))
    with bfloat16():
        scores = D(x, alpha=0.5)
    assert scores.dtype == torch.float32
    assert dtypes["blocks.0.second"] == (torch.bfloat16, torch.bfloat16)
    assert dtypes["output.conv"][1] == torch.bfloat16
    assert dtypes["output.dense"] == (torch.float32, torch.float32)
    assert dtypes["output.output"] == (torch.float32, torch.float32)


def test_autocast_takes_the_minibatch_statistic_in_float32():
    seen = []

    class Spy(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.overloadpacket in (torch.ops.aten.mean, torch.ops.aten.pow, torch.ops.aten.sqrt):
                seen.append((func.overloadpacket.__name__, args[0].dtype))
            return func(*args, **(kwargs or {}))

    x = images(dtype=torch.float32).to(torch.bfloat16)
    with bfloat16(), torch.no_grad(), Spy():
        MinibatchStdDev(4)(x)
    assert {name for name, _ in seen} == {"mean", "pow", "sqrt"}
    assert {dtype for _, dtype in seen} == {torch.float32}


@pytest.mark.parametrize(("resolution", "alpha"), [(4, 1.0), (16, 0.3), (32, 1.0)])
def test_autocast_stays_close_to_float32(resolution, alpha):
    wide = {"fmap_base": 1024, "fmap_max": 32, "dtype": torch.float32}  # of few maps, all may be near zero at a pixel
    G, D = generator(**wide), discriminator(**wide)
    z, x = latents(dtype=torch.float32), images(height=resolution, width=resolution, dtype=torch.float32)
    with torch.no_grad():
        exact = G(z, resolution=resolution, alpha=alpha), D(x, alpha=alpha)
        with bfloat16():
            rough = G(z, resolution=resolution, alpha=alpha).float(), D(x, alpha=alpha)
    for a, b in zip(exact, rough, strict=True):
        assert 0 < (a - b).norm() < 0.03 * a.norm()


def test_float64_stays_float64():
    assert generator()(latents()).dtype == discriminator()(images()).dtype == torch.float64


def test_generator_gets_all_gradients_under_autocast_after_it_ran_without():
    """A discriminator step runs G under no_grad, then the generator step trains it, under one autocast context.

    With autocast's cache, PyTorch before 2.13 hands the second pass weights that were cast without a graph.
    """
    G, D, z = generator(dtype=torch.float32), discriminator(dtype=torch.float32), latents(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        with torch.no_grad():
            G(z, alpha=0.5)
        D(G(z, alpha=0.5).float(), alpha=0.5).sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in G.active_parameters(32, 0.5))


def test_bfloat16_gradients_are_close_to_float32():
    wide = {"fmap_base": 1024, "fmap_max": 32, "dtype": torch.float32}  # of few maps, rounding does not average out
    G, z = generator(16, **wide), latents(16, dtype=torch.float32)
    grads = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled, cache_enabled=False):
            y = G(z, alpha=0.5).float()
        grads.append(torch.autograd.grad(y.square().mean(), G.active_parameters(16, 0.5)))
    for exact, rough in zip(*grads, strict=True):
        assert (exact - rough).norm() < 0.1 * exact.norm()


def test_up_sampling_uses_both_ways_at_these_extents():
    """The networks above cover the transposed convolution (from 16 × 16 inputs on) as well as the plain one."""
    extents = []
    G = generator()
    for module in G.modules():
        if isinstance(module, UpsampleConv2d):
            module.register_forward_pre_hook(lambda _, inputs: extents.append(inputs[0].shape[2]))
    G(latents())
    assert extents == [4, 8, 16]
