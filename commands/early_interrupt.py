"""Ctrl-C while a command imports what it needs, which takes seconds.

Until then nothing has been done, so the process ends at once, with the line that it ends with later. What is
interrupted in the middle of an import would else show where, in dozens of lines.
"""

import os
import signal
import sys
from types import FrameType


def end_at_once() -> None:
    """Lets Ctrl-C end this process with one line, until :func:`raise_again`; of programs, before their imports."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not of a background job, which ignores it
        signal.signal(signal.SIGINT, _end)


def raise_again() -> None:
    """Lets Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    sys.stderr.write("error: interrupted\n")
    sys.stderr.flush()
    os._exit(130)
