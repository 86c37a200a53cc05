"""What a user watches: phase, resolution, alpha, images per second and the remaining time."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from lightning_modules.adversarial import AdversarialModule

logger = logging.getLogger("imago")


class Progress(pl.Callback):
    """A bar on a terminal, a line now and then elsewhere.

    Args:
        refresh_seconds: How often the bar changes.
        line_seconds: How often a line is written where there is no terminal.
    """

    def __init__(self, refresh_seconds: float = 0.5, line_seconds: float = 30.0) -> None:
        self.refresh_seconds = refresh_seconds
        self.line_seconds = line_seconds
        self.total_images = 0
        self._bar: RichProgress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        self.speed = SpeedEstimate(module, self.total_images)
        self._shown_at = time.perf_counter()
        if not trainer.is_global_zero or trainer.should_stop:
            return
        if sys.stderr.isatty():
            self._bar = _rich_bar()
            self._task = self._bar.add_task(
                "", total=self.total_images, completed=module.images_seen, **self._fields(module)
            )
            self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        self.speed.update(module)
        now = time.perf_counter()
        if now - self._shown_at < (self.refresh_seconds if self._bar else self.line_seconds):
            return
        self._shown_at = now
        fields = self._fields(module)
        if self._bar:
            self._bar.update(self._task, completed=module.images_seen, **fields)
        else:
            share = 100 * module.images_seen / max(self.total_images, 1)
            logger.info("%3.0f%%  %s  %s  %s left", share, fields["phase"], fields["rate"], fields["left"])

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop(pl_module.images_seen)  # type: ignore[arg-type]

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop(None)

    def _stop(self, completed: int | None) -> None:
        if self._bar:
            if completed is not None:
                self._bar.update(self._task, completed=completed, left="0:00")
            self._bar.stop()
            self._bar = None

    def _fields(self, module: AdversarialModule) -> dict[str, Any]:
        stage = module.stage
        doing = f"fading in, alpha {stage.alpha:.2f}" if stage.fading else "stabilising"
        rate = self.speed.images_per_second
        left = self.speed.seconds_left(module.images_seen)
        return {
            "phase": f"{module.images_seen / 1000:.1f} kimg  {stage.resolution}² {doing}",
            "rate": "… img/s" if rate is None else f"{rate:,.0f} img/s" if rate >= 100 else f"{rate:.3g} img/s",
            "left": f"{int(left) // 3600}:{int(left) // 60 % 60:02d}:{int(left) % 60:02d}" if left is not None else "…",
        }


class SpeedEstimate:
    """Images per second, and the remaining time with the cost of resolutions that are still to come.

    A resolution not met yet is assumed to take (multiplications ratio)^0.75 times as long as the largest one met: on
    a CPU core, time grew as the 0.7th to 0.8th power of that ratio from 4² to 32²: overheads weigh less and less.

    Args:
        module: The run.
        total_images: Where it stops.
    """

    def __init__(self, module: AdversarialModule, total_images: int) -> None:
        self.schedule = module.schedule
        self.total_images = total_images
        self.costs = {r: module.relative_cost(r) for r in module.schedule.resolutions}
        self.seconds_per_image: dict[int, float] = {}
        self._resolution = 0
        self._since = time.perf_counter()

    def update(self, module: AdversarialModule) -> None:
        """Takes in the step that just ended."""
        now, resolution = time.perf_counter(), module.stage.resolution
        seconds = (now - self._since) / (module.images_seen - module.step_started_at)
        self._since = now
        if resolution != self._resolution:  # the first step at a resolution is not typical
            self._resolution = resolution
            return
        old = self.seconds_per_image.get(resolution, seconds)
        self.seconds_per_image[resolution] = 0.95 * old + 0.05 * seconds

    @property
    def images_per_second(self) -> float | None:
        """At the present resolution; None before the second step."""
        seconds = self.seconds_per_image.get(self._resolution)
        return 1 / seconds if seconds else None

    def seconds_left(self, images_seen: int) -> float | None:
        """Until ``total_images``; None before the second step."""
        if not self.seconds_per_image:
            return None
        known = max(self.seconds_per_image)
        left = 0.0
        for resolution, images in self.schedule.spans(images_seen, self.total_images):
            ratio = (self.costs[resolution] / self.costs[known]) ** 0.75
            left += images * self.seconds_per_image.get(resolution, self.seconds_per_image[known] * ratio)
        return left


def _rich_bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.fields[phase]}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]} left"),
        console=Console(stderr=True),
        refresh_per_second=4,
    )
