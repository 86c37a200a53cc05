"""The same latents at every snapshot, through the averaged generator, as a grid: samples/<images_seen>.png."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from callbacks.cadence import check_interval, due
from callbacks.loggers import log_picture
from imago.images import grid_shape, image_grid, save_image, upscale_nearest

if TYPE_CHECKING:
    from lightning_modules.adversarial import AdversarialModule

logger = logging.getLogger("imago")

_SMALLEST_CELL = 64  # pixels: smaller pictures are enlarged, so that a grid can be looked at


class SampleGrid(pl.Callback):
    """Writes a grid at the start, every ``every_images`` and at the end.

    Grids of a run have one size: pictures of lower resolutions are enlarged by repeating pixels.

    Args:
        every_images: How often.
        columns: Pictures in a row; null: as fills a 1920 × 1080 screen, at most 10.
        rows: Rows; null: likewise, at most 6.
    """

    def __init__(self, every_images: int = 10_000, columns: int | None = None, rows: int | None = None) -> None:
        self.every_images = check_interval("callbacks.sample_grid.every_images", every_images)
        self.columns = None if columns is None else check_interval("callbacks.sample_grid.columns", columns)
        self.rows = None if rows is None else check_interval("callbacks.sample_grid.rows", rows)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if pl_module.images_seen == 0:
            self._write(trainer, pl_module)  # type: ignore[arg-type]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if due(pl_module, self.every_images):  # type: ignore[arg-type]
            self._write(trainer, pl_module)  # type: ignore[arg-type]

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if pl_module.stopping.agreed:  # type: ignore[union-attr]
            return  # there may be seconds left, and the run goes on later
        # Reached by finished runs that are started again, too: one may have been killed before its last grid.
        if not self._path(trainer, pl_module).exists():  # type: ignore[arg-type]
            self._write(trainer, pl_module)  # type: ignore[arg-type]

    @staticmethod
    def _path(trainer: pl.Trainer, module: AdversarialModule) -> Path:
        return Path(trainer.default_root_dir) / "samples" / f"{module.images_seen:09d}.png"

    def _write(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        if not trainer.is_global_zero:
            return
        columns, rows = grid_shape(module.schedule.resolution)
        columns, rows = self.columns or min(columns, 10), self.rows or min(rows, 6)
        grid = image_grid(self.sample(module, columns * rows), columns)
        try:
            save_image(self._path(trainer, module), grid)
        except OSError as error:  # a full disk costs the grid, not the run
            reason = error.strerror or error
            logger.warning("%d images seen: the sample grid could not be written (%s)", module.images_seen, reason)
        log_picture(trainer.loggers, "samples", grid, module.images_seen, f"{module.images_seen / 1000:.1f} kimg")

    @staticmethod
    @torch.inference_mode()
    def sample(module: AdversarialModule, count: int) -> Tensor:
        """uint8 (count, C, H, W): the run's fixed samples, enlarged to its final size or 64 pixels."""
        images = module.samples(count)
        resolution, final = module.stage.resolution, module.schedule.resolution
        return upscale_nearest(images, final // resolution * -(-_SMALLEST_CELL // final))
