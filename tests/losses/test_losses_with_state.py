"""LSGAN's noise, BEGAN's k, WGAN's clipping, Cramér's energy distance."""

import pytest
import torch
from torch import nn

from imago.errors import UserError
from imago.losses import Began, Cramer, Lsgan, Wgan
from imago.networks import DCGANDiscriminator, ProgressiveDiscriminator
from imago.networks.multiplicative_noise import multiplicative_noise


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64)


# --- LSGAN ------------------------------------------------------------------------------------------------------------


def after(loss, real_score, fake_score=0.0):
    terms = {"real_score": torch.tensor(real_score), "fake_score": torch.tensor(fake_score)}
    loss.after_discriminator_step(nn.Identity(), terms)
    return loss.noise_strength


def test_lsgan_noise_follows_the_discriminators_output():
    """Karras et al. 2018, appendix B: 0.2 · max(0, d̂ − 0.5)², d̂ = 0.1 d + 0.9 d̂."""
    loss, average = Lsgan(), 0.0
    assert loss.noise_strength == 0
    for d in (1.0, 1.0, 4.0, 0.9, 1.1, -0.3, 1.5):
        average = 0.1 * d + 0.9 * average
        assert after(loss, d) == pytest.approx(0.2 * max(0.0, average - 0.5) ** 2, rel=1e-6, abs=1e-12)
    assert loss.noise_strength > 0
    again = Lsgan()
    again.load_state_dict(loss.state_dict())
    assert again.noise_strength == loss.noise_strength
    images = torch.zeros(2, 1, 2, 2)
    terms = loss.discriminator_loss(lambda x: x.flatten(1).sum(1), images, [images], torch.zeros(2))
    assert terms["noise_strength"].item() == pytest.approx(loss.noise_strength)


def test_with_inverted_targets_the_fakes_are_followed():
    loss = Lsgan(real_target=0.0, fake_target=1.0)
    after(loss, real_score=-5.0, fake_score=10.0)
    assert loss.average_output.item() == pytest.approx(1.0)


def noise_in(network, images, strength=0.3, first=0):
    with multiplicative_noise(network, strength, 7, "noise", first, len(images) // 2):
        return network(images, group_size=len(images) // 2)


@pytest.mark.parametrize("kind", ["pggan", "dcgan"])
def test_noise_in_the_discriminator(kind):
    if kind == "pggan":
        network, convolutions = ProgressiveDiscriminator(16, fmap_base=32, fmap_max=8).double(), 6
    else:
        network, convolutions = DCGANDiscriminator(resolution=16, filters=4).double(), 3
    images = doubles(8, 3, 16, 16)
    plain, noisy = network(images, group_size=4), noise_in(network, images)
    assert not torch.allclose(plain, noisy, rtol=0.01)
    assert torch.equal(noisy, noise_in(network, images))
    assert torch.equal(plain, network(images, group_size=4))  # it is gone afterwards
    assert not torch.equal(noisy, noise_in(network, images, first=4))
    assert torch.equal(plain, noise_in(network, images, strength=0.0))
    hooked = []
    with multiplicative_noise(network, 0.1, 0, "", 0, 4):
        hooked = [module for module in network.modules() if module._forward_pre_hooks]
    assert len(hooked) == convolutions  # PGGAN at 16²: 2 + 2 blocks' 3 × 3, then 3 × 3 and 4 × 4; DCGAN: all
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_the_noise_multiplies_the_input():
    """One convolution: y = W (x (1 + s ε)), linear in s, and its mean over many draws is W x."""
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False)).double()
    x = doubles(1, 1, 5, 5).expand(4000, 1, 5, 5)

    def noisy(strength):
        with multiplicative_noise(network, strength, 0, "n", 0, 4000):
            return network(x)

    change = noisy(0.1) - network(x)
    torch.testing.assert_close(noisy(0.2) - network(x), 2 * change, rtol=1e-9, atol=1e-12)
    variance = nn.functional.conv2d(x[:1].square() * 0.01, network[0].weight.square(), padding=1)
    error = change.mean(0) / (variance[0] / 4000).sqrt()
    assert error.abs().max() < 5
    torch.testing.assert_close(change.var(0), variance[0], rtol=0.2, atol=0)


# --- BEGAN ------------------------------------------------------------------------------------------------------------


def halved(images):
    return images / 2


def test_began_by_hand():
    """Berthelot et al. 2017, section 3.3: L(x) − k L(G), k ← k + λ (γ L(x) − L(G)), M = L(x) + |γ L(x) − L(G)|."""
    loss = Began(diversity=0.5, k_rate=0.1)
    real, fake = torch.full((2, 1, 2, 2), 4.0), torch.full((2, 1, 2, 2), 0.4)  # errors of 2 and 0.2 when halved
    k = 0.0
    for _ in range(3):
        terms = loss.discriminator_loss(halved, real, [fake], torch.zeros(2))
        assert terms["loss"].item() == pytest.approx(2 - k * 0.2, rel=1e-6)
        assert terms["convergence"].item() == pytest.approx(2 + abs(1 - 0.2), rel=1e-6)
        assert terms["k"].item() == pytest.approx(k, rel=1e-6)
        loss.after_discriminator_step(nn.Identity(), terms)
        k += 0.1 * (0.5 * 2 - 0.2)
    assert loss.k.item() == pytest.approx(0.24, rel=1e-6)
    assert loss.generator_loss(halved, fake)["loss"].item() == pytest.approx(0.2)
    again = Began()
    again.load_state_dict(loss.state_dict())
    assert again.k == loss.k


