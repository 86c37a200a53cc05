"""The discriminator of patches: pix2pix's layers written out, where the condition joins, what each score sees."""

import copy
import json

import pytest
import torch
from torch import nn

from imago.errors import UserError
from imago.networks.batch_norm import GroupedBatchNorm2d
from imago.networks.jnet import JNet
from imago.networks.patch_discriminator import PatchAutoencoder, PatchDiscriminator
from imago.networks.registry import build


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def tiny(factor: int = 4, **options) -> PatchDiscriminator:
    return PatchDiscriminator(**{"factor": factor, "filters": 4, **options}).double()


def pair(count: int, low: int = 8, factor: int = 4, guide: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and stacks."""
    images = torch.randn(count, 3, factor * low, factor * low, dtype=torch.float64)
    return images, torch.randn(count, 3 + guide, low, low, dtype=torch.float64)


def layers_of(network: PatchDiscriminator, images: torch.Tensor, stacks: torch.Tensor) -> list[tuple]:
    """(in, out, stride, extent of the result) of each convolution of 4, in the order in which they run."""
    seen = []

    def note(module: nn.Conv2d, inputs: tuple, output: torch.Tensor) -> None:
        assert module.kernel_size == (4, 4)
        assert inputs[0].shape[1] == module.in_channels
        seen.append((module.in_channels, module.out_channels, module.stride[0], output.shape[-1]))

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    network(images, stacks)
    return seen


def test_the_network_of_pix2pix_with_the_stack_at_32() -> None:
    """Isola et al. 2017, appendix 6.1.2: C64-C128-C256-C512 and a score, 30 × 30 of them at 256²; 256 + 6 join."""
    network = PatchDiscriminator()
    images, stacks = torch.randn(1, 3, 256, 256), torch.randn(1, 6, 32, 32)
    assert layers_of(network, images, stacks) == [
        (3, 64, 2, 128),
        (64, 128, 2, 64),
        (128, 256, 2, 32),
        (256 + 6, 512, 1, 31),
        (512, 1, 1, 30),
    ]
    assert network(images, stacks).shape == (1, 30 * 30)
    weights = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 262 * 512 + 512)
    extra = 64 + 2 * (128 + 256 + 512) + 1  # a bias where there is no BatchNorm, else its scale and shift
    assert sum(parameter.numel() for parameter in network.parameters()) == weights + extra == 2_814_785
    norms = [isinstance(layer.norm, GroupedBatchNorm2d) for layer in [*network.layers, network.joined]]
    assert norms == [False, True, True, True]


@pytest.mark.parametrize(
    ("factor", "guide", "expected"),
    [
        (2, 0, [(3, 4, 2, 8), (4 + 3, 8, 1, 7), (8, 1, 1, 6)]),
        (4, 6, [(3, 4, 2, 16), (4, 8, 2, 8), (8 + 9, 16, 1, 7), (16, 1, 1, 6)]),
        (16, 3, [(3, 4, 2, 64), (4, 8, 2, 32), (8, 16, 2, 16), (16, 32, 2, 8), (32 + 6, 32, 1, 7), (32, 1, 1, 6)]),
    ],
)
def test_the_stack_joins_at_its_own_extent(factor: int, guide: int, expected: list[tuple]) -> None:
    assert layers_of(tiny(factor, guide_channels=guide), *pair(1, 8, factor, guide)) == expected


@pytest.mark.parametrize(("factor", "field"), [(2, 16), (4, 34), (8, 70), (16, 142)])
def test_what_a_score_sees(factor: int, field: int) -> None:
    """70 × 70 pixels of the image in pix2pix (Isola et al. 2017), 7 × 7 of the stack."""
    low = -(-field // factor) + 4
    network = tiny(factor, norm="none")
    images, stacks = (x.requires_grad_() for x in pair(1, low, factor))
    scores = network(images, stacks)
    side = low - 2
    scores[0, (side // 2) * side + side // 2].backward()
    for gradient, expected in ((images.grad, field), (stacks.grad, 7)):
        seen = gradient[0].abs().sum(dim=0)
        rows, columns = torch.nonzero(seen, as_tuple=True)
        assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (expected, expected)
        assert (seen > 0).sum() == expected**2


def test_shifted_pairs_have_shifted_scores() -> None:
    network = tiny(4, norm="none")
    images, stacks = pair(1, 24)
    scores = network(images[..., :80, :80], stacks[..., :20, :20]).unflatten(1, (18, 18))
    shifted = network(images[..., 8:88, 12:92], stacks[..., 2:22, 3:23]).unflatten(1, (18, 18))
    torch.testing.assert_close(shifted[0, 5:12, 5:12], scores[0, 7:14, 8:15], rtol=0, atol=1e-12)
    assert not torch.allclose(shifted[0, 0], scores[0, 2])


def test_scores_depend_on_the_stack_as_well_as_on_the_image() -> None:
    network = tiny(norm="none")
    images, stacks = pair(2)
    scores = network(images, stacks)
    assert not torch.allclose(scores, network(images, stacks.flip(0)))
    assert not torch.allclose(scores, network(images.flip(0), stacks))


# --- normalisation ----------------------------------------------------------------------------------------------------


def test_minibatches_are_kept_apart() -> None:
    network = tiny()
    (real, stacks), (fake, _) = pair(5), pair(5)
    together = network(torch.cat([real, fake]), stacks.repeat(2, 1, 1, 1), group_size=5)
    torch.testing.assert_close(together, torch.cat([network(real, stacks), network(fake, stacks)]), atol=1e-10, rtol=0)
    assert not torch.allclose(together, network(torch.cat([real, fake]), stacks.repeat(2, 1, 1, 1)))


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_images_are_judged_each_by_itself_without_batch_statistics(norm: str) -> None:
    network = tiny(norm=norm).train()
    images, stacks = pair(4)
    alone = torch.cat([network(images[i : i + 1], stacks[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(network(images, stacks), alone, rtol=0, atol=1e-12)


def test_initial_weights_are_those_of_pix2pix() -> None:
    network = PatchDiscriminator(factor=4, filters=32)
    weights = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.Conv2d)])
    scales = torch.cat([m.weight for m in network.modules() if isinstance(m, GroupedBatchNorm2d)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert scales.mean().item() == pytest.approx(1, abs=0.01)
    assert scales.std().item() == pytest.approx(0.02, rel=0.2)


# --- other outputs ----------------------------------------------------------------------------------------------------


def test_a_vector_is_the_mean_over_the_patches() -> None:
    network = tiny(output="vector", output_size=7, norm="none")
    images, stacks = pair(3)
    vectors = network(images, stacks)
    assert vectors.shape == (3, 7)
    network.output_kind = "score"
    torch.testing.assert_close(vectors, network(images, stacks).unflatten(1, (7, 36)).mean(dim=2))


def test_a_map_has_the_stacks_extent_and_lies_on_it() -> None:
    """The middle of what each of its pixels sees is that pixel: equally many to all sides."""
    network = tiny(output="map", output_size=5, norm="none")
    images, stacks = (x.requires_grad_() for x in pair(2, 16))
    codes = network(images, stacks)
    assert codes.shape == (2, 5, 16, 16)
    codes[0, :, 8, 7].sum().backward()
    rows, columns = torch.nonzero(stacks.grad[0].abs().sum(dim=0), as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 11, 4, 10)
    rows, columns = torch.nonzero(images.grad[0].abs().sum(dim=0), as_tuple=True)
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    assert middle == (8 * 4 + 1.5, 7 * 4 + 1.5)


def test_an_autoencoder_gives_back_images() -> None:
    encoder = tiny(2, output="map", output_size=6)
    decoder = JNet(factor=2, guide="none", crop=8, low_size=8, depth=2, filters=2, code_channels=6).double()
    images, stacks = pair(2, 8, 2)
    assert PatchAutoencoder(encoder, decoder)(images, stacks).shape == images.shape


def test_scores_of_half_precision_features_are_float32() -> None:
    network = PatchDiscriminator(factor=2, filters=2, norm="none")
    images, stacks = (x.float() for x in pair(1, 8, 2))
    with torch.autocast("cpu", torch.bfloat16):
        scores = network(images, stacks)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, network(images, stacks), rtol=0.1, atol=1e-3)


# --- files and mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"norm": "layer", "output": "vector", "output_size": 3}, {"norm": "none"}])
def test_a_network_is_built_again_from_its_config(options: dict) -> None:
    network = tiny(**options).eval()
    again = build("PatchDiscriminator", copy.deepcopy(json.loads(json.dumps(network.config)))).double().eval()
    again.load_state_dict(network.state_dict())
    images, stacks = pair(2)
    assert torch.equal(again(images, stacks), network(images, stacks))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 3}, "power of two from 2 on, not 3"),
        ({"factor": 1}, "power of two from 2 on, not 1"),
        ({"filters": 0}, "model.discriminator_filters must be at least 1"),
        ({"norm": "sample"}, "discriminator_norm must be"),
    ],
)
def test_numbers_that_make_no_network(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PatchDiscriminator(**options)


def test_images_and_stacks_that_do_not_belong_together() -> None:
    images, stacks = pair(1)
    for wrong in (stacks[..., :-1], stacks[..., :-1, :]):
        with pytest.raises(ValueError, match="are not 4 times"):
            tiny()(images, wrong)
