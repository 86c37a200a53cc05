"""Metrics of the averaged generator while it trains, and the best checkpoint by one of them."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch

from callbacks.cadence import check_interval, due
from callbacks.scalar_log import ScalarLog
from callbacks.snapshot import write_synced
from imago.atomic import atomic_path
from imago.data.packed import PackedDataset
from imago.errors import UserError
from imago.evaluation.building import MeasureBuilder, MeasureOptions, metric_names, row_names
from imago.evaluation.image_sets import GeneratedImages
from imago.evaluation.measure import Measure, Reals, Row, evaluate
from imago.evaluation.protocol import Protocol
from imago.networks.serialization import describe_generator, save_generator

if TYPE_CHECKING:
    from lightning_modules.adversarial import AdversarialModule

logger = logging.getLogger("imago")

BEST_GENERATOR = "best_generator.safetensors"
BEST_CHECKPOINT = "checkpoints/best.ckpt"
BEST_RECORD = "best.json"


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
        self._measures: list[Measure] = []
        self._prepared = False
        self._failing = False

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
        if not due(module, self.every_images) or module.skipped_in_a_row > 0:
            return
        if not all(bool(torch.isfinite(weight).all()) for weight in module.generator_ema.parameters()):
            logger.warning("%d images seen: not measured, the averaged generator is not finite", module.images_seen)
            return
        started = time.perf_counter()
        rows = self._evaluate(trainer, module)
        self._log(trainer, module, rows, time.perf_counter() - started)
        self._keep_best(trainer, module, rows)

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

    def _log(self, trainer: pl.Trainer, module: AdversarialModule, rows: list[Row], seconds: float) -> None:
        numbers: dict[str, float] = {"images_seen": module.images_seen}
        for row in rows:
            numbers[row.metric] = row.value
            if row.reference is not None:
                numbers[f"{row.metric}/reference"] = row.reference
        if trainer.is_global_zero:
            told = [row for row in rows if not row.metric.startswith("swd/") or row.metric == "swd/avg"]
            shown = ", ".join(f"{row.metric} {row.value:.4g}" for row in told)
            logger.info("%d images seen: %s (%.0f s)", module.images_seen, shown, seconds)
        scalar_logs = [callback for callback in trainer.callbacks if isinstance(callback, ScalarLog)]  # type: ignore[attr-defined]
        if scalar_logs:
            scalar_logs[0].add(trainer, numbers, seconds)
        else:
            for other in trainer.loggers:
                other.log_metrics(numbers, step=module.images_seen)

    def _keep_best(self, trainer: pl.Trainer, module: AdversarialModule, rows: list[Row]) -> None:
        if self.best_by is None:
            return
        (row,) = (row for row in rows if row.metric == self.best_by)
        if not trainer.is_global_zero or not math.isfinite(row.value):
            return
        run_dir = Path(trainer.default_root_dir)
        best = _read_best(run_dir / BEST_RECORD, _what(row))
        if best is not None and (row.value <= best if row.higher_is_better else row.value >= best):
            return
        stage = module.stage
        description = describe_generator(
            module.generator_ema, stage.resolution, stage.alpha, module.images_seen, module.labels
        )
        try:
            save_generator(run_dir / BEST_GENERATOR, module.generator_ema, description)
            for snapshot in trainer.checkpoint_callbacks:
                with atomic_path(run_dir / BEST_CHECKPOINT) as temporary:
                    write_synced(temporary, snapshot.state(module, description))  # type: ignore[attr-defined]
            record = {**_what(row), "value": row.value, "images_seen": module.images_seen}
            with atomic_path(run_dir / BEST_RECORD) as temporary:
                temporary.write_text(json.dumps(record) + "\n")
            self._failing = False
        except OSError as error:  # a full disk costs the best checkpoint, not the run
            if not self._failing:
                logger.warning("the best checkpoint could not be written (%s)", error.strerror or error)
            self._failing = True


def _what(row: Row) -> dict[str, Any]:
    """What makes two values of a row comparable."""
    return {"metric": row.metric, "images": row.images, "protocol": row.protocol}


def _read_best(path: Path, what: dict[str, Any]) -> float | None:
    """The best value so far; None: of no metric, another one, or measured otherwise."""
    try:
        record = json.loads(path.read_text())
        return float(record["value"]) if {**record, **what} == record else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
