"""The J-net: its layers written out, its skip connections, its normalisations, what it keeps and what it refuses."""

import copy
import json

import pytest
import torch
from torch import nn

from imago.errors import UserError
from imago.networks.jnet import JNet
from imago.networks.registry import build

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def convolutions(network: nn.Module, stack: torch.Tensor) -> list[tuple]:
    """(in, out, kernel, stride, extent of the result) of each convolution, in the order in which they run."""
    seen = []

    def note(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        assert inputs[0].shape[1] == module.in_channels
        kernel, stride = module.kernel_size[0], module.stride[0]
        seen.append((module.in_channels, module.out_channels, kernel, stride, output.shape[-1]))

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, CONVOLUTIONS)]
    with torch.no_grad():
        network(stack)
    for hook in hooks:
        hook.remove()
    return seen


# --- the layers -------------------------------------------------------------------------------------------------------

# Tyka 2017: an encoder from 32² with a quarter of the decoder's channels, two more convolutions after each
# deconvolution, skip connections at equal extents; 8 times larger.
ENCODER = [(6, 128, 3, 1, 32), (128, 128, 4, 2, 16), (128, 128, 4, 2, 8), (128, 128, 4, 2, 4)]
DECODER = [
    *[(128, 512, 4, 2, 8), (512 + 128, 512, 3, 1, 8), (512, 512, 3, 1, 8)],
    *[(512, 512, 4, 2, 16), (512 + 128, 512, 3, 1, 16), (512, 512, 3, 1, 16)],
    *[(512, 512, 4, 2, 32), (512 + 128, 512, 3, 1, 32), (512, 512, 3, 1, 32)],
    *[(512, 256, 4, 2, 64), (256, 256, 3, 1, 64), (256, 256, 3, 1, 64)],
    *[(256, 128, 4, 2, 128), (128, 128, 3, 1, 128), (128, 128, 3, 1, 128)],
    *[(128, 64, 4, 2, 256), (64, 64, 3, 1, 256), (64, 64, 3, 1, 256)],
]
IMAGE = [(64, 3, 3, 1, 256)]


def test_the_network_of_the_post() -> None:
    with torch.device("meta"):
        network = JNet()
        assert convolutions(network, torch.empty(2, 6, 32, 32)) == [*ENCODER, *DECODER, *IMAGE]
        assert network(torch.empty(2, 6, 32, 32)).shape == (2, 3, 256, 256)
    weights = sum(inputs * outputs * kernel**2 + outputs for inputs, outputs, kernel, *_ in ENCODER + DECODER + IMAGE)
    assert sum(parameter.numel() for parameter in network.parameters()) == weights == 30_464_771


def test_narrow_networks_double_their_widths_at_every_smaller_extent() -> None:
    network = JNet(factor=4, crop=16, depth=2, low_size=16, filters=4, guide="channels")
    assert convolutions(network, torch.randn(1, 9, 16, 16)) == [
        *[(9, 4, 3, 1, 16), (4, 8, 4, 2, 8), (8, 16, 4, 2, 4)],
        *[(16, 32, 4, 2, 8), (32 + 8, 32, 3, 1, 8), (32, 32, 3, 1, 8)],
        *[(32, 16, 4, 2, 16), (16 + 4, 16, 3, 1, 16), (16, 16, 3, 1, 16)],
        *[(16, 8, 4, 2, 32), (8, 8, 3, 1, 32), (8, 8, 3, 1, 32)],
        *[(8, 4, 4, 2, 64), (4, 4, 3, 1, 64), (4, 4, 3, 1, 64)],
        (4, 3, 3, 1, 64),
    ]


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
@pytest.mark.parametrize("guide", ["rgb", "none"])
@pytest.mark.parametrize("upsampling", ["transposed", "upconv"])
def test_any_extent_that_can_be_halved_is_enlarged(factor: int, guide: str, upsampling: str) -> None:
    network = JNet(factor=factor, guide=guide, filters=2, upsampling=upsampling)
    images = network(torch.randn(2, network.inputs, 8, 24))
    assert images.shape == (2, 3, 8 * factor, 24 * factor)
    assert images.abs().max() <= 1


def test_the_decoder_of_an_autoencoder_reads_codes() -> None:
    network = JNet(factor=2, guide="rgb", filters=2, code_channels=5)
    assert network(torch.randn(1, 5, 32, 32)).shape == (1, 3, 64, 64)


# --- skip connections -------------------------------------------------------------------------------------------------


