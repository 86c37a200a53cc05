"""How a training ends before its end: by a signal, by the loss of a process, by Ctrl-C."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar

import pytorch_lightning as pl

from callbacks.preemption import Preemption, start_again
from callbacks.process_watch import ProcessWatch
from callbacks.pruning import Pruning
from callbacks.snapshot import Snapshot
from callbacks.wandb_logger import sync_advice
from commands.job_failures import command_that_goes_on
from commands.processes import place
from imago import slurm
from imago.distributed import Stopping, gathered, leave, of_first_process
from imago.stop_signals import STOP_SIGNALS

logger = logging.getLogger("imago")

_PATIENCE = 60.0  # seconds that the first process has to ask for another start

C = TypeVar("C", bound=pl.Callback)


def end_early(trainer: pl.Trainer, stopping: Stopping, images_seen: int, total_images: int) -> None:
    """Ends a run that a signal has stopped, after its checkpoint; in a Slurm job, has it started again.

    Returns where a study of Optuna has stopped the run.

    Raises:
        SystemExit: With 0 if the job goes on by itself, else 128 and the number of the signal.
    """
    if of_first_process(any(one.pruned for one in _callbacks(trainer, Pruning))):
        return
    received = next((one.received for one in _callbacks(trainer, Preemption) if one.received), None)
    name = received.name if received else "a signal to another process"
    if trainer.is_global_zero:
        saved = next((one.written for one in _callbacks(trainer, Snapshot)), images_seen)
        checkpoint = f"with a checkpoint; {command_that_goes_on()} goes on from there"
        if saved != images_seen:  # a run that diverges keeps the one from before
            checkpoint = f"while updates were not finite; {command_that_goes_on()} goes on from the newest checkpoint"
        logger.warning("stopped by %s at %d of %d images, %s", name, images_seen, total_images, checkpoint)
    finish_wandb(exit_code=1, preempted=True)
    again = stopping.requeue and trainer.is_global_zero and start_again()
    # The others stay until the first process has asked for it: Slurm may end a step whose first task has ended.
    with contextlib.suppress(RuntimeError):
        again = gathered(again)[0]
        leave()
    sys.exit(0 if again else 128 + (received or 15))


class _StoppedError(BaseException):
    """A signal came while the run was not training. Not an Exception: nobody is to take it for one and go on."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number


class _Obeyed:
    stopping: Stopping | None = None  # of what trains now


def obey(stopping: Stopping) -> None:
    """Lets signals that come once a run has agreed to stop change nothing any more."""
    _Obeyed.stopping = stopping


@contextlib.contextmanager
def stoppable(requeue: bool) -> Iterator[None]:
    """Lets signals of a cluster end a run before and after training, too: while data are packed, say.

    While it trains, :class:`callbacks.preemption.Preemption` listens instead; in a job of submitit's, that listens.

    Args:
        requeue: Whether SIGUSR1 and SIGUSR2 requeue the job.

    Raises:
        SystemExit: With 0 if the job goes on by itself, else 128 and the number of the signal.
    """
    if "SUBMITIT_EXECUTOR" in os.environ or threading.current_thread() is not threading.main_thread():
        yield
        return
    process, before = os.getpid(), {}
    _Obeyed.stopping = None

    def receive(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # was forked later, and ends with this one
            return
        if _Obeyed.stopping is not None and _Obeyed.stopping.agreed:  # the run ends, and is requeued, as it should
            return
        for one in STOP_SIGNALS:
            signal.signal(one, signal.SIG_IGN)
        raise _StoppedError(signal.Signals(number))

    try:
        for number in STOP_SIGNALS:
            before[number] = signal.signal(number, receive)
        yield
    except _StoppedError as stopped:
        if place().first:
            logger.warning("stopped by %s, not while training; %s goes on", stopped.number.name, command_that_goes_on())
        again = requeue and STOP_SIGNALS[stopped.number] and slurm.job_id() is not None
        if place().first:
            again = again and slurm.requeue()
        elif again:  # Slurm may end a step one of whose tasks has ended; it ends this one when the job is requeued
            time.sleep(_PATIENCE)
        sys.exit(0 if again else 128 + stopped.number)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def explain_failure(error: BaseException, trainer: pl.Trainer) -> None:
    """Raises what the user should read instead of an exception that left the trainer; returns if that is the exception.

    Raises:
        KeyboardInterrupt: The user pressed Ctrl-C.
        ProcessLostError: Another process is gone.
    """
    if isinstance(error, SystemExit) and trainer.interrupted:  # how Lightning passes Ctrl-C on
        raise KeyboardInterrupt from error
    for watch in _callbacks(trainer, ProcessWatch):
        if lost := watch.lost(error):
            raise lost from error


def finish_wandb(exit_code: int, preempted: bool = False) -> None:
    """Ends a W&B run, if there is one.

    Args:
        exit_code: 0: it is finished, else it has crashed.
        preempted: It will go on under the same id.
    """
    if "wandb" in sys.modules and (run := sys.modules["wandb"].run) is not None:
        if preempted and run.sweep_id is None:  # W&B's agent stops hopeless runs by a signal
            run.mark_preempting()
        offline, folder = run.offline, Path(run.dir).parents[2]
        sys.modules["wandb"].finish(exit_code=exit_code)
        if offline and (advice := sync_advice(folder)):
            logger.info("W&B: to upload what was recorded offline: %s", advice)


def _callbacks(trainer: pl.Trainer, kind: type[C]) -> list[C]:
    return [one for one in trainer.callbacks if isinstance(one, kind)]  # type: ignore[attr-defined]
