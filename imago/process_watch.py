"""Finds the process of a run that is lost, and ends the others, which would wait for it for ever.

An exchange between processes does not return while one of them is missing, and the error that ends it at last names an
address, not a process. So each process gives a sign of life every few seconds, from a thread of its own, with the
number of exchanges that it has begun. The first process reads them all:

- no sign for a while: the process is lost, with its machine or alone;
- signs, but not as many exchanges as the others have begun: it is stuck, and the others wait for it.

What it finds is told to all of them, and they end. That the first process is lost itself the others see by its silence.
The signs travel through a key-value store of PyTorch (``TCPStore``) that the first process serves. A call of it may
block for ever if the machine that serves it falls silent, whatever its time-out; so a second thread watches over the
first.

Time in which a process does not run itself, suspended with its job, say, is not held against the others.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import TCPStore

from imago.distributed import exchanges_begun

logger = logging.getLogger(__name__)

_VERDICT = "verdict"


@dataclass
class _Sign:
    text: str  # its newest sign
    seen_at: float  # when it changed
    exchanges: int = 0
    moved_at: float = 0.0  # when the number of exchanges changed


class _WakefulClock:
    """Seconds in which this process has been awake: of a longer time between two looks only two intervals count."""

    def __init__(self, interval: float) -> None:
        self._longest = 2 * interval
        self._looked_at = time.monotonic()
        self._now = 0.0

    def now(self) -> float:
        """To be called every interval."""
        at = time.monotonic()
        self._now += min(at - self._looked_at, self._longest)
        self._looked_at = at
        return self._now


class ProcessWatch:
    """Watches the processes of a run; one object in each of them.

    Args:
        rank: This process.
        store: Served by the first process; see :func:`open_store`.
        names: Of all processes, for messages: ``"process 3 on node7"``.
        lost_after: Seconds without a sign of life after which a process is lost.
        stalled_after: Seconds that the others wait for a process which does not move.
        on_verdict: Called once, from a thread, with what happened, when this process has to end.
        exchanges: Tells how many exchanges this process has begun.
    """

    def __init__(
        self,
        rank: int,
        store: TCPStore,
        names: Sequence[str],
        lost_after: float,
        stalled_after: float,
        on_verdict: Callable[[str], None],
        exchanges: Callable[[], int] = exchanges_begun,
    ) -> None:
        self.rank = rank
        self.store = store
        self.names = names
        self.lost_after = lost_after
        self.stalled_after = stalled_after
        self.on_verdict = on_verdict
        self.exchanges = exchanges
        self.verdict: str | None = None
        self._interval = min(5.0, lost_after / 5)
        self._beats = 0
        self._closing = threading.Event()
        self._decided = threading.Event()
        self._deciding = threading.Lock()
        self._answers = 0  # of the store
        self._thread = threading.Thread(target=self._run, name="process watch", daemon=True)
        self._guard = (
            threading.Thread(target=self._watch_store, name="process watch of the store", daemon=True) if rank else None
        )

    def start(self) -> None:
        """Gives the first sign and starts watching. All processes must have come here before any goes on."""
        self._beat()
        self._thread.start()
        if self._guard is not None:
            self._guard.start()

    def fail(self, reason: str) -> None:
        """Tells the others that this process ends with an error; the first one to fail is the one they are told of.

        Args:
            reason: One line.
        """
        self._closing.set()
        self._tell(f"{self.names[self.rank]} ended: {reason}")
        if self.rank == 0:  # the store ends with this process: the others have to read it before
            time.sleep(1.5 * self._interval)

    def close(self) -> None:
        """Ends the watch of this process, whose work is done, as that of all others.

        The first process keeps its object until all have closed theirs: the store ends with it.
        """
        self._closing.set()
        self._thread.join(self.lost_after + self._interval)
        if self._guard is not None:
            self._guard.join()

    def explain(self) -> str | None:
        """What has happened to the others, waiting as long as it takes to find out; None: nothing that is known."""
        self._decided.wait(self.lost_after + 4 * self._interval)
        return self.verdict

    def _run(self) -> None:
        signs: dict[int, _Sign] = {}
        clock = _WakefulClock(self._interval)
        while not self._closing.wait(self._interval):
            try:
                self._beat()
                if self.store.check([_VERDICT]):
                    self._decide(self.store.get(_VERDICT).decode())
                    return
                if self.rank == 0 and (found := self._missing(signs, clock.now())) is not None:
                    self._tell(found)
                    self._decide(self.store.get(_VERDICT).decode())
                    return
                self._answers += 1
            except RuntimeError as error:  # DistNetworkError, DistStoreError: the store does not answer
                if self._closing.is_set():
                    return
                logger.debug("the store of the process watch does not answer: %s", error)
                self._decide(f"{self.names[0]} was lost: it does not answer any more")
                return

    def _watch_store(self) -> None:
        """Not on the first process, which serves the store."""
        clock = _WakefulClock(self._interval)
        answers, answered_at = self._answers, clock.now()
        while not self._closing.wait(self._interval) and not self._decided.is_set():
            now = clock.now()
            if self._answers != answers:
                answers, answered_at = self._answers, now
            elif now - answered_at > self.lost_after + self._interval:
                self._decide(f"{self.names[0]} was lost: it has not answered for {self.lost_after:g} s")

    def _beat(self) -> None:
        self._beats += 1
        self.store.set(f"sign/{self.rank}", f"{self._beats} {self.exchanges()}")

    def _missing(self, signs: dict[int, _Sign], now: float) -> str | None:
        """The first process alone: what is wrong with one of the others, or itself."""
        texts = self.store.multi_get([f"sign/{rank}" for rank in range(len(self.names))])
        for rank, text in enumerate(one.decode() for one in texts):
            exchanges = int(text.split()[1])
            sign = signs.setdefault(rank, _Sign("", now, exchanges, now))
            if text != sign.text:
                sign.text, sign.seen_at = text, now
            if exchanges != sign.exchanges:
                sign.exchanges, sign.moved_at = exchanges, now
        lost = [rank for rank, sign in signs.items() if now - sign.seen_at > self.lost_after]
        if lost:
            return f"{self._listed(lost)} lost: no sign of life for {self.lost_after:g} s"
        furthest = max(sign.exchanges for sign in signs.values())
        stuck = [
            rank
            for rank, sign in signs.items()
            if sign.exchanges < furthest and now - sign.moved_at > self.stalled_after
        ]
        waited = min((now - sign.moved_at for sign in signs.values() if sign.exchanges == furthest), default=0.0)
        if stuck and waited > self.stalled_after:
            return f"{self._listed(stuck)} stuck: the others have waited for {self.stalled_after:g} s"
        return None

    def _listed(self, ranks: Sequence[int]) -> str:
        shown = ", ".join(self.names[rank] for rank in ranks[:4]) + (f" and {len(ranks) - 4} more" * (len(ranks) > 4))
        return f"{shown} {'was' if len(ranks) == 1 else 'were'}"

    def _tell(self, verdict: str) -> None:
        """Writes a verdict unless there is one."""
        try:
            self.store.compare_set(_VERDICT, "", verdict)
        except RuntimeError:  # the first process has gone: nobody is left to be told
            return

    def _decide(self, verdict: str) -> None:
        """Once, from either thread."""
        with self._deciding:
            mine = not self._decided.is_set()
            if mine and not self._closing.is_set():
                self.verdict = verdict
            self._decided.set()
        if mine and self.verdict is not None:
            self.on_verdict(verdict)


def open_store(host: str, rank: int, exchange_port: Callable[[int], int], timeout: float) -> TCPStore:
    """The store that processes of a run give their signs of life to.

    Args:
        host: Address of the first process's machine.
        rank: This process.
        exchange_port: Gives what the first process passes to it, on all processes.
        timeout: Seconds after which a store that does not answer is given up.
    """
    limit = timedelta(seconds=timeout)
    if rank == 0:
        store = TCPStore(host, 0, None, True, limit, wait_for_workers=False)
        exchange_port(store.port)
        return store
    return TCPStore(host, exchange_port(0), None, False, limit, wait_for_workers=False)


def process_name(rank: int) -> str:
    """``"process 3 on node7"``."""
    return f"process {rank} on {socket.gethostname()}"
