"""Tells an Optuna study what a run measures, and stops the run when the study has no hope for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from hydra.utils import instantiate

from imago.errors import UserError, first_line
from imago.evaluation.measure import Row

if TYPE_CHECKING:
    from optuna.trial import Trial

    from lightning_modules.adversarial import AdversarialModule

logger = logging.getLogger("imago")

PRUNED = "pruned"  # an attribute of trials
PRUNER = "pruner"  # of studies: its options, which a storage does not keep by itself

_ATTEMPTS, _BETWEEN = 3, 2.0  # to tell the study a value; seconds between them
_LOCKED_SECONDS = 60  # that SQLite waits for another process on the same file, instead of 5

_TRIALS: dict[tuple[str, int], Any] = {}  # of studies that live in this process alone


def remember(trial: Trial) -> None:
    """Keeps a trial for a job that runs in this process."""
    _TRIALS[trial.study.study_name, trial.number] = trial


def storage_at(url: str | None) -> Any:
    """The storage of a study, as Optuna takes it; None: in this process alone.

    Args:
        url: As for SQLAlchemy. With SQLite, processes wait for each other longer than they do by default.
    """
    if url is None or not url.startswith("sqlite"):
        return url
    from optuna.storages import RDBStorage

    return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": _LOCKED_SECONDS}})


class Pruning(pl.Callback):
    """Reports the objective whenever it is measured; set up by ``sweep=optuna`` for each trial.

    Args:
        study: Name of the study; None: the run belongs to none.
        storage: Where it is kept; None: in this process.
        trial: Number of the trial.
        objective: The row of the metrics that counts.
    """

    def __init__(
        self, study: str | None = None, trial: int = 0, storage: str | None = None, objective: str | None = None
    ) -> None:
        self.study = study
        self.storage = storage
        self.number = trial
        self.objective = objective
        self.pruned = False

    def measured(self, trainer: pl.Trainer, module: AdversarialModule, rows: Sequence[Row]) -> None:
        """Takes in what was measured; on the first process."""
        value = next((row.value for row in rows if row.metric == self.objective), None)
        if self.study is None or value is None or not trainer.is_global_zero:
            return
        if self._hopeless(value, module.images_seen):
            logger.info("%d images seen: pruned, %s is %.4g", module.images_seen, self.objective, value)
            self.pruned = True
            module.stopping.wished = True

    def _hopeless(self, value: float, images_seen: int) -> bool:
        """Reports a value; whether the run is to stop. A storage that does not answer costs the report, not the run."""
        for attempt in range(_ATTEMPTS):
            try:
                trial = self._trial()
                trial.report(value, images_seen)
                if trial.should_prune():
                    trial.set_user_attr(PRUNED, True)
                    return True
                return False
            except UserError:
                raise
            except Exception as error:  # of Optuna or SQLAlchemy
                logger.warning("the study %s could not be told (%s)", self.study, first_line(error))
                if attempt + 1 < _ATTEMPTS:
                    time.sleep(_BETWEEN)
        return False

    def _trial(self) -> Trial:
        assert self.study is not None
        if (self.study, self.number) not in _TRIALS:
            _TRIALS[self.study, self.number] = self._loaded()
        return _TRIALS[self.study, self.number]

    def _loaded(self) -> Trial:
        if self.storage is None:
            raise UserError(
                "jobs in processes of their own find their trial in a storage: add hydra.sweeper.storage=sqlite:///… "
                "on a file system that all of them see"
            )
        try:
            import optuna

            study = optuna.load_study(study_name=self.study, storage=storage_at(self.storage))
        except Exception as error:  # of SQLAlchemy
            raise UserError(f"the study {self.study} cannot be opened at {self.storage}: {error}") from error
        if options := study.user_attrs.get(PRUNER):
            study.pruner = instantiate(options)
        return optuna.trial.Trial(study, study.trials[self.number]._trial_id)
