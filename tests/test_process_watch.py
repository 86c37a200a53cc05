"""Several watches in one process, over a real store; a process that is lost is one that gives no signs any more."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from imago import process_watch
from imago.process_watch import ProcessWatch, open_store

LOST, STALLED = 1.0, 1.5


class Processes:
    """Watches of processes that share a store."""

    def __init__(self, count: int) -> None:
        port: dict[str, int] = {}
        known = threading.Event()

        def exchange(value: int) -> int:
            if value:
                port["value"] = value
                known.set()
            known.wait()
            return port["value"]

        self.begun = [0] * count
        self.verdicts: list[tuple[int, str]] = []
        names = [f"process {rank} on node{rank}" for rank in range(count)]
        self.watches = [
            ProcessWatch(
                rank,
                open_store("127.0.0.1", rank, exchange, LOST),
                names,
                LOST,
                STALLED,
                lambda verdict, rank=rank: self.verdicts.append((rank, verdict)),
                lambda rank=rank: self.begun[rank],
            )
            for rank in range(count)
        ]
        for watch in self.watches:
            watch.start()

    def lose(self, rank: int) -> None:
        self.watches[rank]._closing.set()  # its thread ends without a word

    def wait(self, verdicts: int, seconds: float = 10.0) -> None:
        patience = time.monotonic() + seconds
        while len(self.verdicts) < verdicts and time.monotonic() < patience:
            time.sleep(0.05)


@pytest.fixture
def three() -> Iterator[Processes]:
    processes = Processes(3)
    yield processes
    for watch in processes.watches:
        watch._closing.set()


def test_nothing_is_said_while_all_give_signs_and_move(three):
    for _ in range(10):
        time.sleep(0.3)
        three.begun = [number + 1 for number in three.begun]
    assert three.verdicts == []


def test_processes_that_all_stand_still_are_not_stuck(three):
    """They evaluate, say: nobody waits for anybody."""
    time.sleep(2 * STALLED)
    assert three.verdicts == []


def test_lost_process_is_named_to_the_others(three):
    three.lose(1)
    three.wait(2)
    verdict = f"process 1 on node1 was lost: no sign of life for {LOST:g} s"
    assert sorted(three.verdicts) == [(0, verdict), (2, verdict)]
    assert three.watches[0].explain() == verdict


def test_several_lost_processes_are_named_together():
    processes = Processes(4)
    processes.lose(1)
    processes.lose(3)
    processes.wait(2)
    assert all("process 1 on node1, process 3 on node3 were lost" in verdict for _, verdict in processes.verdicts)
    for watch in processes.watches:
        watch._closing.set()


def test_process_for_which_the_others_wait_is_named(three):
    three.begun = [5, 5, 4]  # alive, but it has not begun the fifth exchange
    three.wait(3)
    verdict = f"process 2 on node2 was stuck: the others have waited for {STALLED:g} s"
    assert sorted(three.verdicts) == [(rank, verdict) for rank in range(3)]


def test_process_that_lags_for_a_moment_is_not_stuck(three):
    three.begun = [5, 5, 4]
    time.sleep(STALLED / 2)
    three.begun = [5, 5, 5]
    time.sleep(STALLED + 1)
    assert three.verdicts == []


def test_error_of_a_process_is_told_to_the_others(three):
    three.watches[2].fail("the disk is full")
    three.wait(2)
    assert sorted(three.verdicts) == [(rank, "process 2 on node2 ended: the disk is full") for rank in (0, 1)]


def test_first_process_is_missed_too():
    """Its store goes with it."""
    processes = Processes(2)
    processes.lose(0)
    processes.watches[0].store = None  # the last reference: the server ends
    processes.wait(1)
    assert processes.verdicts == [(1, "process 0 on node0 was lost: it does not answer any more")]


def test_end_of_the_work_is_no_loss(three):
    for watch in three.watches[::-1]:
        watch.close()
    time.sleep(LOST + 1)
    assert three.verdicts == []


def _serve(connection) -> None:
    """The first of two processes, which serves the store."""

    def exchange(port: int) -> int:
        connection.send(port)
        return port

    watch = ProcessWatch(0, open_store("127.0.0.1", 0, exchange, LOST), ["one", "two"], LOST, STALLED, print)
    watch.start()
    time.sleep(60)


def test_first_process_that_falls_silent_is_missed():
    """Its machine has lost power, say: connections stay open, and calls of the store block whatever their time-out."""
    here, there = multiprocessing.get_context("fork").Pipe()
    first = multiprocessing.get_context("fork").Process(target=_serve, args=(there,))
    first.start()
    port = here.recv()
    verdicts: list[str] = []
    store = open_store("127.0.0.1", 1, lambda _: port, LOST)
    watch = ProcessWatch(1, store, ["one", "two"], LOST, STALLED, verdicts.append)
    try:
        watch.start()
        time.sleep(2 * LOST)
        assert verdicts == []
        assert first.pid is not None
        os.kill(first.pid, signal.SIGSTOP)
        patience = time.monotonic() + 10 * LOST
        while not verdicts and time.monotonic() < patience:
            time.sleep(0.05)
        assert verdicts == [f"one was lost: it has not answered for {LOST:g} s"]
        assert watch.explain() == verdicts[0]
    finally:
        watch._closing.set()
        first.kill()
        first.join()


def test_time_in_which_a_process_is_suspended_does_not_count(monkeypatch):
    times = iter([100.0, 101.0, 102.5, 3000.0, 3001.0])
    monkeypatch.setattr(process_watch.time, "monotonic", lambda: next(times))
    clock = process_watch._WakefulClock(interval=1.0)
    assert [clock.now() for _ in range(4)] == [1.0, 2.5, 4.5, 5.5]
