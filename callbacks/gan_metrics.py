"""Metrics of the averaged generator while it trains, and the best checkpoint by one of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch

from callbacks.cadence import check_interval, due
from callbacks.measured_rows import BestCheckpoint, log_rows, make_up, put_off
from imago.data.packed import PackedDataset
from imago.errors import UserError
from imago.evaluation.building import MeasureBuilder, MeasureOptions, metric_names, row_names
from imago.evaluation.image_sets import GeneratedImages
from imago.evaluation.measure import Measure, Reals, Row, evaluate
from imago.evaluation.protocol import Protocol

if TYPE_CHECKING:
    from lightning_modules.adversarial import AdversarialModule

logger = logging.getLogger("imago")


class GanMetrics(pl.Callback):
    """Evaluates the averaged generator every ``every_images``, on all processes, and logs the numbers.

    Images are measured at the run's final resolution; while the networks are smaller, they are enlarged by repeating
    pixels, as the official code does, so that one curve has one protocol. Numbers of few images are larger than those
    of many (``evaluate.py`` takes as many as the papers): they are for comparing moments of runs, not with papers.

    Training is not disturbed: no random state is touched, no weight changed, and the time does not count as training.

    Args:
        every_images: How often.
        metrics: As in evaluate.py: swd, ms_ssim, frechet, kernel, precision_recall, inception_score, faces, modes.
        swd_images: Of each set, for swd.
        ms_ssim_images: For ms_ssim, two to a pair.
        feature_images: Of each set, for metrics of features.
        face_images: For faces.
        modes_images: For modes.
        features: The network that gives features.
        weights: Its file.
        digits: The folder of MNIST's files, for modes.
        floor: Measure real images against real images once, too.
        best_by: Keep the best checkpoint by this metric, "swd/avg", as ``checkpoints/best.ckpt`` and
            ``best_generator.safetensors``; None: keep none.
        batch_size: Images at a time.

    Raises:
        UserError: Unknown metrics, or numbers that make no sense.
    """

    def __init__(
        self,
        every_images: int = 50_000,
        metrics: Sequence[str] = ("swd", "ms_ssim"),
        swd_images: int = 2048,
        ms_ssim_images: int = 2000,
        feature_images: int = 1000,
        face_images: int = 200,
        modes_images: int = 25_600,
        features: str = "face",
        weights: str | None = None,
        digits: str | None = None,
        floor: bool = True,
        best_by: str | None = "swd/avg",
        batch_size: int = 64,
    ) -> None:
        self.every_images = check_interval("callbacks.gan_metrics.every_images", every_images)
        protocol = Protocol(
            swd_images=swd_images,
            ms_ssim_images=ms_ssim_images,
            feature_images=feature_images,
            score_images=feature_images,
            face_images=face_images,
            modes_images=modes_images,
        )
        protocol.check()
        names = metric_names(metrics)
        for name in ("neighbours", "memorisation", "path_length"):
            if name in names:
                raise UserError(f"callbacks.gan_metrics.metrics: {name} is for evaluate.py, not for training")
        check_interval("callbacks.gan_metrics.batch_size", batch_size)
        self.options = MeasureOptions(
            names,
            protocol,
            features=features,
            weights=weights,
            floor=floor,
            digits=digits,
            batch_size=batch_size,
        )
        self.best_by = best_by
        self._best = BestCheckpoint(best_by)
        self._measures: list[Measure] = []
        self._prepared = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # What is not installed, not there or not measured is told now, not after hours.
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        if not hasattr(module.generator_ema, "latent_size"):
            raise UserError("callbacks.gan_metrics measures pictures that are made from latents; take callbacks=upres")
        resolution, base = module.schedule.resolution, trainer.datamodule.base  # type: ignore[attr-defined]
        names = row_names(self.options, (resolution, resolution // base[0] * base[1]))
        if self.best_by is not None and self.best_by not in names:
            raise UserError(f"callbacks.gan_metrics.best_by={self.best_by} is not measured; choose {', '.join(names)}")
        self._measures = MeasureBuilder(self.options, module.device, resolution).build()
        self._prepared = False

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        if due(module, self.every_images) and not put_off(trainer, module):
            self._measure_now(trainer, module)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        make_up(module, lambda: self._measure_now(trainer, module))

    def _measure_now(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        if module.skipped_in_a_row > 0:
            return
        if not all(bool(torch.isfinite(weight).all()) for weight in module.generator_ema.parameters()):
            logger.warning("%d images seen: not measured, the averaged generator is not finite", module.images_seen)
            return
        started = time.perf_counter()
        rows = self._evaluate(trainer, module)
        log_rows(trainer, module, rows, time.perf_counter() - started)
        self._best.keep(trainer, module, rows)

    @torch.no_grad()
    def _evaluate(self, trainer: pl.Trainer, module: AdversarialModule) -> list[Row]:
        dataset: PackedDataset = trainer.datamodule.real  # type: ignore[attr-defined]
        resolution = module.schedule.resolution
        if not self._prepared:
            reals = Reals.of(dataset, resolution, trainer.datamodule.mirror)  # type: ignore[attr-defined]
            for measure in self._measures:
                measure.prepare(reals)
            self._prepared = True
        images = GeneratedImages(
            module.pictures,
            int(module.generator_ema.latent_size),  # type: ignore[arg-type]
            resolution,
            device=module.device,
            batch_size=self.options.batch_size,
            labels=None if module.labels is None else module.labels.summary(),  # as evaluate.py draws from a file
        )
        rows = evaluate(self._measures, images, self.options.batch_size, "")
        for measure in self._measures:  # frees what they keep of the images
            measure.begin(images)
        return rows
