"""The settings of full precision hold inside the block, and those from before afterwards."""

import pytest
import torch
from torch.backends import cudnn

from imago.metrics.precision import full_precision


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_settings_hold_inside_and_come_back(precision):
    before = torch.get_float32_matmul_precision()
    settings = cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", torch.bfloat16), full_precision("cpu"):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not cudnn.allow_tf32
            assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic) == settings[:3]
            assert not torch.is_autocast_enabled("cpu")
            assert not torch.is_grad_enabled()
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        assert torch.get_float32_matmul_precision() == precision
        assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == settings
    finally:
        torch.set_float32_matmul_precision(before)
