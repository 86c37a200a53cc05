"""Checkpoints that are always whole, and the history of the averaged generator."""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from callbacks.cadence import check_interval, due
from imago.atomic import sync_folder
from imago.errors import UserError, first_line
from imago.networks.serialization import (
    CHECKPOINT_FILE,
    GENERATOR_FILE,
    PREVIOUS_CHECKPOINT_FILE,
    describe_generator,
    save_generator,
)

if TYPE_CHECKING:
    from lightning_modules.adversarial import AdversarialModule

logger = logging.getLogger("imago")

_FULL_DISK_SIGNS = ("unexpected pos", "inline_container", "PytorchStreamWriter")  # in PyTorch's RuntimeErrors


class Snapshot(Checkpoint):
    """Saves and restores a run; being a ``Checkpoint``, it runs after all other callbacks, growth and EMA included.

    A snapshot writes ``checkpoints/last.ckpt`` (the one before becomes ``previous.ckpt``) and
    ``generators/<images_seen>.safetensors``. A disk that is full costs the snapshot, not the run: what was there stays,
    a warning says so, and the next snapshot tries again.

    Args:
        every_images: How often.
        every_minutes: Time between checkpoints at most (without a generator file); null: no limit.
        keep_generators: Newest generator files to keep; null: all.
    """

    def __init__(
        self,
        every_images: int = 10_000,
        every_minutes: float | None = 15.0,
        keep_generators: int | None = None,
    ) -> None:
        self.every_images = check_interval("callbacks.snapshot.every_images", every_images)
        if every_minutes is not None and not every_minutes > 0:
            raise UserError(f"callbacks.snapshot.every_minutes must be above 0 or null, not {every_minutes}")
        self.every_minutes = every_minutes
        if keep_generators is not None:
            check_interval("callbacks.snapshot.keep_generators", keep_generators)
        self.keep_generators = keep_generators
        self.resume_from: dict[str, Any] | None = None  # a checkpoint's contents, set before the run starts
        self.extra_state: dict[str, Any] = {}  # kept in every checkpoint: the configuration, the data's checksum
        self.total_images = 0
        self.failure: OSError | None = None  # of the newest attempt to write
        self.written = -1  # images_seen of the newest checkpoint of this start
        self._saved_at = 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        if self.resume_from is not None:
            try:
                module.load_training_state(self.resume_from)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise UserError(
                    f"{trainer.default_root_dir}: the checkpoint does not fit this model ({first_line(error)}); choose "
                    "another run_dir"
                ) from error
            self.written = module.images_seen
            self.resume_from = None
        self._saved_at = time.monotonic()
        if module.images_seen >= self.total_images:
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        if module.images_seen >= self.total_images:
            trainer.should_stop = True
            self.save(trainer, module)
        elif module.stopping.agreed:
            trainer.should_stop = True
            self.save(trainer, module, generator=False)
        elif due(module, self.every_images):
            self.save(trainer, module)
        elif self.every_minutes is not None and time.monotonic() - self._saved_at >= 60 * self.every_minutes:
            self.save(trainer, module, generator=False)

    def save(self, trainer: pl.Trainer, module: AdversarialModule, generator: bool = True) -> None:
        """Writes a checkpoint and, if asked, the generator; on the main process only, without any collective."""
        self._saved_at = time.monotonic()
        if not trainer.is_global_zero or (self.written == module.images_seen and not generator):
            return
        run_dir = Path(trainer.default_root_dir)
        stage = module.stage
        description = describe_generator(
            module.generator_ema, stage.resolution, stage.alpha, module.images_seen, module.labels
        )
        try:
            # The checkpoint comes last: a kill before it repeats the snapshot, a kill after it has lost nothing.
            if generator:
                self._save_generator(run_dir, module, description)
            # A run that is diverging must not replace the checkpoints from before.
            if module.skipped_in_a_row == 0 or module.images_seen >= self.total_images:
                write_checkpoint(run_dir, self.state(module, description))
                self.written = module.images_seen
            self.failure = None
        except OSError as error:
            self.failure = error
            logger.warning(
                "%d images seen: the snapshot could not be written (%s); the one before it is kept, training goes on",
                module.images_seen,
                error.strerror or error,
            )

    def state(self, module: AdversarialModule, description: dict[str, Any]) -> dict[str, Any]:
        """What a checkpoint holds.

        Args:
            module: The module, between two steps.
            description: Of its averaged generator.
        """
        return {**module.training_state(), **self.extra_state, "description": description}

    def _save_generator(self, run_dir: Path, module: AdversarialModule, description: dict[str, Any]) -> None:
        path = run_dir / "generators" / f"{module.images_seen:09d}.safetensors"
        save_generator(path, module.generator_ema, description)
        newest = run_dir / GENERATOR_FILE
        temporary = newest.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
            os.replace(temporary, newest)
        except OSError:  # a file system without hard links
            temporary.unlink(missing_ok=True)
            save_generator(newest, module.generator_ema, description)
        if self.keep_generators is not None:
            for old in sorted(path.parent.glob("*.safetensors"))[: -self.keep_generators]:
                old.unlink()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.failure is not None:
            raise UserError(
                f"the last snapshot could not be written: {self.failure.strerror or self.failure}; make room and run "
                "the same command to go on from the one before it"
            )


def write_checkpoint(run_dir: Path, state: dict[str, Any]) -> None:
    """Writes ``checkpoints/last.ckpt``; there is a whole checkpoint at every moment.

    The new file is written beside the old ones and synced, then the old last becomes the previous, then the new one
    takes its name. A kill in between leaves a whole ``last.ckpt`` throughout.

    Raises:
        OSError: The disk is full or not writable; the old files are untouched.
    """
    last, previous = run_dir / CHECKPOINT_FILE, run_dir / PREVIOUS_CHECKPOINT_FILE
    last.parent.mkdir(parents=True, exist_ok=True)
    for leftover in last.parent.glob("*.tmp"):  # of a process that was killed while it wrote
        leftover.unlink()
    temporary, kept = last.with_suffix(".tmp"), previous.with_suffix(".keep.tmp")
    try:
        write_synced(temporary, state)
        if last.exists():
            try:
                os.link(last, kept)
                os.replace(kept, previous)
            except OSError:  # a file system without hard links: for a moment only `previous` is whole
                os.replace(last, previous)
        os.replace(temporary, last)
        sync_folder(last.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_synced(path: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint and waits until the disk has it.

    Raises:
        OSError: The disk is full or not writable.
    """
    with open(path, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if not any(sign in str(error) for sign in _FULL_DISK_SIGNS):
                raise
            # PyTorch's writer hides the system's own error; of a file that opened it is a full disk.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        file.flush()
        os.fsync(file.fileno())
