"""Signals of a cluster, or of a user: the run ends between two steps, with a checkpoint."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from imago import slurm
from imago.stop_signals import STOP_SIGNALS

if TYPE_CHECKING:
    from lightning_modules.adversarial import AdversarialModule

logger = logging.getLogger("imago")


class Preemption(pl.Callback):
    """Listens while training, and lets the run end at the boundary of a step that all processes agree on.

    SIGUSR1 and SIGUSR2 (``sbatch --signal=USR1@120``; submitit sends SIGUSR2) end the run with a checkpoint and, in a
    Slurm job, requeue it. SIGTERM ends it with a checkpoint. The checkpoint is written by the snapshot callback.

    Args:
        requeue: Whether SIGUSR1 and SIGUSR2 requeue the job; false: they end the run as SIGTERM does.
    """

    def __init__(self, requeue: bool = True) -> None:
        self.requeue = requeue
        self.received: signal.Signals | None = None
        self._module: AdversarialModule | None = None
        self._process = os.getpid()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning has set its own handlers before this, and sets back those from before when training ends.
        self._module = pl_module  # type: ignore[assignment]
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process or self._module is None:  # a loader process, forked later: ends with this one
            return
        self.received = signal.Signals(number)
        self._module.stopping.wished = True
        if self.requeue and STOP_SIGNALS[self.received]:
            self._module.stopping.requeue_wished = True


def start_again() -> bool:
    """Requeues the job that this process belongs to, through submitit if that has started it. Says what happened.

    Returns:
        Whether it is requeued; False outside of a job.
    """
    handler: Callable[[int, Any], Any] | int | None = signal.getsignal(signal.SIGUSR2)
    if slurm.job_id() is None or "SUBMITIT_EXECUTOR" not in os.environ or not callable(handler):
        return slurm.requeue()
    try:  # submitit pickles the call anew, counts the time limits that were met, requeues, and exits
        handler(signal.SIGUSR2, None)
    except SystemExit:
        return True
    except Exception as error:  # submitit's UncompletedJobError: met too many time limits
        logger.warning("the job is not requeued: %s", error)
    return False