def test_skip_connections_carry_the_encoders_features_to_equal_extents() -> None:
    network = JNet(factor=4, filters=4).eval()
    kept: dict[int, torch.Tensor] = {}
    joined: dict[int, torch.Tensor] = {}
    for layer in network.encoder:
        layer.register_forward_hook(lambda module, inputs, output: kept.update({output.shape[-1]: output}))
    for step in network.decoder:
        step[1].register_forward_pre_hook(lambda module, inputs: joined.update({inputs[0].shape[-1]: inputs[0]}))
    network(torch.randn(1, 6, 32, 32))
    assert set(kept) == {32, 16, 8, 4}
    assert set(joined) == {8, 16, 32, 64, 128}
    for extent in (8, 16, 32):
        assert torch.equal(joined[extent][:, -kept[extent].shape[1] :], kept[extent])


def test_each_encoder_layer_is_reached_without_those_below_it() -> None:
    """The path from layer to layer is cut: what reaches the parameters came by the skip connections."""
    network = JNet(factor=2, filters=4)
    for layer in network.encoder[1:]:
        layer.register_forward_pre_hook(lambda module, inputs: (inputs[0].detach(), *inputs[1:]))
    network(torch.randn(1, 6, 32, 32)).square().sum().backward()
    for layer in network.encoder:
        assert layer.conv.weight.grad.abs().max() > 0


def test_shifted_stacks_give_shifted_images() -> None:
    """By what the encoder's strides allow, away from the zeros around the picture."""
    network = JNet(factor=2, crop=16, depth=2, filters=4).double().eval()
    picture = torch.randn(1, 6, 96, 96, dtype=torch.float64)
    image, shifted = network(picture[:, :, :88, :88]), network(picture[:, :, 4:92, 8:96])
    inside = slice(40, 120)
    torch.testing.assert_close(shifted[:, :, inside, inside], image[:, :, 48:128, 56:136], rtol=0, atol=1e-12)
    assert not torch.allclose(shifted[:, :, :8, :8], image[:, :, 8:16, 16:24])  # zeros there, pixels here


# --- up-convolution ---------------------------------------------------------------------------------------------------


def test_up_convolution_makes_no_checkerboard_of_a_plain_area() -> None:
    """Odena et al. 2016: transposed convolutions give neighbours different numbers of terms."""
    plain = torch.ones(1, 6, 1, 1, dtype=torch.float64).expand(1, 6, 64, 64)
    unevenness = {}
    for upsampling in ("transposed", "upconv"):
        network = JNet(factor=4, crop=16, depth=1, filters=4, upsampling=upsampling).double().eval()
        assert any(isinstance(m, nn.ConvTranspose2d) for m in network.modules()) == (upsampling == "transposed")
        inside = network(plain)[:, :, 96:160, 96:160]
        unevenness[upsampling] = (inside - inside[:, :, :1, :1]).abs().max().item()
    assert unevenness["upconv"] < 1e-12
    assert unevenness["transposed"] > 1e-2


# --- initial weights --------------------------------------------------------------------------------------------------


def scales(network: nn.Module, stack: torch.Tensor) -> list[float]:
    """The root mean square of what each convolution gives."""
    seen: list[float] = []
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            module.register_forward_hook(lambda m, inputs, output: seen.append(output.square().mean().sqrt().item()))
    with torch.no_grad():
        network(stack)
    return seen


@pytest.mark.parametrize("upsampling", ["transposed", "upconv"])
def test_he_initialisation_keeps_the_scale_through_all_layers(upsampling: str) -> None:
    """He et al. 2015; 23 layers and no normalisation."""
    seen = scales(JNet(filters=16, max_channels=64, upsampling=upsampling), torch.randn(4, 6, 32, 32))
    assert len(seen) == 23
    assert 0.5 < min(seen) <= max(seen) < 4
    assert 0.2 < seen[-1] < 2  # before tanh


def test_the_initialisation_of_pix2pix_fades_away() -> None:
    network = JNet(filters=16, max_channels=64, init="normal")
    weights = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, CONVOLUTIONS)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert not any(m.bias.any() for m in network.modules() if isinstance(m, CONVOLUTIONS))
    assert scales(network, torch.randn(2, 6, 32, 32))[-1] < 1e-3


# --- normalisation ----------------------------------------------------------------------------------------------------


def tiny(**options) -> JNet:
    return JNet(**{"factor": 2, "crop": 8, "low_size": 8, "depth": 2, "filters": 4, **options}).double()


def stacks(count: int) -> torch.Tensor:
    return torch.randn(count, 6, 8, 8, dtype=torch.float64)


