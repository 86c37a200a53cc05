"""Gaussian noise of the size of images, drawn where it is used."""

import hashlib

import torch
from torch import Tensor


def normal_tensors(
    seed: int,
    purpose: str,
    start: int,
    count: int,
    shape: tuple[int, ...],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal draws for the items [start, start + count), as :func:`imago.randomness.normal` but on a device.

    Every item has a PyTorch generator of its own, seeded by (seed, purpose, position): nothing is sent, and nothing
    has to be saved. The values differ between kinds of device, and may between releases of PyTorch; on one machine
    they are as reproducible as all other draws.

    Args:
        seed: The run's seed.
        purpose: What the draw is for; different purposes are independent streams.
        start: Global position of the first item, ≥ 0.
        count: How many items.
        shape: Of one item.
        device: Where to draw.
        dtype: Of the result.

    Returns:
        ``(count, *shape)``. Item *i* depends only on (seed, purpose, shape, dtype, kind of device, start + i).
    """
    draws = torch.empty((count, *shape), device=device, dtype=dtype)
    generator = torch.Generator(device=draws.device)
    for i in range(count):
        digest = hashlib.blake2b(f"{seed}/{purpose}/{start + i}".encode(), digest_size=8).digest()
        generator.manual_seed(int.from_bytes(digest, "little") >> 1)
        draws[i].normal_(generator=generator)
    return draws