@pytest.mark.parametrize(("real", "fake", "end"), [(100.0, 0.0, 1.0), (0.0, 100.0, 0.0)])
def test_k_stays_within_0_and_1(real, fake, end):
    loss = Began(k_rate=0.5)
    for _ in range(3):
        terms = {"real_score": torch.tensor(real), "fake_score": torch.tensor(fake)}
        loss.after_discriminator_step(nn.Identity(), terms)
    assert loss.k.item() == end


def test_gradients_of_began():
    loss = Began(r1=0.5)
    loss.k.fill_(0.3)
    w = doubles(4).requires_grad_()
    real, fake = doubles(3, 1, 2, 2), doubles(3, 1, 2, 2)

    def value(w):
        def autoencoder(images):
            return torch.tanh(images.flatten(1) * w).view_as(images)

        return loss.discriminator_loss(autoencoder, real, [fake], torch.zeros(3))["loss"]

    assert torch.autograd.gradcheck(value, (w,))


# --- WGAN -------------------------------------------------------------------------------------------------------------


def test_clipping_acts_on_effective_weights():
    network = ProgressiveDiscriminator(8, fmap_base=16, fmap_max=4)
    Wgan(clip=0.03).after_discriminator_step(network, {})
    layer = network.output.conv
    assert layer.scale != 1
    effective = layer.weight * layer.scale
    assert effective.abs().max().item() == pytest.approx(0.03, rel=1e-5)
    assert network.output.dense.bias.abs().max() <= 0.03
    plain = DCGANDiscriminator(resolution=16, filters=4)
    Wgan(clip=0.01).after_discriminator_step(plain, {})
    assert max(p.abs().max().item() for p in plain.parameters()) == pytest.approx(0.01)


# --- Cramér -----------------------------------------------------------------------------------------------------------


def flattened(images):
    return images.flatten(1)


def distances(a, b):
    return torch.cdist(a.flatten(1), b.flatten(1))


def test_the_generator_minimises_the_energy_distance():
    """With h = identity: 2 E‖x − y‖ − E‖y − y′‖ over independent pairs, against all pairs (Székely & Rizzo)."""
    real, fake = doubles(3000, 1, 1, 2), 1.0 + 0.5 * doubles(3000, 1, 1, 2)
    found = Cramer().generator_loss(flattened, fake, real)["loss"].item()
    n = len(fake)
    expected = 2 * distances(real, fake).mean() - distances(fake, fake).sum() / (n * (n - 1))
    assert found == pytest.approx(expected.item(), abs=0.1)
    shifted = Cramer().generator_loss(flattened, real.flip(0), real)["loss"].item()
    assert shifted < found  # smaller where the distributions are equal


def test_the_critic_of_cramer():
    real, fake, other = (doubles(4, 1, 1, 2) for _ in range(3))
    loss = Cramer(gradient_penalty=0)
    terms = loss.discriminator_loss(flattened, real, [fake, other], torch.zeros(4))

    def f(images):
        return [(a - b).norm() - a.norm() for a, b in zip(images.flatten(1), other.flatten(1), strict=True)]

    expected = (sum(f(fake)) - sum(f(real))) / 4
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-12)


def test_gradients_of_cramer():
    w = doubles(3, 4).requires_grad_()
    images = [doubles(4, 1, 2, 2) for _ in range(3)]
    uniform = torch.rand(4, dtype=torch.float64)

    def value(w):
        def h(x):
            return torch.tanh(x.flatten(1) @ w.T)

        return Cramer(output_size=3).discriminator_loss(h, images[0], images[1:], uniform)["loss"]

    assert torch.autograd.gradcheck(value, (w,))


@pytest.mark.parametrize(("count", "partners"), [(4, [1, 0, 3, 2]), (5, [1, 0, 3, 4, 2]), (3, [1, 2, 0])])
def test_the_generator_loss_of_cramer_by_hand(count, partners):
    """E[‖h(x) − h(y)‖ + ‖h(x) − h(y′)‖ − ‖h(y) − h(y′)‖]; every fake is y once, another one of the batch y′."""
    real, fake = doubles(count, 1, 1, 2), doubles(count, 1, 1, 2)
    expected = 0.0
    for i, j in enumerate(partners):
        x, y, other = real[i], fake[i], fake[j]
        expected += float((x - y).norm() + (x - other).norm() - (y - other).norm()) / count
    assert Cramer().generator_loss(flattened, fake, real)["loss"].item() == pytest.approx(expected, rel=1e-12)


def test_the_generator_loss_of_cramer_is_additive_and_has_the_right_gradient():
    real, fake = doubles(6, 1, 2, 2), doubles(6, 1, 2, 2).requires_grad_()

    def value(images, part=slice(0, 6)):
        return Cramer().generator_loss(lambda x: torch.tanh(x.flatten(1)), images[part], real[part])["loss"]

    parts = [value(fake, slice(i, i + 2)) for i in range(0, 6, 2)]
    torch.testing.assert_close(torch.stack(parts).mean(), value(fake), rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(value, (fake,))


def test_a_single_image_has_nothing_to_be_compared_with():
    with pytest.raises(UserError, match="must be at least 2"):
        Cramer().generator_loss(flattened, doubles(1, 1, 1, 2), doubles(1, 1, 1, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lsgan(noise=-1), "loss.noise"),
        (lambda: Lsgan(real_target=1, fake_target=1), "must differ"),
        (lambda: Lsgan(real_target=float("inf")), "must differ and be finite"),
        (lambda: Lsgan(fake_target=float("nan")), "must differ and be finite"),
        (lambda: Wgan(clip=0), "loss.clip"),
        (lambda: Began(diversity=0), "loss.diversity"),
        (lambda: Began(k_rate=0), "loss.k_rate"),
        (lambda: Cramer(output_size=0), "loss.output_size"),
    ],
)
def test_options_out_of_range(make, message):
    with pytest.raises(UserError, match=message):
        make()
