"""The loggers besides metrics.csv, and what they share: images_seen as the x-axis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.loggers import Logger
from torch import Tensor

from callbacks.wandb_logger import ClockedWandbLogger
from imago.errors import MissingDependencyError


def tensorboard_logger(
    run_dir: Path, run_config: dict[str, Any], sweep: str | None = None, images_seen: int = 0
) -> Logger:
    """TensorBoard event files in ``run_dir/tensorboard``, with the configuration as text.

    Args:
        run_dir: The run directory.
        run_config: The resolved configuration.
        sweep: Unused; the folder tells.
        images_seen: Where the run begins or goes on: what lies beyond, of a start that was killed, is taken back.
    """
    from pytorch_lightning.loggers import TensorBoardLogger

    try:
        purge = images_seen + 1 if images_seen else None
        logger = TensorBoardLogger(str(run_dir), name="tensorboard", version="", purge_step=purge)
        text = yaml.safe_dump(run_config, sort_keys=False, allow_unicode=True)
        logger.experiment.add_text("config", f"```yaml\n{text}```", images_seen)
    except ModuleNotFoundError as error:
        raise MissingDependencyError("tensorboard", "for logger=tensorboard", "tensorboard") from error
    return logger


def log_picture(loggers: Sequence[Logger], name: str, picture: Tensor, images_seen: int, caption: str) -> None:
    """Sends a picture (C, H, W) uint8 to the loggers that show pictures; the caption tells when it was made."""
    from pytorch_lightning.loggers import TensorBoardLogger

    for logger in loggers:
        if isinstance(logger, ClockedWandbLogger):
            logger.log_image_at(name, picture.permute(1, 2, 0).numpy(), caption, images_seen)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, picture.numpy(), images_seen)


def alert(loggers: Sequence[Logger], title: str, text: str) -> None:
    """Tells the user through the loggers that can: W&B."""
    for logger in loggers:
        if isinstance(logger, ClockedWandbLogger):
            logger.alert(title, text)
