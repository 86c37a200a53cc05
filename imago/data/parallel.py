"""Work on runs of items in several processes, with the results in order."""

import itertools
import mmap
import multiprocessing
import os
import pickle
import secrets
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 4  # results per worker that may wait to be taken; more, and a slow disk would fill the memory
_LARGE = 1 << 17  # bytes of arrays in a result from which they are handed over through shared memory
_SHARED = Path("/dev/shm")
_SHARED_FREE = 1 << 28  # bytes that must be free there


def ordered_map(
    function: Callable[[Task, range], Result], task: Task, runs: Sequence[range], workers: int
) -> Iterator[Result]:
    """``function(task, run)`` for every run, in order.

    Args:
        function: A module-level function.
        task: What it works on; pickled once per worker.
        runs: Its second argument.
        workers: Processes; with 1, this one does the work. They are spawned: a script that calls this with more must
            guard its entry point with ``if __name__ == "__main__"``.

    Yields:
        The results, as soon as all before them are there.

    Raises:
        concurrent.futures.process.BrokenProcessPool: A worker died.
    """
    if workers == 1 or len(runs) <= 1:
        for run in runs:
            yield function(task, run)
        return
    # Spawned: a fork of a process with threads (as training has) may deadlock.
    context = multiprocessing.get_context("spawn")
    place = _shared_folder() / f"imago-{os.getpid()}-{secrets.token_hex(4)}"  # and a number: files of results
    try:
        with ProcessPoolExecutor(min(workers, len(runs)), context, _start_worker, (function, task, place)) as pool:
            waiting: deque[Future[Any]] = deque()
            try:
                for run in runs:
                    waiting.append(pool.submit(_work, run))
                    if len(waiting) > _AHEAD * workers:
                        yield _received(waiting.popleft().result())
                while waiting:
                    yield _received(waiting.popleft().result())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
    finally:
        _remove(place)


def _shared_folder() -> Path:
    """Memory that all processes see, or the usual temporary folder where there is little of it."""
    with suppress(OSError):
        status = os.statvfs(_SHARED)
        if status.f_bavail * status.f_frsize >= _SHARED_FREE and os.access(_SHARED, os.W_OK):
            return _SHARED
    return Path(tempfile.gettempdir())


def _remove(place: Path) -> None:
    for path in place.parent.glob(f"{place.name}-*"):
        path.unlink(missing_ok=True)


# --- in a worker ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    function: Callable[[Any, range], Any]
    task: Any
    place: Path  # for results: the beginning of their files' names


@dataclass(frozen=True)
class _Handover:
    """A result whose arrays lie in a file, one after the other: a pipe takes several times as long as the memory."""

    path: Path
    pickled: bytes
    sizes: list[int]


_job: _Job | None = None
_numbers = itertools.count()


def _start_worker(function: Callable[[Any, range], Any], task: Any, place: Path) -> None:
    global _job
    _job = _Job(function, task, place)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    threading.Thread(target=_exit_with_parent, args=(place,), daemon=True).start()


def _exit_with_parent(place: Path) -> None:
    """A killed parent cannot end its workers, which would wait for work forever, nor clear up."""
    parent = multiprocessing.parent_process()
    with suppress(OSError):
        if parent is not None:
            parent.join()
            time.sleep(0.2)  # until the other workers have noticed, too, and write no more
            _remove(place)
            os._exit(1)


def _work(run: range) -> Any:
    assert _job is not None
    result = _job.function(_job.task, run)
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(result, protocol=5, buffer_callback=buffers.append)
    arrays = [buffer.raw() for buffer in buffers]
    sizes = [array.nbytes for array in arrays]
    if sum(sizes) < _LARGE:
        return result
    path = _job.place.with_name(f"{_job.place.name}-{os.getpid()}-{next(_numbers)}")
    try:
        # For the eyes of this user only, and never through a link that somebody else has put there.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            for array in arrays:
                if file.write(array) != array.nbytes:
                    raise OSError("no space")
    except OSError:  # what is shared is full: the pipe will do
        path.unlink(missing_ok=True)
        return result
    return _Handover(path, pickled, sizes)


# --- in the parent ----------------------------------------------------------------------------------------------------


def _received(result: Any) -> Any:
    if not isinstance(result, _Handover):
        return result
    with open(result.path, "rb") as file:
        memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))  # freed with the last array in it
    result.path.unlink()
    buffers, start = [], 0
    for size in result.sizes:
        buffers.append(memory[start : start + size])
        start += size
    return pickle.loads(result.pickled, buffers=buffers)