def test_no_normalisation_is_the_default() -> None:
    network = tiny()
    assert not any(isinstance(m, nn.BatchNorm2d | nn.InstanceNorm2d | nn.GroupNorm) for m in network.modules())
    x = stacks(3)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(network.train()(x), network.eval()(x))


def test_the_first_and_the_last_layer_are_not_normalised() -> None:
    for norm in ("batch", "sample"):
        network = tiny(norm=norm)
        layers = [*network.encoder, *(layer for step in network.decoder for layer in step)]
        assert [isinstance(layer.norm, nn.Identity) for layer in layers] == [True] + [False] * (len(layers) - 1)


def test_sample_normalisation_is_over_the_positions_of_one_crop() -> None:
    network = tiny(norm="sample")
    x = stacks(4)
    for mode in (True, False):
        torch.testing.assert_close(network.train(mode)(x)[2:3], network(x[2:3]), rtol=1e-10, atol=1e-10)
    seen = {}
    network.decoder[0][1].norm.register_forward_hook(lambda m, inputs, output: seen.update(i=inputs[0], o=output))
    network(x)
    mean, variance = seen["i"].mean((2, 3), keepdim=True), seen["i"].var((2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(seen["o"], (seen["i"] - mean) / (variance + 1e-5).sqrt())


def test_batch_normalisation_is_over_groups_in_training() -> None:
    network = tiny(norm="batch").train()
    x = stacks(6)
    whole = network(x)
    assert not torch.allclose(whole[:3], network(x[:3]))
    halves = network(x, group_size=3)
    torch.testing.assert_close(halves, torch.cat([network(x[:3]), network(x[3:])]), rtol=1e-10, atol=1e-10)


def test_running_averages_serve_at_inference() -> None:
    network = tiny(norm="batch").eval()
    x = stacks(5)
    torch.testing.assert_close(network(x)[3:4], network(x[3:4]), rtol=1e-10, atol=1e-10)
    norm = network.decoder[1][0].norm
    before = network(x)
    norm.running_mean += 1
    assert not torch.allclose(network(x), before)


def test_the_batch_at_hand_serves_at_inference_where_it_is_asked_to() -> None:
    """Tyka 2017: "sometimes using batch averages at inference time worked better"."""
    network = tiny(norm="batch", inference_statistics="batch")
    x = stacks(5)
    expected = network.train()(x)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.testing.assert_close(network.eval()(x), expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(network(x[:2]), expected[:2])
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    plain = tiny(norm="batch")
    plain.load_state_dict(network.state_dict())
    assert not torch.allclose(plain.eval()(x), expected)


# --- files and mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "sample", "upsampling": "upconv", "guide": "channels", "init": "normal"},
        {"norm": "batch", "inference_statistics": "batch", "face_size": 12},
        {"guide": "none", "code_channels": 7, "max_channels": 6},
    ],
)
def test_a_network_is_built_again_from_its_config(options: dict) -> None:
    network = tiny(**options).eval()
    config = json.loads(json.dumps(network.config))
    again = build("JNet", copy.deepcopy(config)).double().eval()
    again.load_state_dict(network.state_dict())
    assert again.config == network.config
    x = torch.randn(3, network.inputs, 8, 8, dtype=torch.float64)
    assert torch.equal(again(x), network(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 6}, "power of two from 2 on, not 6"),
        ({"factor": 1}, "power of two from 2 on, not 1"),
        ({"factor": -4}, "power of two from 2 on, not -4"),
        ({"filters": 0}, "at least 1"),
        ({"crop": 0}, "at least 1"),
        ({"crop": 12}, "a crop of 12² cannot be halved 3 times"),
        ({"depth": 0}, "model.depth=0"),
        ({"depth": 6}, "a crop of 32² cannot be halved 6 times"),
        ({"low_size": 24}, "model.low_size=24 must be at least model.crop=32"),
        ({"face_size": 0}, "model.face_size above 0"),
        ({"norm": "layer"}, "none, batch"),
        ({"inference_statistics": "crop"}, "running"),
        ({"upsampling": "cubic"}, "transposed"),
        ({"init": "xavier"}, "he"),
        ({"guide": "grey"}, "a guide must be one of rgb, channels, none, not 'grey'"),
    ],
)
def test_numbers_that_make_no_network(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        JNet(**options)


def test_stacks_that_do_not_fit() -> None:
    network = tiny()
    for shape in ((1, 3, 8, 8), (1, 6, 8, 10), (1, 6, 6, 8)):
        with pytest.raises(ValueError, match="need 6 channels and extents that are multiples of 4"):
            network(torch.zeros(shape, dtype=torch.float64))
