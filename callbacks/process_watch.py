"""A process that is lost ends the others: they would wait for it for ever."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import Any

import pytorch_lightning as pl

from imago import slurm
from imago.distributed import gathered, is_distributed, of_first_process, rank_and_world_size
from imago.errors import UserError, first_line
from imago.networks.serialization import CHECKPOINT_FILE
from imago.process_watch import ProcessWatch as Watch
from imago.process_watch import open_store, process_name

logger = logging.getLogger("imago")

_GRACE = 10.0  # seconds that a process gets to end by itself


class ProcessLostError(UserError):
    """Another process of the run is gone."""


class ProcessWatch(pl.Callback):
    """Watches the other processes while training; nothing to do for a single one.

    A lost process ends the others with a line that names it. In a Slurm job the run is then requeued, if it has written
    a checkpoint since it was started: one that gets no further is not started for ever.

    Args:
        lost_after_seconds: Without a sign of life.
        stalled_after_minutes: That the others wait for a process which gives signs, but does not move. Longer than
            whatever the first process does alone: measuring, drawing samples.
        requeue: Whether a job that lost a process is requeued.
    """

    def __init__(
        self, lost_after_seconds: float = 60.0, stalled_after_minutes: float = 30.0, requeue: bool = True
    ) -> None:
        if not lost_after_seconds >= 1:
            raise UserError(f"callbacks.process_watch.lost_after_seconds must be at least 1, not {lost_after_seconds}")
        if not stalled_after_minutes > 0:
            raise UserError(
                f"callbacks.process_watch.stalled_after_minutes must be above 0, not {stalled_after_minutes}"
            )
        self.lost_after = lost_after_seconds
        self.stalled_after = 60 * stalled_after_minutes
        self.requeue = requeue
        self.watch: Watch | None = None
        self._ending = threading.Event()
        self._run_dir = ""
        self._started_at = 0.0
        self._launcher: Any = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not is_distributed():
            return
        rank, processes = rank_and_world_size()
        if processes == 1:
            return
        self._launcher = trainer.strategy.launcher
        self._run_dir, self._started_at = trainer.default_root_dir, time.time()
        host = os.environ.get("MASTER_ADDR", "127.0.0.1")
        store = open_store(host, rank, of_first_process, self.lost_after)
        names = gathered(process_name(rank))
        self.watch = Watch(rank, store, names, self.lost_after, self.stalled_after, self._end)
        self.watch.start()
        gathered(None)  # all have given a sign

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Tells the others, or finds out which of them caused the error."""
        if self.watch is None:
            return
        self._ending.set()
        lost = is_lost_contact(exception)
        if lost and (verdict := self.watch.explain()):
            exception.add_note(verdict)
        # What a broken process group leaves behind must not keep this process from ending.
        _exit_later(6 * _GRACE)
        if not lost:
            self.watch.fail(first_line(exception) if isinstance(exception, Exception) else type(exception).__name__)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.watch is not None:
            gathered(None)  # all have done their work
            self.watch.close()
            gathered(None)  # nobody needs the store any more, which ends with the first process
            self.watch = None

    def lost(self, error: BaseException) -> ProcessLostError | None:
        """What to tell the user of an error that another process caused; None: it is this one's own."""
        if not is_lost_contact(error):
            return None
        if self.watch is None:
            return ProcessLostError(f"the processes did not find each other ({first_line(error)})")
        found = self.watch.verdict or f"the processes lost touch with each other ({first_line(error)})"
        self._requeue()
        return ProcessLostError(self._advice(found))

    def _advice(self, verdict: str) -> str:
        return f"{verdict}; the same command goes on from the newest checkpoint"

    def _end(self, verdict: str) -> None:
        """From the watching thread: ends this process, which may hang in an exchange that cannot be interrupted."""
        if self._ending.wait(_GRACE):
            return
        assert self.watch is not None
        print(f"error: {self._advice(verdict)}", file=sys.stderr, flush=True)
        self._requeue()
        if hasattr(self._launcher, "kill"):  # of processes that this one has started
            self._launcher.kill(signal.SIGKILL)
        logging.shutdown()
        os._exit(1)

    def _requeue(self) -> None:
        """By the first process; if that is lost, by the first that may be left of each machine."""
        assert self.watch is not None
        verdict = self.watch.verdict or ""
        if " ended: " in verdict:  # by a mistake of its own, which it would make again
            return
        rank, names = self.watch.rank, self.watch.names
        asks = rank == 0
        if verdict.startswith(f"{names[0]} "):
            machines = [name.partition(" on ")[2] for name in names]
            asks = rank > 0 and rank == machines.index(machines[rank], 1)
        if self.requeue and asks and slurm.job_id() is not None:
            if self._got_further():
                slurm.requeue()
            else:
                logger.warning("not requeued: no checkpoint was written since the job was started")

    def _got_further(self) -> bool:
        try:
            return os.stat(os.path.join(self._run_dir, CHECKPOINT_FILE)).st_mtime > self._started_at
        except OSError:
            return False


def is_lost_contact(error: BaseException) -> bool:
    """Whether an exchange between processes failed, rather than anything of this process's own."""
    if not isinstance(error, RuntimeError):
        return False
    return type(error).__name__.startswith("Dist") or any(
        sign in str(error) for sign in ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    )


def _exit_later(seconds: float) -> None:
    def leave() -> None:
        time.sleep(seconds)
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()
