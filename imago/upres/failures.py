"""One bad file does not stop the rest: what failed is told at the end."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from imago.errors import UserError, first_line

logger = logging.getLogger(__name__)

_NAMED = 10  # failures named in the last line; each was told when it happened
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # what the next file would fail of too


class Failures:
    """Collects the failures of a batch.

    ::

        failures = Failures(len(files))
        for file in files:
            with failures.recorded(file.name):
                ...
        failures.raise_if_any()

    Args:
        total: Files in the batch.

    Attributes:
        reasons: Name → what went wrong, in one line.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.reasons: dict[str, str] = {}

    @contextmanager
    def recorded(self, name: str) -> Iterator[None]:
        """Whatever goes wrong within the block is told at once and kept, and the program goes on behind the block.

        A full disk is raised: the rest would fail of it too. What is not the file's fault as far as one can tell is
        logged with its traceback.

        Args:
            name: Of the file.

        Raises:
            UserError: The disk is full or cannot be written to.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _FATAL:
                raise UserError(f"{name}: cannot be written ({error.strerror})") from error
            self.reasons[name] = _reason(error, name)
            known = isinstance(error, UserError | OSError)
            logger.warning("%s failed: %s", name, self.reasons[name], exc_info=None if known else error)

    def raise_if_any(self) -> None:
        """Ends a batch.

        Raises:
            UserError: At least one file failed: "3 of 40 files failed: a.jpg (truncated), …".
        """
        if not self.reasons:
            return
        if self.total == 1:
            raise UserError("; ".join(f"{name}: {reason}" for name, reason in self.reasons.items()))
        named = [f"{name} ({reason})" for name, reason in list(self.reasons.items())[:_NAMED]]
        more = f" and {len(self.reasons) - _NAMED} more" if len(self.reasons) > _NAMED else ""
        raise UserError(f"{len(self.reasons)} of {self.total} files failed: {', '.join(named)}{more}")


def _reason(error: Exception, name: str) -> str:
    """An error in one line, without the path that its message may begin with."""
    text = first_line(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    elif not isinstance(error, UserError):
        text = f"{type(error).__name__}: {text}" if str(error) else type(error).__name__
    head, mark, rest = text.partition(": ")
    return rest if mark and head.replace("\\", "/").endswith(name) else text
