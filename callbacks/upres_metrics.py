"""Measures of an up-resolution network while it trains, whole portraits, and the best checkpoint by one of them."""

from __future__ import annotations

import copy
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from callbacks.cadence import check_interval, due
from callbacks.loggers import log_picture
from callbacks.measured_rows import BestCheckpoint, log_rows, make_up, put_off
from imago.errors import MissingDependencyError, UserError
from imago.images import image_grid, save_image, to_uint8
from imago.metrics.features.face import FaceFeatures
from imago.networks.jnet import JNet
from imago.upres.evaluation import (
    Meter,
    PairDistance,
    by_lanczos,
    by_network,
    examples,
    on_shifted_tiles,
    seams,
)
from imago.upres.stages import Stage

if TYPE_CHECKING:
    from lightning_modules.upres import Upres

logger = logging.getLogger("imago")

METRICS = ("low_resolution_l1", "psnr", "sharpness", "seams", "face_distance", "swd/avg")


class UpresMetrics(pl.Callback):
    """Every ``every_images``, takes whole pictures that are kept out of training through the averaged network.

    What is measured is what ``evaluate.py`` measures (:mod:`imago.upres.evaluation`), of fewer pictures. The first of
    them are written to ``portraits/<images_seen>.png``: what Lanczos' filter makes of the input, what the network
    makes of it, and the real picture, at full size. The first process does it, the others wait; training is not
    disturbed: no random state is touched, no weight changed, and the time does not count as training.

    Args:
        every_images: How often.
        pictures: That are measured.
        shown: That are written; 0: none.
        best_by: Keep the best checkpoint by this metric; None: keep none.

    Raises:
        UserError: Numbers that make no sense, or a metric that is not measured.
    """

    def __init__(
        self, every_images: int = 20_000, pictures: int = 8, shown: int = 2, best_by: str | None = "swd/avg"
    ) -> None:
        self.every_images = check_interval("callbacks.upres_metrics.every_images", every_images)
        self.pictures = check_interval("callbacks.upres_metrics.pictures", pictures)
        if not 0 <= shown <= pictures:
            raise UserError(f"callbacks.upres_metrics.shown={shown}: must lie between 0 and the {pictures} measured")
        if best_by is not None and best_by not in METRICS:
            raise UserError(f"callbacks.upres_metrics.best_by={best_by} is not measured; choose {', '.join(METRICS)}")
        self.shown = shown
        self._best = BestCheckpoint(best_by)
        self._face_distance: PairDistance | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module: Upres = pl_module  # type: ignore[assignment]
        if not isinstance(module.generator_ema, JNet):
            raise UserError("callbacks.upres_metrics measures up-resolution networks; take callbacks=metrics")
        try:
            features = FaceFeatures(device=module.device)
            self._face_distance = lambda first, second: (features(first) - features(second)).norm(dim=1)
        except MissingDependencyError as error:
            if self._best.best_by == "face_distance":
                raise
            if trainer.is_global_zero:
                logger.warning("the distance of faces is not measured: %s", error)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        module: Upres = pl_module  # type: ignore[assignment]
        if due(module, self.every_images) and not put_off(trainer, module):
            self._measure_now(trainer, module)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        module: Upres = pl_module  # type: ignore[assignment]
        make_up(module, lambda: self._measure_now(trainer, module))

    def _measure_now(self, trainer: pl.Trainer, module: Upres) -> None:
        if not trainer.is_global_zero or module.skipped_in_a_row > 0:
            return
        if not all(bool(torch.isfinite(weight).all()) for weight in module.generator_ema.parameters()):
            logger.warning("%d images seen: not measured, the averaged network is not finite", module.images_seen)
            return
        started = time.perf_counter()
        rows = self._measure(trainer, module).rows()
        log_rows(trainer, module, rows, time.perf_counter() - started)
        self._best.keep(trainer, module, rows)

    @torch.no_grad()
    def _measure(self, trainer: pl.Trainer, module: Upres) -> Meter:
        stage = _stage(module)
        meter, shown = Meter(stage.low_size, self._face_distance), []
        for number, example in enumerate(examples(trainer.datamodule.pairs, self.pictures)):  # type: ignore[attr-defined]
            picture = by_network(stage)(example)
            meter.add(picture, example, seams(stage, picture, on_shifted_tiles(stage, example)))
            if number < self.shown:
                shown += [by_lanczos(stage.low_size)(example), picture, example.truth]
        if shown:
            self._write(trainer, module, image_grid(torch.stack([_bytes(one) for one in shown]), 3))
        return meter

    def _write(self, trainer: pl.Trainer, module: Upres, grid: Tensor) -> None:
        path = Path(trainer.default_root_dir) / "portraits" / f"{module.images_seen:09d}.png"
        try:
            save_image(path, grid)
        except OSError as error:  # a full disk costs the picture, not the run
            logger.warning(
                "%d images seen: the portraits could not be written (%s)", module.images_seen, error.strerror or error
            )
        log_picture(trainer.loggers, "portraits", grid, module.images_seen, f"{module.images_seen / 1000:.1f} kimg")


def _stage(module: Upres) -> Stage:
    """The averaged network as upres.py runs it, apart from the one that is trained."""
    network: JNet = copy.deepcopy(module.generator_ema).float().eval()  # type: ignore[assignment]
    return Stage(
        network,
        factor=network.factor,
        tile=network.crop,
        guide_channels=network.guide_channels,
        guide_style=network.guide,
        device=str(module.device),
        face_size=network.face_size,
        low_size=network.low_size,
    )


def _bytes(picture: Tensor) -> Tensor:
    return picture if picture.dtype == torch.uint8 else to_uint8(picture)
