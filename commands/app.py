"""Hydra apps that talk to users: one clear line for a mistake, with the names that would have been right."""

import importlib
import importlib.util
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from commands.config_checks import check_config, describe_config_error
from commands.early_interrupt import raise_again
from commands.help import describe
from commands.job_failures import command_that_goes_on, forget_failure, record_failure
from commands.processes import place
from conf import schemas
from imago.errors import MissingDependencyError, UserError, first_line

_SHOW_TRACEBACKS = "IMAGO_TRACEBACKS"
_PATH_KEYS = frozenset(
    {
        "run_dir",
        "runs",
        "checkpoint",
        "input",
        "generator",
        "out",
        "predictor_path",
        "held_out",
        "weights",
        "vgg16_weights",
        "digits",
        "cache",
        "dataset.data",
        "data.include_synthetic",
        "hydra.sweep.dir",
    }
) | {
    f"{group}.{key}"
    for group in ("data", "source")
    for key in ("path", "root", "cache", "keep", "landmarks_file", "predictor_path")
}

_PATH_LIST_KEYS = frozenset({"checkpoint", "input", "data.path", "runs"})  # [a,b] of these is a list of paths

_FREE_KEYS = ("labels.", "labels={", "model.low.", "model.upres.", "model.print.")

_failed_jobs: list[int] = []  # of this sweep

# Arguments, the plugin that they need, what for, and the extra that installs it.
_PLUGINS = (
    (r"\+?(launcher=slurm|hydra/launcher=submitit)", "hydra-submitit-launcher", "to submit jobs", "slurm"),
    (r"\+?(sweep|hydra/sweeper)=optuna", "hydra-optuna-sweeper", "for studies", "sweep"),
)

_FLAGS = ("-m", "--multirun", "--resolve")


def hydra_main(
    config_name: str,
    task: str | Callable[[Any], Any],
    schema: type[Any],
    purpose: str,
    groups: Mapping[str, Mapping[str, type[Any]]] | None = None,
    when_interrupted: str = "",
) -> Callable[[], None]:
    """The ``main`` of a command.

    Mistakes of the user end with one line on standard error and exit code 2, an interrupt with 130; other exceptions
    keep their traceback. In a sweep, a job's mistake is told and the other jobs go on; the exit code tells at the end.
    ``IMAGO_TRACEBACKS=1`` shows the traceback of mistakes too.

    Args:
        config_name: The file in conf/ that the command starts from.
        task: Takes the checked configuration; or where that function is, ``"commands.train:train"``: then what it needs
            is not imported before the command is known to make sense.
        schema: The dataclass of its configuration, for the help text.
        purpose: What the command does, for the help text.
        groups: The folders of conf/ that are its option groups, each with the schemas of those options whose keys the
            help text is to list.
        when_interrupted: What to tell a user who stopped it; ``{command}`` is the command that goes on.
    """
    schemas.register()

    def job(cfg: DictConfig) -> Any:
        try:
            result = attempt(cfg)
        except Exception as error:  # a mistake of ours, or of a job whose launcher tells it
            if not isinstance(error, (UserError, OSError)):
                record_failure(cfg, f"{type(error).__name__}: {first_line(error)}")
            raise
        return result

    goes_on = "the same command"

    def attempt(cfg: DictConfig) -> Any:
        nonlocal goes_on
        goes_on = command_that_goes_on()  # Hydra does not know it any more when the command has ended
        if _submitted():
            _set_up_messages()
        try:
            check_config(cfg)
            result = _function(task)(cfg)
            forget_failure(cfg)
            return result
        except RuntimeError as error:
            # By its name (torch.OutOfMemoryError is a RuntimeError), because not every command needs PyTorch.
            if type(error).__name__ != "OutOfMemoryError" and "allocate memory" not in str(error):
                raise
            message = "out of memory; a smaller batch, model.micro_batch or batch_size needs less"
            tell(message, error)
            record_failure(cfg, message)
            _end_job(error, 2)
        except (UserError, OSError, InstantiationException) as error:
            cause = error.__cause__ if isinstance(error, InstantiationException) else error
            if isinstance(cause, (UserError, OSError)):
                message = describe_error(cause)
            elif "Error in call to target" in str(error):
                raise  # a mistake of ours
            else:  # a _target_ that is not there, or that Hydra does not call
                message = str(error).partition(", set env var")[0]
            tell(message, error)
            if not isinstance(error, SweepError):
                record_failure(cfg, message)
            _end_job(error, 1 if isinstance(cause, IncompleteError) else 2)
        return None

    def main() -> None:
        raise_again()
        _set_up_messages()
        # Hydra's parser takes flags among the overrides for overrides.
        sys.argv[1:] = sorted(
            (free_key(quoted_path(argument)) for argument in sys.argv[1:]), key=lambda word: word not in _FLAGS
        )
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # hand exceptions to us rather than print them
        if "--help" in sys.argv or "-h" in sys.argv:
            print(describe(f"{config_name}.py", purpose, schema, groups or {}))
            return
        try:
            if _needs_plugin(sys.argv[1:]) and not {"-m", "--multirun"} & set(sys.argv):
                sys.argv.insert(1, "-m")  # launchers and sweepers run sweeps, of one job too
            hydra.main(version_base="1.3", config_path="pkg://conf", config_name=config_name)(job)()
        except InstantiationException as error:
            key = re.search(r"^full_key: (hydra\.\S+)", str(error), re.MULTILINE)
            if key is None or error.__cause__ is None:
                raise  # a mistake of ours
            tell(f"{key[1]}: {first_line(error.__cause__)}", error)  # an option of a launcher or sweeper
            sys.exit(2)
        except UserError as error:  # of a launcher or sweeper: before or after all jobs
            tell(str(error), error)
            sys.exit(2)
        except (HydraException, OmegaConfBaseException) as error:
            tell(describe_config_error(error), error)
            sys.exit(2)
        except ValueError as error:
            if not _raised_by_hydra(error):
                raise
            tell(str(error), error)  # a group without an option, as in growth=null
            sys.exit(2)
        except OSError as error:  # of the directory of a sweep; jobs tell theirs
            tell(describe_error(error), error)
            sys.exit(2)
        except AttributeError as error:  # how OmegaConf refuses key=null key={…} in one command
            key = re.search(r"^\s*full_key: (\S+)", str(error), re.MULTILINE)
            if key is None:
                raise
            tell(f"{key[1]} is null and takes no keys: leave out one of the two settings", error)
            sys.exit(2)
        except KeyboardInterrupt:
            advice = when_interrupted.format(command=goes_on)
            tell(f"interrupted{advice and '; '}{advice}", None)
            sys.exit(130)
        if _failed_jobs:
            tell(f"{len(_failed_jobs)} job(s) of the sweep failed: {', '.join(map(str, _failed_jobs))}", None)
            sys.exit(1)

    return main


