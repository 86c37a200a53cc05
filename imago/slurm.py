"""What a running Slurm job can ask of the cluster."""

import logging
import os
import subprocess

logger = logging.getLogger(__name__)


def job_id() -> str | None:
    """The job that this process belongs to, as ``scontrol`` wants it: ``12``, or ``12_3`` of an array; None: no job."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def requeue() -> bool:
    """Has this job started again, with the same script; Slurm ends the present one. Says what happened.

    Returns:
        Whether Slurm took it; False outside of a job.
    """
    job = job_id()
    if job is None:
        return False
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60)
        problem = done.stderr.strip() if done.returncode else ""
        if "pending" in problem:  # another process of the job was faster
            return True
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        logger.warning("job %s could not be requeued (%s)", job, problem)
        return False
    logger.warning("job %s is requeued and goes on in the same run directory", job)
    return True
