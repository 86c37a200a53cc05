"""Single operations: ``pytest benchmarks --benchmark-only``."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from imago.data import PackedDataset, pack
from imago.data.sources.drawn import DrawnPortraits
from imago.networks.layers import MinibatchStdDev, PixelNorm, UpsampleConv2d

# What pytest-benchmark offers as a fixture; it ships no types.
Benchmark = Callable[..., Any]


def forward_and_backward(module: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()

    def run() -> None:
        module(x).sum().backward()

    return run


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize(("extent", "channels"), [(4, 512), (8, 512), (16, 512), (32, 256), (64, 128)])
def test_upsample_conv(
    benchmark: Benchmark, extent: int, channels: int, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imago.networks.layers._FUSED_UPSAMPLING_PIXELS", 1 if fused else extent**2 + 1)
    module = UpsampleConv2d(channels, channels, 3).to(memory_format=torch.channels_last)
    benchmark(forward_and_backward(module, torch.randn(4, channels, extent, extent)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("extent", "channels"), [(4, 512), (32, 512), (256, 64)])
def test_pixel_norm(benchmark: Benchmark, extent: int, channels: int, dtype: torch.dtype) -> None:
    benchmark(forward_and_backward(PixelNorm(), torch.randn(4, channels, extent, extent, dtype=dtype)))


@pytest.mark.parametrize("group", [4, 16])
def test_minibatch_stddev(benchmark: Benchmark, group: int) -> None:
    benchmark(forward_and_backward(MinibatchStdDev(group), torch.randn(16, 512, 4, 4)))


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return pack(DrawnPortraits(128, 128), tmp_path_factory.mktemp("data") / "portraits", resolution=128)


@pytest.mark.parametrize("resolution", [4, 32, 128])
def test_gather(benchmark: Benchmark, resolution: int, portraits: PackedDataset) -> None:
    """One batch of 16, as the loader takes it."""
    indices = np.random.default_rng(0).choice(len(portraits), 16, replace=False)
    benchmark(portraits.images, indices, resolution)
