"""Arithmetic in float32 proper, whatever the program around has chosen for training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import backends


@contextmanager
def full_precision(device: torch.device | str) -> Iterator[None]:
    """Neither TensorFloat-32 nor autocast, and no gradients.

    TensorFloat-32 keeps ten bits of mantissa: it would hide the small steps of a path length, and move features.

    Args:
        device: Where the work is done.
    """
    settings = _new_settings() or _old_settings()
    before = [getattr(holder, name) for holder, name, _ in settings]
    for holder, name, exact in settings:
        setattr(holder, name, exact)
    try:
        with torch.no_grad(), torch.autocast(torch.device(device).type, enabled=False):
            yield
    finally:
        for (holder, name, _), value in zip(settings, before, strict=True):
            setattr(holder, name, value)


def _new_settings() -> list[tuple[Any, str, object]]:
    """Where PyTorch 2.9 and later keep the precision: holder, attribute, value. They must not be mixed with the old."""
    holders = []
    for package, parts in ((backends.cuda, ["matmul"]), (backends.cudnn, ["conv", "rnn"])):
        holders += [getattr(package, part, None) for part in parts]
    holders += [getattr(backends.mkldnn, part, None) for part in ("matmul", "conv", "rnn")]
    if not all(hasattr(holder, "fp32_precision") for holder in holders):
        return []
    return [(holder, "fp32_precision", "ieee") for holder in holders]


def _old_settings() -> list[tuple[Any, str, object]]:
    return [(backends.cuda.matmul, "allow_tf32", False), (backends.cudnn, "allow_tf32", False)]
