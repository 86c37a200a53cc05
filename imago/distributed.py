"""What processes of a run share: an all-reduce of gradients, and gathered results of an evaluation."""

from typing import Any

import torch
import torch.distributed
from torch import Tensor


def is_distributed() -> bool:
    """Whether there are other processes."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank_and_world_size() -> tuple[int, int]:
    """This process's number, and how many there are."""
    if not is_distributed():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def average_over_processes(tensors: list[Tensor]) -> None:
    """Replaces tensors by their means over all processes, in one all-reduce; nothing to do for a single process."""
    if not is_distributed():
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def of_first_process(value: Any) -> Any:
    """What the first process has, on all of them: so that a decision made from files is the same everywhere."""
    if not is_distributed():
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def gathered(value: Any) -> list[Any]:
    """What each process has, by its number, on all of them."""
    if not is_distributed():
        return [value]
    values = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def gathered_in_order(parts: list[tuple[int, Tensor]]) -> Tensor:
    """The rows that all processes hold, put in order.

    Args:
        parts: This process's: number of the first row, and rows ``(n, …)`` on the CPU.

    Returns:
        All rows, on all processes; the same whatever the number of processes.
    """
    everyone: list[tuple[int, Tensor]] = [part for one in gathered(parts) for part in one]
    return torch.cat([rows for _, rows in sorted(everyone, key=lambda part: part[0])])