def _function(task: str | Callable[[Any], Any]) -> Callable[[Any], Any]:
    if not isinstance(task, str):
        return task
    module, _, name = task.partition(":")
    function: Callable[[Any], Any] = getattr(importlib.import_module(module), name)
    return function


def job_failed(number: int) -> None:
    """Remembers a job of the sweep that failed; the command tells them all at its end."""
    _failed_jobs.append(number)


def _end_job(error: Exception, code: int) -> None:
    """After the message: ends the command with `code`; in a sweep, lets the other jobs go on."""
    if HydraConfig.get().mode != RunMode.MULTIRUN or (isinstance(error, SweepError) and not _submitted()):
        sys.exit(code)
    if _submitted():  # the launcher that waits for this job counts, and so does Slurm
        raise error
    job_failed(HydraConfig.get().job.num)


def _submitted() -> bool:
    """Whether this process runs one job of a sweep, on a cluster."""
    return "SUBMITIT_EXECUTOR" in os.environ


def _set_up_messages() -> None:
    handlers = [CurrentStderrHandler()]
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=handlers, force=_submitted())
    # Other processes would say everything again.
    logging.getLogger("imago").setLevel(logging.INFO if place().first else logging.WARNING)


def _needs_plugin(arguments: Sequence[str]) -> bool:
    """Whether the command has jobs run by a plugin: on a cluster, or as trials of a study.

    Raises:
        UserError: What does it is not installed; Hydra would list its search path.
    """
    wanted = False
    for pattern, package, purpose, extra in _PLUGINS:
        found = [argument for argument in arguments if re.match(pattern, argument)]
        if any("," in argument for argument in found):
            raise UserError(f"{found[0]}: what runs the jobs of a sweep cannot be swept over; give one")
        if found:
            if importlib.util.find_spec(f"hydra_plugins.{package.replace('-', '_')}") is None:
                raise MissingDependencyError(package, purpose, extra)
            wanted = True
    return wanted


def given_keys() -> list[str]:
    """The keys and groups that the user gave on the command line, "data" or "data.path"; none outside of a command."""
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    return [override.lstrip("+~").partition("=")[0] for override in overrides]


def free_key(argument: str) -> str:
    """``labels.<name>=…`` as Hydra wants keys that no schema can know; the command checks their names."""
    return f"++{argument}" if argument.startswith(_FREE_KEYS) else argument


def quoted_path(argument: str) -> str:
    """``key=path`` with quotes around a path that Hydra's grammar would trip over: ``~``, ``=``, accents, brackets.

    A comma is left alone, because it lists the values of a sweep. In a list of paths, ``checkpoint=[a,b]``, each is
    quoted.
    """
    key, equals, value = argument.partition("=")
    name = key.lstrip("+")
    if not equals or name not in _PATH_KEYS or value[:1] in ("'", '"'):
        return argument
    if name in _PATH_LIST_KEYS and value.startswith("[") and value.endswith("]"):
        return f"{key}=[{','.join(_quoted(path.strip()) for path in value[1:-1].split(','))}]"
    return argument if "," in value else f"{key}={_quoted(value)}"


def _quoted(path: str) -> str:
    plain = re.fullmatch(r"[\w./:@%+ -]*", path, re.ASCII) is not None
    if plain or path[:1] in ("'", '"') or "${" in path:
        return path
    return in_quotes(path)


def in_quotes(text: str) -> str:
    """A value that Hydra's grammar takes as it stands."""
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"


class CurrentStderrHandler(logging.StreamHandler):
    """Writes to what ``sys.stderr`` is at the moment: above the progress bar while there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        self.setStream(sys.stderr)
        super().emit(record)


class SweepError(UserError):
    """A mistake that all jobs of a sweep share: told once."""


class IncompleteError(UserError):
    """Some of what was asked for failed, and the rest is done: exit code 1."""


def _raised_by_hydra(error: BaseException) -> bool:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return "hydra" in Path(last.filename).parts


def tell(message: str, error: BaseException | None) -> None:
    """Prints a mistake as one line on standard error."""
    if error is not None and os.environ.get(_SHOW_TRACEBACKS) == "1":
        traceback.print_exception(error)
    rank = place().rank
    # Other processes mostly stumble over the same thing: one line is the error, theirs tell where else it happened.
    print(f"{'error' if rank == 0 else f'process {rank}'}: {' '.join(message.split())}", file=sys.stderr)


def describe_error(error: UserError | OSError) -> str:
    """One line for an error that a task raised."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return str(error)
