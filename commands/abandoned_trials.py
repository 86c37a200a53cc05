"""Trials of a study in a storage whose process was killed: who takes them up again."""

from __future__ import annotations

import contextlib
import fcntl
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import optuna
from optuna.trial import Trial, TrialState

from commands.run_directory import is_running
from imago.errors import UserError

_OWNER = "owner"  # an attribute of trials: a file that the process which makes it keeps locked
_DIRECTORY = "directory"  # likewise: where it trains


class Owner:
    """A process that makes trials, as other processes on the same study see it.

    Each trial names a file that its process keeps locked as long as it lives. A process that finds the file unlocked
    locks it itself, and goes on with the trial; so two that look at the same time do not both take it.

    Args:
        folder: The sweep's directory; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._path = self._folder / f".owner-{uuid.uuid4().hex[:12]}"
        self._held: dict[str, IO[str]] = {}

    @contextlib.contextmanager
    def present(self) -> Iterator[None]:
        """The time in which this process makes trials.

        Raises:
            UserError: The folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path.touch()
        except OSError as error:
            raise UserError(f"hydra.sweep.dir={self._folder}: cannot be written ({error.strerror})") from error
        self._lock(str(self._path))
        try:
            yield
            self._path.unlink(missing_ok=True)  # stays where trials are left behind
        finally:
            for file in self._held.values():
                file.close()
            self._held.clear()

    def sign(self, trial: Trial) -> None:
        """Makes a new trial this process's."""
        trial.set_user_attr(_DIRECTORY, str(self._folder / str(trial.number)))
        trial.set_user_attr(_OWNER, str(self._path))  # last: who finds it finds the other one, too

    def take_up(self, study: optuna.Study) -> list[Trial]:
        """Trials that a killed process has left behind and whose runs have ended; they are this process's now."""
        taken = []
        for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            owner = frozen.user_attrs.get(_OWNER)
            if owner is None or owner == str(self._path) or not self._lock(owner):
                continue
            if study._storage.get_trial(frozen._trial_id).state != TrialState.RUNNING:  # it has ended since
                continue
            if not is_running(Path(frozen.user_attrs[_DIRECTORY])):  # as a job on a cluster
                taken.append(Trial(study, frozen._trial_id))
        return taken

    def _lock(self, path: str) -> bool:
        """Whether a file is locked by this process now."""
        if path in self._held:
            return True
        try:
            file = open(path, "r+")  # noqa: SIM115
        except OSError:  # on another machine
            return False
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._held[path] = file
        return True


def directory_of(trial: Trial) -> str:
    """Where a trial trains."""
    return str(trial.user_attrs[_DIRECTORY])
