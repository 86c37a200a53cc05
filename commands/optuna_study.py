"""An Optuna study: asks for trials, launches them as jobs, and tells what they measured."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl, create_params_from_overrides
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, check_distribution_compatibility
from optuna.exceptions import StorageInternalError
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from callbacks.pruning import PRUNED, PRUNER, remember, storage_at
from commands.abandoned_trials import Owner, directory_of
from commands.app import in_quotes, job_failed, tell
from commands.config_checks import check_config, without_hydra
from commands.objective import check_direction, check_study_objective
from imago.errors import UserError, first_line

logger = logging.getLogger("imago")

_HARMLESS = ("seed", "loss", "data.mirror")  # keys, beside others, that change nothing about what a run measures


class Study(OptunaSweeperImpl):
    """Runs trials until the study has ``n_trials``, however many processes add to it.

    Differences to the plugin's: overrides that are the same for all trials are handed on as they were written (the
    plugin makes ``None`` of ``null``); a trial that fails does not stop the study; a run reports each value that it
    measures, and is pruned when the pruner says so.

    Args:
        pruner: Of Optuna; None: none.
        **options: The plugin's.
    """

    def __init__(self, pruner: Any, **options: Any) -> None:
        super().__init__(**options)
        self.pruner = pruner

    def sweep(self, arguments: list[str]) -> None:
        """Runs the study.

        Args:
            arguments: The overrides of the command.

        Raises:
            UserError: Nothing to search, or a study that cannot be opened.
        """
        assert self.config is not None
        assert self.launcher is not None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        fixed, space = _divided([*self._parse_sweeper_params_config(), *arguments])
        if not space:
            raise UserError(
                "sweep=optuna has nothing to search: give a key several values or an interval, "
                "growth.learning_rate='tag(log, interval(1e-4, 1e-2))'"
            )
        if self.storage is not None and self.study_name is None:
            raise UserError("hydra.sweeper.storage needs hydra.sweeper.study_name=…, by which the study is found again")
        for name, count in (("n_trials", self.n_trials), ("n_jobs", self.n_jobs)):
            if count < 1:
                raise UserError(f"hydra.sweeper.{name} must be at least 1, not {count}")
        if getattr(self.launcher, "options", {}).get("wait") is False:
            raise UserError("hydra.launcher.wait=false: a study waits for its trials; leave it out")
        if any(override.startswith("run_dir=") for override in fixed):
            raise UserError("run_dir: trials train below hydra.sweep.dir=…, which goes on with a study; give that")
        self._check_objective(space, fixed)
        self._check_space(space, fixed)
        try:
            study = self._open(space)
            self._make_trials(study, space, fixed)
        except (StorageInternalError, SQLAlchemyError) as error:
            raise UserError(
                f"the study's storage {self.storage} does not answer ({first_line(error)}); the same command goes on "
                "when it does"
            ) from error
        self._finish(study)

    def _make_trials(self, study: optuna.Study, space: dict[str, BaseDistribution], fixed: Sequence[str]) -> None:
        logger.info("study %s: %d trials are there, %d wanted", study.study_name, len(study.trials), self.n_trials)
        assert self.config is not None
        owner = Owner(Path(str(self.config.hydra.sweep.dir)))
        with owner.present():
            left = [trial for trial in owner.take_up(study) if _is_of(study, trial, space)]
            if left:
                numbers = ", ".join(str(trial.number) for trial in left)
                logger.info("study %s: a killed process left these trials, which go on: %s", study.study_name, numbers)
            for k in range(0, len(left), self.n_jobs):
                self._run(study, left[k : k + self.n_jobs], space, fixed)
            while (missing := self.n_trials - len(study.trials)) > 0:
                trials = [study.ask() for _ in range(min(missing, self.n_jobs))]
                for trial in trials:
                    owner.sign(trial)
                self._run(study, trials, space, fixed)

    def _run(
        self, study: optuna.Study, trials: Sequence[Trial], space: dict[str, BaseDistribution], fixed: Sequence[str]
    ) -> None:
        """Launches trials as jobs that have their numbers, at once unless another process has made one in between."""
        assert self.launcher is not None
        for _, group in itertools.groupby(enumerate(trials), lambda pair: pair[1].number - pair[0]):
            together = [trial for _, trial in group]
            jobs = [self._overrides(study, trial, space, fixed) for trial in together]
            returns = self.launcher.launch(jobs, initial_job_idx=together[0].number)
            for trial, result in zip(together, returns, strict=True):
                _tell(study, trial, result)

    def _check_objective(self, space: dict[str, BaseDistribution], fixed: Sequence[str]) -> None:
        """Refuses what every trial would refuse, before there is any."""
        assert self.config is not None
        assert self.hydra_context is not None
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, list(fixed))
        if cfg.objective is None:
            raise UserError("objective=null: a study needs one, swd/avg say")
        check_direction(cfg.objective, str(getattr(self.direction, "name", self.direction)))
        if all(key in _HARMLESS or key.startswith(("loss.", "growth.learning_rate", "model.")) for key in space):
            HydraConfig.instance().set_config(cfg)  # names of runs are made of it
            check_study_objective(cfg)

    def _check_space(self, space: dict[str, BaseDistribution], fixed: Sequence[str]) -> None:
        """Refuses keys and names that no trial could have, before one is kept in the study."""
        assert self.config is not None
        assert self.hydra_context is not None
        for values in _samples(space):
            overrides = [*fixed, *(f"{name}={value}" for name, value in values.items())]
            cfg = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
            HydraConfig.instance().set_config(cfg)  # names of runs are made of it
            check_config(without_hydra(cfg))

    def _open(self, space: dict[str, BaseDistribution]) -> optuna.Study:
        sampler = self.sampler
        if getattr(sampler, "func", None) is optuna.samplers.GridSampler:
            try:
                grid = {name: self._to_grid_sampler_choices(distribution) for name, distribution in space.items()}
            except ValueError as error:
                raise UserError(
                    f"hydra/sweeper/sampler=grid: {first_line(error)}; give values, or take another sampler"
                ) from error
            sampler = sampler(grid)
            self.n_trials = min(self.n_trials, math.prod(map(len, grid.values())))
        directions = self._get_directions()
        if len(directions) != 1:
            raise UserError("sweep=optuna minimises or maximises one objective")
        try:
            study = optuna.create_study(
                study_name=self.study_name,
                storage=storage_at(self.storage),
                sampler=sampler,
                pruner=self.pruner or optuna.pruners.NopPruner(),
                direction=directions[0],
                load_if_exists=True,
            )
            assert self.config is not None
            options = OmegaConf.select(self.config, "hydra.sweeper.pruner")
            study.set_user_attr(PRUNER, None if options is None else OmegaConf.to_container(options, resolve=True))
        except Exception as error:  # of SQLAlchemy, or Optuna's of a study with another direction
            raise UserError(f"the study cannot be opened at {self.storage}: {error}") from error
        return study

    def _overrides(
        self, study: optuna.Study, trial: Trial, space: dict[str, BaseDistribution], fixed: Sequence[str]
    ) -> tuple[str, ...]:
        try:
            for name, distribution in space.items():
                trial._suggest(name, distribution)
        except ValueError as error:
            raise UserError(
                f"trial {trial.number} of study {study.study_name} has another search space: {error}"
            ) from error
        remember(trial)
        assert self.config is not None
        usual = Path(str(self.config.hydra.sweep.dir)).absolute() / str(trial.number)
        elsewhere = directory_of(trial) != str(usual)
        storage = "null" if self.storage is None else in_quotes(self.storage)
        return (
            *fixed,
            *(f"{name}={value}" for name, value in trial.params.items()),
            f"callbacks.pruning.study={in_quotes(study.study_name)}",
            f"callbacks.pruning.storage={storage}",
            f"callbacks.pruning.trial={trial.number}",
            *([f"hydra.sweep.subdir={in_quotes(directory_of(trial))}"] if elsewhere else []),
        )

    def _finish(self, study: optuna.Study) -> None:
        states = [trial.state for trial in study.trials]
        counts = ", ".join(
            f"{states.count(state)} {word}"
            for state, word in (
                (TrialState.COMPLETE, "complete"),
                (TrialState.PRUNED, "pruned"),
                (TrialState.FAIL, "failed"),
                (TrialState.RUNNING, "running elsewhere"),
            )
            if state in states
        )
        try:
            best = study.best_trial
        except ValueError:
            if TrialState.PRUNED not in states:
                raise UserError(
                    f"study {study.study_name}: {counts}; no trial was completed: raise hydra.sweeper.n_trials, or "
                    "begin another study"
                ) from None
            logger.warning("study %s: %s; no trial was completed", study.study_name, counts)
            return
        results = {"name": "optuna", "best_params": best.params, "best_value": best.value, "best_trial": best.number}
        assert self.config is not None
        path = Path(str(self.config.hydra.sweep.dir)) / "optimization_results.yaml"
        OmegaConf.save(OmegaConf.create(results), path)
        logger.info("study %s: %s", study.study_name, counts)
        overrides = " ".join(f"{name}={value}" for name, value in best.params.items())
        logger.info("best: trial %d with %.6g: %s (%s)", best.number, best.value, overrides, path)


def _divided(overrides: Sequence[str]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """Overrides that are the same for all trials, as they were written, and what is searched."""
    fixed: dict[str, str] = {}
    space: dict[str, BaseDistribution] = {}
    for text, parsed in zip(overrides, OverridesParser.create().parse_overrides(list(overrides)), strict=True):
        name = parsed.get_key_element()
        fixed.pop(name, None)
        space.pop(name, None)
        if parsed.is_sweep_override():
            try:
                space.update(create_params_from_overrides([text])[0])
            except (ValueError, AssertionError) as error:  # bounds of an interval the wrong way round, log of zero
                raise UserError(f"{name}: {first_line(error)}") from error
        else:
            fixed[name] = text
    return list(fixed.values()), space


def _samples(space: dict[str, BaseDistribution]) -> Iterator[dict[str, Any]]:
    """Points of a search space: one, and for each name that can be chosen, of a group say, one that differs in it."""

    def first(distribution: BaseDistribution) -> Any:
        return distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low  # type: ignore[attr-defined]

    usual = {name: first(distribution) for name, distribution in space.items()}
    yield usual
    for name, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            yield from ({**usual, name: choice} for choice in distribution.choices[1:] if isinstance(choice, str))


def _is_of(study: optuna.Study, trial: Trial, space: dict[str, BaseDistribution]) -> bool:
    """Whether a trial that was left behind is one of this search space; if it is not, it has failed."""
    try:
        for name, distribution in trial.distributions.items():
            check_distribution_compatibility(space[name], distribution)
    except (KeyError, ValueError):
        logger.warning("trial %d of study %s has another search space, and is given up", trial.number, study.study_name)
        study.tell(trial, state=TrialState.FAIL)
        return False
    return True


def _tell(study: optuna.Study, trial: Trial, result: JobReturn) -> None:
    value = math.nan
    if result.status == JobStatus.FAILED:  # not by a mistake of the user's, which it would have told itself
        error = result._return_value
        traceback.print_exception(error)
        tell(f"trial {trial.number} failed: {type(error).__name__}: {first_line(error)}", None)
        job_failed(trial.number)
    elif result.return_value is not None:
        value = float(result.return_value)
    with contextlib.suppress(RuntimeError):  # a grid that is complete wants to stop the loop that Optuna has not made
        if study.trials[trial.number].user_attrs.get(PRUNED):
            study.tell(trial, state=TrialState.PRUNED)
        elif math.isfinite(value):
            study.tell(trial, value)
        else:
            study.tell(trial, state=TrialState.FAIL)
