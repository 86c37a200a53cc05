"""Arithmetic in float32 proper, whatever the program around has chosen for training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.backends import cudnn


@contextmanager
def full_precision(device: torch.device | str) -> Iterator[None]:
    """Neither TensorFloat-32 nor autocast, and no gradients.

    TensorFloat-32 keeps ten bits of mantissa: it would hide the small steps of a path length, and move features.

    Args:
        device: Where the work is done.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    flags = {"enabled": cudnn.enabled, "benchmark": cudnn.benchmark, "deterministic": cudnn.deterministic}
    try:
        with (
            cudnn.flags(**flags, allow_tf32=False),
            torch.no_grad(),
            torch.autocast(torch.device(device).type, enabled=False),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
