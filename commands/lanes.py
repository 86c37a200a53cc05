"""imago's own commands, run beside each other: the commands of a lane one after the other, the lanes at once."""

from __future__ import annotations

import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from imago.errors import UserError

_HOME = Path(__file__).resolve().parents[1]
_PATIENCE = 20.0  # seconds that a command is given to end when it is interrupted


@dataclass(frozen=True)
class Command:
    """One of imago's commands.

    Attributes:
        name: Stands before every line that it prints.
        program: ``train``, ``upres``, ``prepare`` …
        arguments: Its options.
    """

    name: str
    program: str
    arguments: Sequence[str]

    def __str__(self) -> str:
        return shlex.join(["python", f"{self.program}.py", *self.arguments])


@dataclass
class _Running:
    command: Command
    lane: Iterator[Command]
    process: subprocess.Popen[str]
    began: float
    error: str = ""


def run_lanes(lanes: Sequence[Sequence[Command]], tell: Callable[[str], None] = print) -> None:
    """Runs all commands to their ends; when one fails or this process is stopped, all of them end.

    Each gets the same share of the processor's cores, unless ``OMP_NUM_THREADS`` says otherwise.

    Args:
        lanes: The commands of each lane.
        tell: Takes the lines that they print, and how long each took.

    Raises:
        UserError: What the first one to fail said.
        KeyboardInterrupt: The user pressed Ctrl-C; the commands have ended.
        SystemExit: This process was asked to end by SIGTERM; the commands have ended.
    """
    threads = max(1, _cores() // max(1, len(lanes)))
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, "PYTHONUNBUFFERED": "1"}
    lines: queue.Queue[tuple[_Running, str | None]] = queue.Queue()
    running: list[_Running] = []

    def start(lane: Iterator[Command]) -> None:
        command = next(lane, None)
        if command is None:
            return
        tell(f"$ {command}")
        process = subprocess.Popen(
            [sys.executable, str(_HOME / f"{command.program}.py"), *command.arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        one = _Running(command, lane, process, time.monotonic())
        running.append(one)
        threading.Thread(target=_read, args=(one, lines), daemon=True).start()

    with _ended_by_sigterm():
        try:
            for lane in lanes:
                start(iter(lane))
            while running:
                one, line = lines.get()
                if line is not None:
                    one.error = line if line.startswith("error: ") else one.error
                    tell(f"{one.command.name:<6} {line}")
                    continue
                code = one.process.wait()
                running.remove(one)
                if code != 0:
                    raise UserError(_failure(one, code))
                tell(f"{one.command.name:<6} done in {_minutes(time.monotonic() - one.began)}")
                start(one.lane)
        finally:
            _end([one.process for one in running])


def _read(one: _Running, lines: queue.Queue[tuple[_Running, str | None]]) -> None:
    assert one.process.stdout is not None
    for line in one.process.stdout:
        if text := line.rstrip():
            lines.put((one, text))
    lines.put((one, None))


def _failure(one: _Running, code: int) -> str:
    said = one.error.removeprefix("error: ") or f"ended with {'signal' if code < 0 else 'exit code'} {abs(code)}"
    return f"{one.command.name}: {said}"


def _end(processes: Sequence[subprocess.Popen[str]]) -> None:
    # Ctrl-C means nothing to what was started in the background by a script, and to what that starts.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    for process in processes:
        process.send_signal(signal.SIGTERM if ignored else signal.SIGINT)
    patience = time.monotonic() + _PATIENCE
    for process in processes:
        try:
            process.wait(max(0.0, patience - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends this process as an exception, so that the commands do not outlive it."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
