"""The loggers besides metrics.csv, and what they share: images_seen as the x-axis."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from torch import Tensor

from imago.atomic import atomic_path
from imago.errors import MissingDependencyError, UserError


def tensorboard_logger(run_dir: Path, run_config: dict[str, Any]) -> Logger:
    """TensorBoard event files in ``run_dir/tensorboard``."""
    from pytorch_lightning.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(str(run_dir), name="tensorboard", version="")
    except ModuleNotFoundError as error:
        raise MissingDependencyError("tensorboard", "for logger=tensorboard", "tensorboard") from error


def wandb_logger(
    run_dir: Path,
    run_config: dict[str, Any],
    project: str = "imago",
    entity: str | None = None,
    group: str | None = None,
    job_type: str = "train",
    tags: Sequence[str] = (),
    mode: str | None = None,
) -> Logger:
    """Weights & Biases with images_seen as the x-axis of everything.

    The run id is kept in ``run_dir/wandb_id.txt`` and written before the run starts, so a resumed run goes on under the
    same id.

    Args:
        run_dir: The run directory.
        run_config: The resolved configuration, uploaded once.
        project: W&B project.
        entity: W&B user or team.
        group: W&B group.
        job_type: W&B job type.
        tags: W&B tags.
        mode: "online", "offline", "disabled"; None: online when an API key is at hand, else offline.
    """
    if mode not in (None, "online", "offline", "disabled"):
        raise UserError(f"logger.wandb.mode must be online, offline, disabled or null, not {mode}")
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    id_file = run_dir / "wandb_id.txt"
    if not id_file.exists():
        with atomic_path(id_file) as temporary:
            temporary.write_text(secrets.token_hex(4))
    if mode is None:
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_wandb_key() else "offline")
    logger = WandbLogger(
        name=run_dir.name,
        save_dir=str(run_dir),
        id=id_file.read_text().strip(),
        resume="allow",
        project=project,
        entity=entity,
        group=group,
        job_type=job_type,
        tags=list(tags),
        config=run_config,
        mode=mode,
        settings=wandb.Settings(silent=True),
    )
    experiment = logger.experiment
    if hasattr(experiment, "define_metric"):  # on the main process only
        experiment.define_metric("images_seen")
        experiment.define_metric("*", step_metric="images_seen")
    return logger


def _has_wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc

    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False


def log_picture(loggers: Sequence[Logger], name: str, picture: Tensor, images_seen: int, caption: str) -> None:
    """Sends a picture (C, H, W) uint8 to the loggers that show pictures; the caption tells when it was made.

    W&B's media panels step by their own counter, so the caption is where kimg can be read.
    """
    from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            pixels = picture.permute(1, 2, 0).numpy()
            logger.experiment.log({name: wandb.Image(pixels, caption=caption), "images_seen": images_seen})
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, picture.numpy(), images_seen)
