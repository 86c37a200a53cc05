"""One process at a time."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds a lock on the name `path`, waiting for the process that holds it; the lock file is removed afterwards.

    The system frees the lock of a process that dies. Works between machines only where the file system's flock does
    (NFS since Linux 2.6.12 does).
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("waiting for another process to release %s", path)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # The holder we waited for has removed the file: a lock on it excludes nobody any more.
            if not _is_open_file(path, descriptor):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


def _is_open_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
