"""Validation of a classifier while it trains, and checkpoints that remember the best one."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from callbacks.cadence import due
from callbacks.scalar_log import ScalarLog
from callbacks.snapshot import write_checkpoint
from imago.classification.attributes import Attribute
from imago.classification.images import LabelledImages
from imago.classification.prediction import evaluate
from imago.classification.scores import Scores
from imago.errors import UserError, first_line

if TYPE_CHECKING:
    from lightning_modules.attribute_classifier import AttributeClassifierModule

logger = logging.getLogger("imago")


class BestClassifier(Checkpoint):
    """Looks at the validation part now and then, keeps the best weights, and saves and restores the run.

    Both moments are functions of images_seen, and a checkpoint holds the best weights so far beside the present ones:
    a run that was killed and goes on picks the same network.

    Args:
        validation: The validation part.
        attributes: What is classified.
        select_by: The score, averaged over the attributes, by which networks are compared; of equals the first.
        validate_every: Images between two looks.
        every_images: Images between two checkpoints.
        every_minutes: Time between checkpoints at most; None: no limit.
        total_images: Where the run stops.
        extra_state: Kept in every checkpoint: configuration, checksums.
        resume_from: A checkpoint's contents.
    """

    def __init__(
        self,
        validation: LabelledImages,
        attributes: Sequence[Attribute],
        select_by: str,
        validate_every: int,
        every_images: int,
        every_minutes: float | None,
        total_images: int,
        extra_state: dict[str, Any],
        resume_from: dict[str, Any] | None = None,
    ) -> None:
        self.validation = validation
        self.attributes = attributes
        self.select_by = select_by
        self.validate_every = validate_every
        self.every_images = every_images
        self.every_minutes = every_minutes
        self.total_images = total_images
        self.extra_state = extra_state
        self.resume_from = resume_from
        self.best: dict[str, Any] | None = None  # images_seen, score, network

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module: AttributeClassifierModule = pl_module  # type: ignore[assignment]
        if self.resume_from is not None:
            try:
                module.load_training_state(self.resume_from)
                self.best = self.resume_from["best"]
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise UserError(
                    f"{trainer.default_root_dir}: the checkpoint does not fit this network ({first_line(error)}); "
                    "choose another run_dir"
                ) from error
            self.resume_from = None
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        module: AttributeClassifierModule = pl_module  # type: ignore[assignment]
        finished = module.images_seen >= self.total_images
        if finished or due(module, self.validate_every):  # type: ignore[arg-type]
            self._validate(trainer, module)
        late = self.every_minutes is not None and time.monotonic() - self._saved_at >= 60 * self.every_minutes
        stopping = module.stopping.agreed
        if finished or stopping or late or due(module, self.every_images):  # type: ignore[arg-type]
            self._save(trainer, module, finished)
        if finished or stopping:
            trainer.should_stop = True

    def _validate(self, trainer: pl.Trainer, module: AttributeClassifierModule) -> None:
        began = time.perf_counter()
        scores = evaluate(module.network, self.validation, self.attributes)
        chosen = mean_score(scores, self.select_by)
        if self.best is None or chosen > self.best["score"]:
            weights = {name: tensor.detach().cpu().clone() for name, tensor in module.network.state_dict().items()}
            self.best = {"images_seen": module.images_seen, "score": chosen, "network": weights}
        row: dict[str, float] = {"images_seen": module.images_seen}
        for name in ("accuracy", "balanced_accuracy", "macro_f1"):
            row[f"validation/{name}"] = mean_score(scores, name)
        for attribute, one in scores.items():
            row[f"validation/{attribute}/accuracy"] = one.accuracy
            row[f"validation/{attribute}/balanced_accuracy"] = one.balanced_accuracy
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ScalarLog):
                callback.add(trainer, row, time.perf_counter() - began)
        logger.info(
            "%d images seen: validation accuracy %.3f, balanced %.3f, macro-F1 %.3f (means over %d attributes)",
            module.images_seen,
            *(row[f"validation/{name}"] for name in ("accuracy", "balanced_accuracy", "macro_f1")),
            len(scores),
        )

    def _save(self, trainer: pl.Trainer, module: AttributeClassifierModule, finished: bool) -> None:
        self._saved_at = time.monotonic()
        state = {**module.training_state(), **self.extra_state, "best": self.best}
        try:
            write_checkpoint(Path(trainer.default_root_dir), state)
        except OSError as error:
            if finished:
                raise UserError(
                    f"the last checkpoint could not be written: {error.strerror or error}; make room and run the same "
                    "command to go on from the one before it"
                ) from error
            logger.warning(
                "%d images seen: the checkpoint could not be written (%s); the one before it is kept, training goes on",
                module.images_seen,
                error.strerror or error,
            )


def mean_score(scores: dict[str, Scores], name: str) -> float:
    """Mean of one score over the attributes."""
    return sum(getattr(one, name) for one in scores.values()) / len(scores)
