"""Which of a run's processes this is, before PyTorch knows it: from what torchrun, Slurm or Lightning set."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

_INTERACTIVE = ("bash", "interactive")  # names of Slurm jobs in which somebody types commands


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of its run.

    Attributes:
        rank: Its number among all of them.
        local_rank: Its number among those on its machine.
    """

    rank: int
    local_rank: int

    @property
    def first(self) -> bool:
        """Whether it is the one that writes files and talks."""
        return self.rank == 0

    @property
    def first_on_machine(self) -> bool:
        """Whether it is the one that prepares data on its machine."""
        return self.local_rank == 0


def place(environment: Mapping[str, str] | None = None) -> Place:
    """This process's place; that of a single process where nothing is set.

    Args:
        environment: Instead of the process's own.
    """
    env = os.environ if environment is None else environment
    if "RANK" in env:  # torchrun
        return Place(int(env["RANK"]), int(env.get("LOCAL_RANK", "0")))
    if "LOCAL_RANK" in env:  # Lightning's own launcher; only the first process of the first machine is told apart
        local = int(env["LOCAL_RANK"])
        node = int(env.get("NODE_RANK", env.get("GROUP_RANK", "0")))
        return Place(local if node == 0 else node * 1_000_000 + local, local)
    if is_slurm_task(env):
        return Place(int(env["SLURM_PROCID"]), int(env.get("SLURM_LOCALID", "0")))
    return Place(int(env.get("NODE_RANK", "0")), 0)


def is_slurm_task(environment: Mapping[str, str] | None = None) -> bool:
    """Whether Slurm has started this process as one of several tasks, or as the only one."""
    env = os.environ if environment is None else environment
    if env.get("SLURM_JOB_NAME") in _INTERACTIVE:
        return False
    return "SLURM_NTASKS" in env and "SLURM_PROCID" in env


def started_processes(environment: Mapping[str, str] | None = None) -> int | None:
    """How many processes of this run something else has started, this one included; None: nothing has."""
    env = os.environ if environment is None else environment
    if "TORCHELASTIC_RUN_ID" in env:
        return int(env["WORLD_SIZE"])
    if is_slurm_task(env) and int(env["SLURM_NTASKS"]) > 1:
        return int(env["SLURM_NTASKS"])
    return None
