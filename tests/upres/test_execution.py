"""Memory that runs out and results that are not finite, both injected."""

import pytest
import torch
from torch import Tensor

from imago.errors import UserError
from imago.upres.execution import TilingReport, out_of_memory
from imago.upres.tiles import run_tiles
from tile_networks import Failing, nearest

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1073741824 bytes."),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("most", "sizes", "halvings"), [(5, [4, 4, 4, 4, 4, 4, 1], 2), (1, [1] * 25, 4), (99, [16, 9], 0)]
)
def test_the_batch_halves_and_every_tile_is_run(error: Exception, most: int, sizes: list[int], halvings: int) -> None:
    network, report = Failing(nearest(2), most, error), TilingReport()
    picture = torch.rand(3, 24, 24)
    result = run_tiles(network, picture, tile=8, factor=2, stride=4, batch=16, report=report)
    torch.testing.assert_close(result, nearest(2)(picture[None])[0], rtol=0, atol=1e-6)
    assert network.sizes == sizes
    assert (report.tiles, report.batch, report.halvings) == (25, sizes[0], halvings)


def test_the_allocator_itself_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert out_of_memory(caught.value)


def test_memory_for_not_even_one_tile_is_told() -> None:
    with pytest.raises(UserError, match="does not suffice for one tile at a time"):
        run_tiles(Failing(nearest(8), 0, MemoryError()), torch.zeros(3, 64, 64))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="of another kind"):
        run_tiles(Failing(nearest(8), 0, RuntimeError("of another kind")), torch.zeros(3, 64, 64))


def overflowing(stacks: Tensor) -> Tensor:
    """A large number in between, which half precision cannot hold, in bright tiles."""
    bright = stacks[:, :3].amax(dim=(1, 2, 3), keepdim=True) > 0.99
    eye = torch.eye(stacks.shape[3])
    large = torch.where(bright, 1e6, 1.0)
    return nearest(2)((large * stacks) @ eye / large)  # the product is what autocast computes in half precision


def test_what_half_precision_breaks_is_made_again_in_float32() -> None:
    picture = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0)) * 0.9
    picture[:, 10, 10] = 1.0
    report = TilingReport()
    result = run_tiles(overflowing, picture, tile=8, factor=2, stride=8, batch=4, precision="float16", report=report)
    expected = nearest(2)(picture[None])[0]
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-3)
    assert report.redone == 1
    # The tile in the middle is that of float32; the others show that half precision was at work.
    assert (result - expected)[:, 16:32, 16:32].abs().max() < 1e-6
    assert (result - expected)[:, :16].abs().max() > 1e-6


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_what_float32_breaks_also_is_told(precision: str) -> None:
    with pytest.raises(UserError, match="not finite for 1 of 1 tiles"):
        run_tiles(lambda stacks: nearest(8)(stacks) / 0, torch.zeros(3, 32, 32), precision=precision)
