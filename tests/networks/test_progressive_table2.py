"""Table 2 and appendix A.2 of Karras et al. (2018), typed from the paper."""

from itertools import pairwise

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from imago.networks import ProgressiveDiscriminator, ProgressiveGenerator
from imago.networks.layers import EqualizedConv2d, EqualizedLinear, LatentToFeatures, MinibatchStdDev, UpsampleConv2d
from imago.networks.progressive import DiscriminatorBlock

GENERATOR = """
Conv 4 × 4      512 × 4 × 4        4.2M
Conv 3 × 3      512 × 4 × 4        2.4M
Upsample        512 × 8 × 8        —
Conv 3 × 3      512 × 8 × 8        2.4M
Conv 3 × 3      512 × 8 × 8        2.4M
Upsample        512 × 16 × 16      —
Conv 3 × 3      512 × 16 × 16      2.4M
Conv 3 × 3      512 × 16 × 16      2.4M
Upsample        512 × 32 × 32      —
Conv 3 × 3      512 × 32 × 32      2.4M
Conv 3 × 3      512 × 32 × 32      2.4M
Upsample        512 × 64 × 64      —
Conv 3 × 3      256 × 64 × 64      1.2M
Conv 3 × 3      256 × 64 × 64      590k
Upsample        256 × 128 × 128    —
Conv 3 × 3      128 × 128 × 128    295k
Conv 3 × 3      128 × 128 × 128    148k
Upsample        128 × 256 × 256    —
Conv 3 × 3      64 × 256 × 256     74k
Conv 3 × 3      64 × 256 × 256     37k
Upsample        64 × 512 × 512     —
Conv 3 × 3      32 × 512 × 512     18k
Conv 3 × 3      32 × 512 × 512     9.2k
Upsample        32 × 1024 × 1024   —
Conv 3 × 3      16 × 1024 × 1024   4.6k
Conv 3 × 3      16 × 1024 × 1024   2.3k
Conv 1 × 1      3 × 1024 × 1024    51
"""
DISCRIMINATOR = """
Conv 1 × 1        16 × 1024 × 1024   64
Conv 3 × 3        16 × 1024 × 1024   2.3k
Conv 3 × 3        32 × 1024 × 1024   4.6k
Downsample        32 × 512 × 512     —
Conv 3 × 3        32 × 512 × 512     9.2k
Conv 3 × 3        64 × 512 × 512     18k
Downsample        64 × 256 × 256     —
Conv 3 × 3        64 × 256 × 256     37k
Conv 3 × 3        128 × 256 × 256    74k
Downsample        128 × 128 × 128    —
Conv 3 × 3        128 × 128 × 128    148k
Conv 3 × 3        256 × 128 × 128    295k
Downsample        256 × 64 × 64      —
Conv 3 × 3        256 × 64 × 64      590k
Conv 3 × 3        512 × 64 × 64      1.2M
Downsample        512 × 32 × 32      —
Conv 3 × 3        512 × 32 × 32      2.4M
Conv 3 × 3        512 × 32 × 32      2.4M
Downsample        512 × 16 × 16      —
Conv 3 × 3        512 × 16 × 16      2.4M
Conv 3 × 3        512 × 16 × 16      2.4M
Downsample        512 × 8 × 8        —
Conv 3 × 3        512 × 8 × 8        2.4M
Conv 3 × 3        512 × 8 × 8        2.4M
Downsample        512 × 4 × 4        —
Minibatch stddev  513 × 4 × 4        —
Conv 3 × 3        512 × 4 × 4        2.4M
Conv 4 × 4        512 × 1 × 1        4.2M
Fully-connected   1 × 1 × 1          513
"""


def rows(table):
    """(layer, output shape, parameters as printed)."""
    parsed = []
    for line in table.strip().splitlines():
        layer, shape, parameters = (cell.strip() for cell in line.split("  ") if cell.strip())
        parsed.append((layer, tuple(int(n) for n in shape.split(" × ")), parameters))
    return parsed


def printed(parameters):
    """A count as Table 2 prints it."""
    if parameters >= 1e6:
        return f"{parameters / 1e6:.1f}M"
    if parameters >= 1e4:
        return f"{parameters / 1e3:.0f}k"
    if parameters >= 1e3:
        return f"{parameters / 1e3:.1f}k"
    return str(parameters)


