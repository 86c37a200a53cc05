"""Which process this is, by what launchers set."""

import pytest

from commands.processes import is_slurm_task, place, started_processes

SLURM = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_JOB_NAME": "imago"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "GROUP_RANK": "2"}


@pytest.mark.parametrize(
    ("environment", "first", "first_on_machine"),
    [
        ({}, True, True),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True, True),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False, True),
        ({"NODE_RANK": "1"}, False, True),  # the process of a second machine that a user has started
        (TORCHRUN, False, False),
        ({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"}, True, True),
        ({**TORCHRUN, **SLURM}, False, False),
        (SLURM, False, False),
        ({**SLURM, "SLURM_PROCID": "2", "SLURM_LOCALID": "0"}, False, True),
        ({**SLURM, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, True, True),
        ({**SLURM, "SLURM_JOB_NAME": "bash"}, True, True),  # somebody types in a job
    ],
)
def test_place(environment, first, first_on_machine):
    found = place(environment)
    assert (found.first, found.first_on_machine) == (first, first_on_machine)


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({}, None),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, None),  # Lightning has
        (TORCHRUN, 8),
        (SLURM, 4),
        ({**SLURM, **TORCHRUN}, 8),
        ({**SLURM, "SLURM_NTASKS": "1"}, None),
        ({**SLURM, "SLURM_JOB_NAME": "interactive"}, None),
    ],
)
def test_started_processes(environment, count):
    assert started_processes(environment) == count


def test_task_of_slurm():
    assert is_slurm_task(SLURM)
    assert not is_slurm_task({"SLURM_JOB_ID": "1"})
