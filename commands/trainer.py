"""A Lightning trainer as imago uses it, on the processes that a launcher has started or that it starts itself."""

import logging
import os
import re
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment

from commands.app import SweepError
from commands.processes import is_slurm_task, started_processes
from conf.schemas import TrainConfig, TrainerConfig
from imago.errors import UserError
from lightning_modules.gan_strategy import GanStrategy

_PRECISIONS = ("32-true", "32", "bf16-mixed", "bf16", "64-true", "64")
_MARGIN = 60.0  # seconds that the process watch has to name a process, before an exchange is given up


def check_trainer(options: TrainerConfig) -> None:
    """Refuses options that have the right type but make no sense, or that do not fit what has been started.

    Raises:
        UserError: Says which and why.
    """
    if str(options.precision) not in _PRECISIONS:
        raise UserError(f"trainer.precision must be one of {', '.join(_PRECISIONS)}, not {options.precision}")
    if options.strategy != "auto" and not str(options.strategy).startswith("ddp"):
        raise UserError(
            f"trainer.strategy={options.strategy}: two networks that train in turn cannot be sharded; take auto"
        )
    _check_devices(options)
    wanted, started = process_count(options), started_processes()
    if wanted != 1 and is_sweep() and (started != wanted or "SUBMITIT_EXECUTOR" not in os.environ):
        raise SweepError(
            f"-m runs its jobs one after the other in this process, and trainer.devices={options.devices} would start "
            "the command again, with -m, for each of its processes: submit the jobs, which starts their processes by "
            "Slurm (launcher=slurm_1node), run each configuration with its own command, or sweep with trainer.devices=1"
        )
    if started is None and wanted != 1 and options.num_nodes > 1 and is_slurm_task():
        raise UserError(
            f"trainer.num_nodes={options.num_nodes}, but Slurm has started one task; start the command with "
            f"srun --nodes={options.num_nodes} --ntasks-per-node={wanted // options.num_nodes}"
        )
    if started is not None and "TORCHELASTIC_RUN_ID" not in os.environ and "SLURM_STEP_ID" not in os.environ:
        raise UserError(f"the job has {started} tasks, but the command runs once: put srun before python")
    if started is not None and started != wanted:
        raise UserError(
            f"{started} processes were started, but trainer.devices={options.devices} on trainer.num_nodes="
            f"{options.num_nodes} makes {wanted}; the two must agree"
        )


def _check_devices(options: TrainerConfig) -> None:
    """Refuses what Lightning would, and says what to take instead."""
    devices = options.devices
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        some = len(devices) > 0
    else:
        some = re.fullmatch(r"0|-(?!1$)\d+", str(devices)) is None
    if not some:
        raise UserError(
            f"trainer.devices={devices}: give how many devices to train on, such as trainer.devices=1; -1 means all "
            "GPUs of the machine"
        )
    mps = torch.backends.mps.is_available()
    there = {"cuda": torch.cuda.is_available(), "mps": mps, "gpu": torch.cuda.is_available() or mps}
    if not there.get(options.accelerator, True):
        raise UserError(
            f"trainer.accelerator={options.accelerator}: PyTorch finds no such GPU on this machine; take "
            "trainer.accelerator=auto, which trains on a GPU where there is one, or cpu"
        )


def process_count(options: TrainerConfig) -> int:
    """How many processes will train; "auto" and -1 mean all GPUs of each machine."""
    devices = options.devices
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        count = len(devices)
    elif str(devices).isdigit():
        count = int(devices)
    else:
        count = 1 if options.accelerator == "cpu" else max(1, torch.cuda.device_count())
    return count * options.num_nodes


def build_trainer(cfg: TrainConfig, run_dir: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    """A Lightning trainer whose only clock is images_seen.

    Raises:
        UserError: Lightning refuses the accelerator, devices or strategy.
    """
    _quiet_lightning()
    torch.backends.cuda.matmul.allow_tf32 = cfg.trainer.tf32
    torch.backends.cudnn.allow_tf32 = cfg.trainer.tf32
    try:
        return pl.Trainer(
            accelerator=cfg.trainer.accelerator,
            devices=cfg.trainer.devices,
            num_nodes=cfg.trainer.num_nodes,
            strategy=_strategy(cfg),
            plugins=_environment(),
            precision=cfg.trainer.precision,
            benchmark=cfg.trainer.benchmark,
            deterministic=cfg.trainer.deterministic,
            callbacks=callbacks,
            logger=False,
            default_root_dir=str(run_dir),
            max_epochs=-1,
            max_steps=-1,
            use_distributed_sampler=False,  # the loader gives each process its share
            enable_checkpointing=True,  # ours is a Checkpoint callback
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
    except (ValueError, RuntimeError, TypeError, ModuleNotFoundError) as error:
        raise UserError(f"trainer: {error}") from error
    except Exception as error:  # Lightning's MisconfigurationException derives from Exception
        if type(error).__name__ == "MisconfigurationException":
            raise UserError(f"trainer: {error}") from error
        raise


def _strategy(cfg: TrainConfig) -> Any:
    if cfg.trainer.strategy != "auto" or process_count(cfg.trainer) == 1:
        return cfg.trainer.strategy
    watch = cfg.callbacks.process_watch
    return GanStrategy(timeout=timedelta(seconds=60 * (watch.stalled_after_minutes if watch else 30) + _MARGIN))


def _environment() -> ClusterEnvironment | None:
    """Slurm without Lightning's own requeueing; nothing where it finds out by itself."""
    if "TORCHELASTIC_RUN_ID" in os.environ or not is_slurm_task():
        return None
    # One task that asks for several devices starts the processes itself, as outside of Slurm.
    return LightningEnvironment() if started_processes() is None else SLURMEnvironment(auto_requeue=False)


def is_sweep() -> bool:
    """Whether this run is a job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _quiet_lightning() -> None:
    """Keeps from the user what Lightning says about things that are as they should be."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # pages about a peer that the process watch says in a line
    for message in (
        r".*in eval mode at the start of training.*",  # the averaged generator
        r".*does not have many workers.*",  # gathering from a memory map needs none
        r".*treespec.*is deprecated.*",
        r".*`IterableDataset` has `__len__` defined.*",
        r".*`srun` command is available.*",  # on the login node of a cluster, for one process
    ):
        warnings.filterwarnings("ignore", message)
