"""Why jobs of a sweep ended early, kept in their directories for the table of runs."""

import contextlib
import json
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from commands.processes import place

FAILURE_FILE = "failed.json"  # its overrides and the line with which it failed
PRUNED_FILE = "pruned"  # in the directory of a run that a study has stopped

_recorded: set[Path] = set()  # directories of jobs whose failure has been told
_begun: set[Path] = set()  # run directories in which this process has begun to train


def job_directory(run_dir: str | None) -> Path:
    """Where a job of a sweep writes: a folder of its own below ``run_dir``, if that was given, or the sweep's."""
    hydra_cfg = HydraConfig.get()
    if run_dir is not None and any(override.startswith("run_dir=") for override in hydra_cfg.overrides.task):
        return Path(run_dir).expanduser() / str(hydra_cfg.job.num)
    return Path(hydra_cfg.runtime.output_dir)


def command_that_goes_on() -> str:
    """Which command goes on where this one was stopped."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return "the same command"
    given = any(override.startswith("hydra.sweep.dir=") for override in HydraConfig.get().overrides.hydra)
    return "the same command" if given else f"the same command with hydra.sweep.dir={HydraConfig.get().sweep.dir}"


def run_begins(folder: Path) -> None:
    """What fails from now on is the run in this folder, and no longer the attempt to go on with another one there."""
    _begun.add(folder.absolute())
    for name in (FAILURE_FILE, PRUNED_FILE):
        (folder / name).unlink(missing_ok=True)


def record_failure(cfg: DictConfig, message: str) -> None:
    """Keeps the line with which a job of a sweep failed; nothing outside of sweeps. The first line of a job stands."""
    if HydraConfig.get().mode != RunMode.MULTIRUN or not place().first:
        return
    folder = job_directory(cfg.get("run_dir")).absolute()
    if (folder / "config.yaml").exists() and folder not in _begun:  # refused; the run that is there has not failed
        return
    if folder in _recorded:  # the same error on its way out
        return
    _recorded.add(folder)
    record = {"error": " ".join(message.split()), "overrides": list(HydraConfig.get().overrides.task)}
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILURE_FILE).write_text(json.dumps(record))


def forget_failure(cfg: DictConfig) -> None:
    """After a job of a sweep has done its work."""
    if HydraConfig.get().mode == RunMode.MULTIRUN and place().first:
        (job_directory(cfg.get("run_dir")) / FAILURE_FILE).unlink(missing_ok=True)
