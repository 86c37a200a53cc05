"""What processes of a run share: one all-reduce, nothing else."""

import torch
import torch.distributed
from torch import Tensor


def average_over_processes(tensors: list[Tensor]) -> None:
    """Replaces tensors by their means over all processes, in one all-reduce; nothing to do for a single process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))
