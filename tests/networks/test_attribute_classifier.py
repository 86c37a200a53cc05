"""Shapes, what a file needs to build it again, and that it can learn."""

import pytest
import torch

from imago.errors import UserError
from imago.networks import registry
from imago.networks.attribute_classifier import AttributeClassifier

ATTRIBUTES = {"Eyes Color": ("brown", "blue", "green"), "Smile.v2": ("yes", "no")}


@pytest.mark.parametrize(("height", "width"), [(64, None), (16, None), (40, 32), (4, 4)])
def test_shapes(height, width):
    network = AttributeClassifier(ATTRIBUTES, height, width, channels=1, base_width=8, max_width=32)
    images = torch.randn(5, 1, height, width or height)
    assert [tuple(logits.shape) for logits in network(images)] == [(5, 3), (5, 2)]
    blocks = len(network.blocks)
    assert min(height, width or height) == 4 * 2**blocks
    assert network.features % (8 if blocks == 0 else min(32, 8 * 2**blocks)) == 0


def test_images_do_not_look_at_each_other():
    """GroupNorm, unlike BatchNorm: an image's logits are the same in any company, in training too."""
    torch.manual_seed(0)
    network = AttributeClassifier(ATTRIBUTES, 16).train()
    images = torch.randn(6, 3, 16, 16)
    together, alone = network(images), network(images[2:3])
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one[2:3], other, rtol=1e-4, atol=1e-5)


def test_every_weight_takes_part_and_keep_acts_on_the_heads():
    network = AttributeClassifier(ATTRIBUTES, 16)
    sum(logits.square().sum() for logits in network(torch.randn(4, 3, 16, 16))).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())
    nothing = network(torch.randn(4, 3, 16, 16), torch.zeros(4, network.features))
    for logits, head in zip(nothing, network.heads, strict=True):
        torch.testing.assert_close(logits, head.bias.expand_as(logits))


def test_it_is_built_again_from_its_configuration():
    network = AttributeClassifier(ATTRIBUTES, 32, 16, base_width=8, max_width=16)
    again = registry.build("AttributeClassifier", network.config)
    again.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 32, 16)
    assert all(torch.equal(a, b) for a, b in zip(network(images), again(images), strict=True))


def test_mistakes():
    for options, expected in (
        ({"base_width": 12}, "multiples of 8"),
        ({"max_width": 0}, "multiples of 8"),
        ({"resolution": 2}, "too small"),
        ({"attributes": {}}, "at least two values"),
        ({"attributes": {"Hat": ("no",)}}, "at least two values"),
    ):
        with pytest.raises(UserError, match=expected):
            AttributeClassifier(**{"attributes": ATTRIBUTES, "resolution": 16, **options})
