"""A run directory: who may write there, and what it goes on from."""

import contextlib
import datetime
import fcntl
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from commands.code_snapshot import current_revision, record_revision
from commands.job_failures import run_begins
from commands.processes import place
from imago import slurm
from imago.atomic import atomic_path, remove_leftovers
from imago.errors import UserError
from imago.networks.serialization import CHECKPOINT_FILE, PREVIOUS_CHECKPOINT_FILE, load_checkpoint

logger = logging.getLogger("imago")

_SHOWN = 6  # keys that differ, in a message

# Keys that may change when a run goes on: they do not shape its weights, or another check covers them (the data's
# checksum is compared when the data set is open).
_FREE_KEYS = frozenset(
    {
        "total_images",
        "trainer",
        "logger",
        "callbacks",
        "name",
        "run_dir",
        "resume",
        "objective",
        "data.path",
        "data.root",
        "data.include_synthetic",
        "data.cache",
        "data.workers",
        "data.threads",
        "data.prefetch",
        "data.verify",
        "data.pack_workers",
        "data.zip_from",
        "data.png_level",
        "data.max_unreadable",
        "growth.final_images",
        "model.micro_batch",
        "model.channels_last",
    }
)


# What a checkpoint must hold to be looked at; the training state is checked where it is loaded.
_CONTENTS = frozenset({"config", "data_checksum", "images_seen"})


class RunDirectory:
    """The directory of one run.

    Args:
        path: The directory; made when it is locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._damaged: list[Path] = []
        self._main_process = place().first

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out, and writes train.log, as long as the block lasts.

        Raises:
            UserError: Another process trains here, or the directory cannot be made or written.
        """
        if not self._main_process:
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / ".lock", "a")  # noqa: SIM115
        except FileExistsError as error:
            raise UserError(f"run_dir={self.path}: there is a file of that name") from error
        except OSError as error:
            raise UserError(f"run_dir={self.path}: cannot be written ({error.strerror})") from error
        with lock:
            try:
                # Not flock: forked loader workers would hold it for seconds after this process was killed.
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                raise UserError(f"run_dir={self.path}: another process is training there") from error
            log = _LogFile(self.path / "train.log", delay=True)
            log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            root = logging.getLogger()
            root.addHandler(log)
            try:
                yield
            finally:
                root.removeHandler(log)
                log.close()

    def checkpoint(self, config: dict[str, Any], resume: str) -> dict[str, Any] | None:
        """Finds what to go on from; writes nothing.

        Args:
            config: The resolved configuration as plain containers.
            resume: "auto" or "never".

        Returns:
            The newest whole checkpoint's contents, or None for a new run.

        Raises:
            UserError: There is a checkpoint of another configuration, or any with resume=never, or only damaged ones.
        """
        checkpoint = self._newest_checkpoint()
        if checkpoint is not None:
            if resume == "never":
                raise UserError(f"{self.path} holds a checkpoint and resume=never; choose another run_dir")
            changed = differences(checkpoint.get("config", {}), config)
            if changed:
                more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
                raise UserError(
                    f"{self.path} was trained with another configuration: {'; '.join(changed[:_SHOWN])}{more}; "
                    "choose another run_dir, or give the values it was trained with"
                )
        return checkpoint

    def begin(self, config: dict[str, Any]) -> None:
        """Records the configuration once nothing speaks against training, and clears up after a killed process.

        Args:
            config: The resolved configuration as plain containers.
        """
        if not self._main_process:
            return
        for path in self._damaged:  # or the next snapshot would keep it as the checkpoint before its own
            os.replace(path, path.with_name(f"damaged-{path.name}"))
        for folder in ("", "samples", "generators"):
            remove_leftovers(self.path / folder)
        run_begins(self.path)
        try:
            with atomic_path(self.path / "config.yaml") as temporary:
                temporary.write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
        except OSError as error:
            raise UserError(f"run_dir={self.path}: cannot be written ({error.strerror})") from error

    def record_start(self, images_seen: int, processes: int) -> None:
        """Adds a line to ``starts.jsonl``: when, where, with which code and command.

        Args:
            images_seen: Where the run begins or goes on.
            processes: How many train.
        """
        if not self._main_process:
            return
        try:
            record_revision(
                self.path,
                current_revision(),
                images_seen=images_seen,
                processes=processes,
                time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                host=socket.gethostname(),
                slurm_job=slurm.job_id(),
                command=sys.argv,
            )
        except OSError as error:
            logger.warning("starts.jsonl could not be written (%s)", error.strerror or error)

    def _newest_checkpoint(self) -> dict[str, Any] | None:
        problems: list[str] = []
        self._damaged.clear()
        for name in (CHECKPOINT_FILE, PREVIOUS_CHECKPOINT_FILE):
            path = self.path / name
            if not path.exists():
                continue
            try:
                checkpoint = load_checkpoint(path)
            except UserError as error:
                problems.append(str(error))
                self._damaged.append(path)
                continue
            missing = sorted(_CONTENTS - checkpoint.keys())
            if missing:
                raise UserError(
                    f"{path}: not written by train.py ({', '.join(missing)} missing); choose another run_dir"
                )
            if problems and self._main_process:
                logger.warning(
                    "%s; going on from the checkpoint before it, %s; the damaged one is kept as damaged-%s",
                    problems[0],
                    path.name,
                    self._damaged[0].name,
                )
            return checkpoint
        if problems:
            raise UserError(f"{problems[-1]}; no whole checkpoint is left: choose another run_dir or remove this one")
        return None


def is_running(path: Path) -> bool:
    """Whether a process trains in a run directory; asks for the lock only, so that none that starts now is refused."""
    try:
        with open(path / ".lock", "rb") as lock:
            # struct flock of 64-bit Linux, and of BSD: type, whence, place in the file; free: F_UNLCK comes back
            if sys.platform == "linux":
                wish = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
                return struct.unpack("hhqqi4x", fcntl.fcntl(lock, fcntl.F_GETLK, wish))[0] != fcntl.F_UNLCK
            wish = struct.pack("qqihh", 0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
            return struct.unpack("qqihh", fcntl.fcntl(lock, fcntl.F_GETLK, wish))[3] != fcntl.F_UNLCK
    except OSError:  # nobody has trained there, or it is somebody else's
        return False


class _LogFile(logging.FileHandler):
    """train.log; a full disk costs lines of it, not pages of tracebacks on the terminal."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The keys that shape training and differ, another model first: ``"loss.drift: 0.001 → 0.01"``."""
    before, after = flatten(old), flatten(new)
    return [
        f"{key}: {before.get(key, 'not set')} → {after.get(key, 'not set')}"
        for key in sorted(before.keys() | after.keys(), key=lambda key: (key != "model._target_", key))
        if before.get(key) != after.get(key) and not _free(key)
    ]


def _free(key: str) -> bool:
    parts = key.split(".")
    return any(".".join(parts[:i]) in _FREE_KEYS for i in range(1, len(parts) + 1))


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration as ``{"loss.drift": 0.001}``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
