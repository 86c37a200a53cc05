"""Several watches in one process, over a real store; a process that is lost is one that gives no signs any more."""

import threading
import time
from collections.abc import Iterator

import pytest

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
