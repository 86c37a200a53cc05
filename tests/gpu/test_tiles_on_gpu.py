"""The tiler on a CUDA device makes the picture that it makes on the CPU, in half precision also."""

import numpy as np
import pytest
import torch

from imago.networks.jnet import JNet
from imago.upres import Stage, TilingOptions, upres_stack
from imago.upres.tiles import run_tiles
from tile_networks import nearest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("choice", ["picture", "per_tile"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_picture_is_that_of_the_cpu(choice: str, precision: str) -> None:
    torch.manual_seed(0)
    network = JNet(factor=4, filters=8)
    stack = torch.rand(6, 70, 90) * 2 - 1
    settings = {"variants": ("plain", "flip+contrast:0.9"), "combine": "best", "choice": choice, "batch": 5}
    expected = upres_stack(Stage(network, factor=4), stack, TilingOptions(**settings))
    out = np.empty((3, 280, 360), dtype=np.float32)
    options = TilingOptions(**settings, precision=precision)
    stage = Stage(network.cuda(), factor=4, device="cuda")
    result = upres_stack(stage, stack, options, out, variant=expected.choice)
    tolerance = 1e-2 if precision == "float32" else 5e-2  # convolutions in TensorFloat-32
    np.testing.assert_allclose(out, expected.picture.numpy(), rtol=0, atol=tolerance)
    again = upres_stack(stage, stack.cuda(), options)
    assert again.picture.device.type == "cpu"
    assert len(again.report.scores) == len(expected.report.scores) == 2
    assert result.report.halvings == 0


def test_the_batch_halves_where_the_gpu_is_full() -> None:
    free = torch.cuda.mem_get_info()[0]

    def greedy(stacks: torch.Tensor) -> torch.Tensor:
        """Needs three eighths of the free memory for each tile."""
        torch.empty(int(len(stacks) * free * 3 / 8), dtype=torch.uint8, device="cuda")
        return nearest(2)(stacks)

    picture = torch.rand(3, 24, 24)
    result = run_tiles(greedy, picture, tile=8, factor=2, stride=4, batch=16, device="cuda")
    assert isinstance(result, torch.Tensor)
    torch.testing.assert_close(result, nearest(2)(picture[None])[0], rtol=0, atol=1e-6)
