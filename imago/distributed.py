"""What processes of a run share: an all-reduce of gradients, the wish to stop, gathered results of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
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


class _Exchanges:
    """How many exchanges with the other processes this one has begun: who lags behind is who the others wait for."""

    begun = 0


def exchanges_begun() -> int:
    """How many exchanges this process has begun; the same on all processes that stand at the same point."""
    return _Exchanges.begun


@dataclass
class Stopping:
    """The wish to end a run at the next boundary between two steps.

    A signal may reach one process earlier than another, or one alone. Each brings its wish into the exchange of
    gradients that a step makes anyway; so all of them know after the same step.

    Attributes:
        wished: Of this process.
        requeue_wished: Likewise, and to be started again by the cluster.
        agreed: All processes know that one of them wishes to stop.
        requeue: All of them know that the run is to be started again.
    """

    wished: bool = False
    requeue_wished: bool = False
    agreed: bool = False
    requeue: bool = False

    def votes(self, like: Tensor) -> Tensor:
        """What to average over all processes: (2,), of the kind and on the device of ``like``."""
        return torch.tensor([self.wished, self.requeue_wished], dtype=like.dtype, device=like.device)

    def count(self, averages: Sequence[float]) -> None:
        """Takes in the averages of all votes."""
        self.agreed = self.agreed or averages[0] > 0
        self.requeue = self.requeue or averages[1] > 0


def average_over_processes(tensors: list[Tensor]) -> None:
    """Replaces tensors by their means over all processes, in one all-reduce; nothing to do for a single process."""
    if not is_distributed():
        return
    _Exchanges.begun += 1
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def of_first_process(value: Any) -> Any:
    """What the first process has, on all of them: so that a decision made from files is the same everywhere."""
    if not is_distributed():
        return value
    _Exchanges.begun += 1
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def gathered(value: Any) -> list[Any]:
    """What each process has, by its number, on all of them."""
    if not is_distributed():
        return [value]
    _Exchanges.begun += 1
    values = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def leave() -> None:
    """Ends the exchanges of this process, whose work is done: it is alone from now on.

    Threads of gloo that live on while Python shuts down can abort the process after all went well
    (https://github.com/pytorch/pytorch/issues/190489). After an error, this must not be called: it may wait for an
    exchange that never ends (https://github.com/pytorch/torchtitan/pull/1342).
    """
    if is_distributed():
        torch.distributed.destroy_process_group()


def gathered_in_order(parts: list[tuple[int, Tensor]]) -> Tensor:
    """The rows that all processes hold, put in order.

    Args:
        parts: This process's: number of the first row, and rows ``(n, …)`` on the CPU.

    Returns:
        All rows, on all processes; the same whatever the number of processes.
    """
    everyone: list[tuple[int, Tensor]] = [part for one in gathered(parts) for part in one]
    return torch.cat([rows for _, rows in sorted(everyone, key=lambda part: part[0])])
