"""How far a long preparation is, and how long it will take."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

logger = logging.getLogger("imago")


class PreparationProgress:
    """A bar on a terminal; a line at the start and now and then elsewhere. To be used as a context manager and called.

    Args:
        doing: What is done, "packing faces".
        line_seconds: How often a line is written where there is no terminal.
    """

    def __init__(self, doing: str, line_seconds: float = 30.0) -> None:
        self.doing = doing
        self.line_seconds = line_seconds
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._total: int | None = None
        self._first = 0
        self._started_at = self._told_at = 0.0

    def __enter__(self) -> PreparationProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def __call__(self, done: int, total: int) -> None:
        """Tells that `done` of `total` entries are done."""
        now = time.monotonic()
        if total != self._total:
            self._begin(done, total, now)
        rate = (done - self._first) / max(now - self._started_at, 1e-6)
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, rate=f"{rate:.3g}/s")
        elif now - self._told_at >= self.line_seconds:
            self._told_at = now
            left = _clock((total - done) / rate) if rate > 0 else "…"
            logger.info("%s: %d of %d, %.3g/s, %s left", self.doing, done, total, rate, left)

    def _begin(self, done: int, total: int, now: float) -> None:
        self._total, self._first, self._started_at, self._told_at = total, done, now, now
        if not sys.stderr.isatty():
            logger.info("%s: %d entries", self.doing, total)
            return
        if self._bar is None:
            self._bar = _rich_bar()
            self._bar.start()
        elif self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(self.doing, total=total, completed=done, rate="")


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _rich_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", justify="right"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(stderr=True),
        refresh_per_second=4,
    )