def count(modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def run(network, make_input):
    """The layers in the order in which they run, as rows of Table 2; nothing is computed, only shapes are."""
    found = []

    def hook(module, inputs, output):
        shape = tuple(output.shape[1:]) if output.ndim == 4 else (output.shape[1], 1, 1)
        height = shape[1]
        if isinstance(module, UpsampleConv2d):
            channels, h, w = inputs[0].shape[1:]
            found.append(("Upsample", (channels, 2 * h, 2 * w), "—"))
        if isinstance(module, DiscriminatorBlock):
            found.append(("Downsample", shape, "—"))
        elif isinstance(module, MinibatchStdDev):
            found.append(("Minibatch stddev", shape, "—"))
        elif isinstance(module, LatentToFeatures):
            found.append(("Conv 4 × 4", shape, printed(count([module]))))
        elif isinstance(module, EqualizedConv2d):
            kernel = module.weight.shape[-1]
            assert module.weight.shape[-2:] == (kernel, kernel)
            found.append((f"Conv {kernel} × {kernel}", shape, printed(count([module]))))
        elif isinstance(module, EqualizedLinear) and height == 1:
            name = "Fully-connected" if shape[0] == 1 else "Conv 4 × 4"
            found.append((name, shape, printed(count([module]))))

    layers = (DiscriminatorBlock, MinibatchStdDev, LatentToFeatures, EqualizedConv2d, EqualizedLinear)
    inside = {m.linear for m in network.modules() if isinstance(m, LatentToFeatures)}  # part of a layer
    for module in network.modules():
        if isinstance(module, layers) and module not in inside:
            module.register_forward_hook(hook)
    return found, network(make_input)


def test_every_row_of_the_generator():
    with FakeTensorMode():
        found, images = run(ProgressiveGenerator(resolution=1024), torch.empty(2, 512))
    assert found == rows(GENERATOR)
    assert images.shape == (2, 3, 1024, 1024)


def test_every_row_of_the_discriminator():
    with FakeTensorMode():
        found, scores = run(ProgressiveDiscriminator(resolution=1024), torch.empty(4, 3, 1024, 1024))
    assert found == rows(DISCRIMINATOR)
    assert scores.shape == (4,)


@pytest.mark.parametrize("network", [ProgressiveGenerator, ProgressiveDiscriminator])
def test_23_1_million_parameters_take_part_at_1024(network):
    with torch.device("meta"):
        parameters = network(resolution=1024).active_parameters(1024, 1.0)
    assert f"{sum(p.numel() for p in parameters) / 1e6:.1f}M" == "23.1M"


def test_exact_parameter_counts():
    """Conv k × k: k² · in · out weights and one bias per output map, summed by hand from Table 2."""
    maps = [512, 512, 512, 512, 256, 128, 64, 32, 16]
    blocks = sum(9 * a * b + b + 9 * b * b + b for a, b in pairwise(maps))
    generator = 16 * 512 * 512 + 512 + 9 * 512 * 512 + 512 + blocks + 16 * 3 + 3
    mirrored = sum(9 * b * b + b + 9 * b * a + a for a, b in pairwise(maps))
    discriminator = 3 * 16 + 16 + mirrored + 9 * 513 * 512 + 512 + 16 * 512 * 512 + 512 + 513
    with torch.device("meta"):
        G, D = ProgressiveGenerator(1024), ProgressiveDiscriminator(1024)
    assert sum(p.numel() for p in G.active_parameters(1024, 1.0)) == generator
    assert sum(p.numel() for p in D.active_parameters(1024, 1.0)) == discriminator


def feature_maps_by_resolution(network):
    return {resolution: network.feature_maps(level) for level, resolution in enumerate(network.resolutions)}


@pytest.mark.parametrize("network", [ProgressiveGenerator, ProgressiveDiscriminator])
def test_feature_maps_of_table_2(network):
    with torch.device("meta"):
        found = feature_maps_by_resolution(network(resolution=1024))
    assert found == {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64, 512: 32, 1024: 16}


@pytest.mark.parametrize("network", [ProgressiveGenerator, ProgressiveDiscriminator])
def test_lower_capacity_of_appendix_a2(network):
    """Half the feature maps at 16², a quarter from 32² on, 32 maps in the last Conv 3 × 3 layers at 128²."""
    with torch.device("meta"):
        network = network(resolution=128, fmap_base=2048)
    assert feature_maps_by_resolution(network) == {4: 512, 8: 512, 16: 256, 32: 128, 64: 64, 128: 32}
    last = network.blocks[-1]
    assert {c.weight.shape[:2] for c in (last.first, last.second)} == (
        {(32, 64), (32, 32)} if isinstance(network, ProgressiveGenerator) else {(32, 32), (64, 32)}
    )


def test_smaller_resolutions_leave_blocks_out():
    """Appendix A.2: a network for fewer pixels is the same network with fewer replicated blocks."""
    with torch.device("meta"):
        whole, small = ProgressiveGenerator(1024), ProgressiveGenerator(64)
    shapes = {name: p.shape for name, p in whole.named_parameters()}
    assert len(small.blocks) == 5
    assert all(shapes[name] == p.shape for name, p in small.named_parameters())
