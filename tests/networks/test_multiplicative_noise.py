"""The noise of appendix B: where it acts, what keys it, and that gradients of gradients pass through it."""

import contextlib
import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from imago.networks import DCGANDiscriminator
from imago.networks.multiplicative_noise import multiplicative_noise


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def small_network():
    layers = [nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 2, 4, stride=2, padding=1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, 1), nn.Flatten(0)).double()


def noisy(network, images, first=0, count=None, purpose="n", strength=0.3, seed=5):
    with multiplicative_noise(network, strength, seed, purpose, first, count or len(images)):
        return network(images)


def test_only_convolutions_of_3_by_3_and_4_by_4_have_it():
    kept = [nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 5, padding=2), nn.Linear(4, 4)]
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), *kept, nn.Conv2d(1, 1, 4, padding=1))
    with multiplicative_noise(network, 0.1, 0, "n", 0, 1):
        hooked = [layer for layer in network if layer._forward_pre_hooks]
    assert hooked == [network[0], network[4]]


def test_an_image_has_the_noise_of_its_global_position():
    """Whatever process or micro-batch it is in; the reals and the fakes of one position have noise of their own."""
    network, images = small_network(), doubles(4, 2, 4, 4)
    whole = noisy(network, images, first=8)
    parts = torch.cat([noisy(network, images[:2], first=8), noisy(network, images[2:], first=10)])
    torch.testing.assert_close(whole, parts, rtol=1e-12, atol=1e-12)
    same = images[:1].expand(4, -1, -1, -1)
    assert len(noisy(network, same).unique()) == 4
    two_sets = noisy(network, torch.cat([same[:2], same[:2]]), count=2)
    assert len(two_sets.unique()) == 4
    torch.testing.assert_close(two_sets[:2], noisy(network, same[:2]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("change", [{"purpose": "m"}, {"seed": 6}, {"first": 1}])
def test_what_keys_the_draws(change):
    network, images = small_network(), doubles(2, 2, 4, 4)
    assert torch.equal(noisy(network, images), noisy(network, images))
    assert not torch.isclose(noisy(network, images), noisy(network, images, **change)).any()


def test_layers_have_draws_of_their_own():
    """Two equal layers: (1 + s ε₁) (1 + s ε₂) of each number, not (1 + s ε)²."""
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
    with torch.no_grad():
        layer.weight.zero_()[0, 0, 1, 1] = 1  # identity
    ones = torch.ones(1, 1, 6, 6, dtype=torch.float64)
    both = noisy(nn.Sequential(layer, copy.deepcopy(layer)), ones)
    once = noisy(nn.Sequential(layer), ones)
    assert not torch.isclose(both, once.square()).any()
    assert not torch.isclose(both, once).any()


def test_second_derivatives_pass_through_it():
    """What R1 needs: finite differences of the squared gradient at the images."""
    network = small_network()
    names = [name for name, _ in network.named_parameters()]
    images = doubles(2, 2, 4, 4).requires_grad_()

    def squared_gradient(*values):
        with multiplicative_noise(network, 0.3, 0, "n", 0, 2):
            scores = functional_call(network, dict(zip(names, values, strict=True)), (images,))
        (gradients,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
        return gradients.square().sum()

    plain = [parameter.detach().clone().requires_grad_() for parameter in network.parameters()]
    assert torch.autograd.gradcheck(squared_gradient, plain)


def test_it_leaves_nothing_behind():
    network = small_network()
    names = list(network.state_dict())
    entered = multiplicative_noise(network, 0.1, 0, "n", 0, 2)
    with contextlib.suppress(RuntimeError), entered:
        kept, copied = list(network.state_dict()), copy.deepcopy(network)
        raise RuntimeError
    assert kept == names
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert copied.state_dict().keys() == network.state_dict().keys()


def test_no_strength_costs_nothing(monkeypatch):
    monkeypatch.setattr("imago.networks.multiplicative_noise.normal_tensors", None)
    network, images = small_network(), doubles(2, 2, 4, 4)
    assert torch.equal(noisy(network, images, strength=0.0), network(images))


@pytest.mark.parametrize("base", [(5, 4), (2, 2), (4, 2)])
def test_the_last_convolution_of_a_pyramid_has_it_whatever_its_shape(base):
    network = DCGANDiscriminator(resolution=4 * base[0], base=base, filters=2)
    with multiplicative_noise(network, 0.1, 0, "n", 0, 1):
        assert network.output._forward_pre_hooks
