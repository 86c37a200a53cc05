"""Trains a GAN in a run directory, or goes on with one: what ``train.py`` does."""

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from callbacks.progress import Progress
from callbacks.pruning import Pruning
from callbacks.snapshot import Snapshot
from callbacks.wandb_logger import ClockedWandbLogger
from commands.job_failures import PRUNED_FILE, job_directory
from commands.loggers import build_loggers
from commands.objective import check_objective, objective_value
from commands.processes import place
from commands.run_directory import RunDirectory
from commands.stopping import end_early, explain_failure, finish_wandb, obey, stoppable
from commands.trainer import build_trainer, check_trainer, is_sweep, process_count
from conf.model_schemas import AttributeClassifierModel, PortraitDemoModel
from conf.schemas import TrainConfig
from datamodules.packed import PackedDataModule
from imago.distributed import leave
from imago.errors import UserError
from imago.growth import GrowthSchedule
from imago.labels import LabelDistribution
from lightning_modules.adversarial import AdversarialModule, refuse_labels

logger = logging.getLogger("imago")


def train(cfg: TrainConfig) -> float | None:
    """Trains until ``total_images``, or where the growth schedule ends.

    Args:
        cfg: The composed configuration.

    Returns:
        The value of ``objective``, on the first process; None: there is none.

    Raises:
        UserError: A configuration that cannot be trained, a run directory that belongs to another one, bad data,
            divergence.
    """
    check_values(cfg)
    config_ = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config_, dict)
    config: dict[str, Any] = {str(key): value for key, value in config_.items()}
    for group in ("experiment", "launcher", "sweep"):
        config.pop(group, None)  # what it set is in the other keys
    if OmegaConf.get_type(cfg.model) is PortraitDemoModel:
        from commands.portrait_demo import portrait_demo

        portrait_demo(cfg, config["model"], _run_dir(cfg))
        return None
    with stoppable(bool(cfg.callbacks.preemption and cfg.callbacks.preemption.requeue)):
        if OmegaConf.get_type(cfg.model) is AttributeClassifierModel:
            from commands.classify import classify

            classify(cfg, config, _run_dir(cfg), process_count(cfg.trainer))
            return None
        return _train(cfg, config)


def _train(cfg: TrainConfig, config: dict[str, Any]) -> float | None:
    data: PackedDataModule = instantiate(
        config["data"], resolution=cfg.resolution, base=list(cfg.base), seed=cfg.seed, _convert_="all"
    )
    data.check()  # a path that does not exist is told before anything is written
    if data.labels is not None:
        with torch.device("meta"):
            refuse_labels(
                build_module(cfg, config).loss
            )  # mistakes are told before a data set is packed for its labels
    module = build_module(cfg, config, data.label_distribution())
    obey(module.stopping)
    schedule = module.schedule
    total_images = cfg.total_images or schedule.total_images
    callbacks: dict[str, pl.Callback] = {
        name: instantiate(options, _convert_="all") for name, options in config["callbacks"].items() if options
    }
    if cfg.objective is not None:
        extent = (cfg.resolution, cfg.resolution // cfg.base[0] * cfg.base[1])
        check_objective(cfg.objective, callbacks, extent, total_images)
    if isinstance(pruning := callbacks.get("pruning"), Pruning):
        pruning.objective = cfg.objective

    run_dir = RunDirectory(_run_dir(cfg))
    trainer = build_trainer(cfg, run_dir.path, list(callbacks.values()))
    module.check_division(trainer.world_size)
    data.check_module(module)
    with run_dir.locked():
        # All that may be refused comes before anything is written.
        checkpoint = run_dir.checkpoint(config, cfg.resume)
        data.expected_checksum = checkpoint["data_checksum"] if checkpoint else None
        if place().first_on_machine:
            data.prepare_data()
        snapshot = callbacks["snapshot"]
        assert isinstance(snapshot, Snapshot)
        snapshot.resume_from = checkpoint
        snapshot.extra_state = {"config": config}
        snapshot.total_images = total_images
        if isinstance(progress := callbacks.get("progress"), Progress):
            progress.total_images = total_images
        try:
            images_seen = checkpoint["images_seen"] if checkpoint else 0
            trainer.loggers = build_loggers(config, run_dir.path, images_seen)
            run_dir.begin(config)
            if images_seen < total_images:
                run_dir.record_start(images_seen, trainer.world_size)
            _announce(run_dir.path, checkpoint, total_images)
            trainer.fit(module, datamodule=data)
        except BaseException as error:
            finish_wandb(exit_code=1)
            explain_failure(error, trainer)
            raise
        if module.stopping.agreed and module.images_seen < total_images:
            end_early(trainer, module.stopping, module.images_seen, total_images)
            if place().first:  # it returns where a study has pruned the run
                (run_dir.path / PRUNED_FILE).touch()
        for each in trainer.loggers:
            if isinstance(each, ClockedWandbLogger):
                each.log_generators(run_dir.path)
        finish_wandb(exit_code=0)
    leave()
    return objective_value(run_dir.path, cfg.objective) if cfg.objective and place().first else None


def build_module(
    cfg: TrainConfig, config: dict[str, Any], labels: LabelDistribution | None = None
) -> AdversarialModule:
    """The model with its loss and growth schedule.

    Args:
        cfg: The composed configuration.
        config: The same, resolved, as plain containers.
        labels: Of the data set, for a conditional model.

    Raises:
        UserError: Values that make no model.
    """
    schedule: GrowthSchedule = instantiate(
        config["growth"],
        resolution=cfg.resolution,
        start_resolution=cfg.growth.start_resolution or cfg.base[0],
        _convert_="all",
    )
    return instantiate(
        config["model"],
        loss=instantiate(config["loss"]),
        schedule=schedule,
        base=list(cfg.base),
        channels=cfg.data.channels,
        seed=cfg.seed,
        **({} if labels is None else {"labels": labels}),
        _convert_="all",
    )


def check_values(cfg: TrainConfig) -> None:
    """Refuses values of top-level keys that have the right type but make no sense.

    Raises:
        UserError: Says which and why.
    """
    if len(cfg.base) != 2:
        raise UserError(f"base must be [height, width], not {list(cfg.base)}")
    if cfg.total_images is not None and cfg.total_images < 1:
        raise UserError(f"total_images must be at least 1, not {cfg.total_images}")
    if cfg.resume not in ("auto", "never"):
        raise UserError(f"resume must be auto or never, not {cfg.resume!r}")
    if not 0 <= cfg.seed < 2**63:
        raise UserError(f"seed must lie in [0, 2⁶³), not be {cfg.seed}")
    if not cfg.run_dir:
        raise UserError("run_dir= is empty: give a folder, . for this one")
    check_trainer(cfg.trainer)


def _run_dir(cfg: TrainConfig) -> Path:
    """The run directory; in a sweep, every job has one of its own below the given one."""
    return job_directory(cfg.run_dir) if is_sweep() else Path(cfg.run_dir).expanduser()


def _announce(run_dir: Path, checkpoint: dict[str, Any] | None, total_images: int) -> None:
    if not place().first:
        return
    if checkpoint is None:
        logger.info("training in %s to %d images", run_dir, total_images)
    elif checkpoint["images_seen"] >= total_images:
        logger.info(
            "%s is finished: %d of %d images seen; total_images=… beyond that goes on",
            run_dir,
            checkpoint["images_seen"],
            total_images,
        )
    else:
        logger.info("going on in %s from %d of %d images", run_dir, checkpoint["images_seen"], total_images)
