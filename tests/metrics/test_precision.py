"""The settings of full precision hold inside the block, and those from before afterwards."""

import subprocess
import sys

import torch

from imago.metrics import precision
from imago.metrics.precision import full_precision

CHOICES = [
    "pass",
    "torch.set_float32_matmul_precision('high')",
    "torch.backends.cuda.matmul.allow_tf32 = True; torch.backends.cudnn.allow_tf32 = False",
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "torch.backends.fp32_precision = 'tf32'",
    "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
]
PROGRAM = """
import os
import sys
import torch
from imago.metrics import precision

for choice in sys.argv[1:]:
    process = os.fork()
    if process == 0:
        exec(choice)
        holders = [holder for holder, _, _ in precision._new_settings()]
        before = [holder.fp32_precision for holder in holders]
        with precision.full_precision("cpu"):
            assert [holder.fp32_precision for holder in holders] == ["ieee"] * len(holders), choice
        assert [holder.fp32_precision for holder in holders] == before, choice
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0, choice
"""


def test_settings_hold_inside_and_come_back():
    """In processes of their own: PyTorch does not forget by which of its two interfaces the precision was chosen."""
    subprocess.run([sys.executable, "-c", PROGRAM, *CHOICES], check=True)


def test_neither_autocast_nor_gradients():
    with torch.autocast("cpu", torch.bfloat16), full_precision("cpu"):
        assert not torch.is_autocast_enabled("cpu")
        assert not torch.is_grad_enabled()
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_older_versions_of_pytorch(monkeypatch):
    monkeypatch.setattr(precision, "_new_settings", list)
    before = torch.backends.cudnn.allow_tf32
    with full_precision("cpu"):
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before
