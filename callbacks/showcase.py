"""What a run leaves to look at: a sample grid, a loss plot, an interpolation film, and a line saying where they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

from callbacks.cadence import check_interval
from callbacks.csv_table import read_rows
from callbacks.sample_grid import SampleGrid
from imago.errors import UserError
from imago.images import image_grid, save_image, to_rgb, to_uint8, upscale_nearest
from imago.latents import gaussian_path
from imago.networks.serialization import CHECKPOINT_FILE
from imago.video import film_path, write_film

if TYPE_CHECKING:
    from lightning_modules.adversarial import AdversarialModule

logger = logging.getLogger("imago")

_FILM_GRID = (4, 3)  # columns, rows
_FILM_HEIGHT = 480  # pixels, about: small pictures are enlarged


class Showcase(pl.Callback):
    """Writes ``samples.png``, ``losses.png`` and ``interpolation.mp4`` (or what can be written) when a run ends.

    Args:
        film_seconds: Length of the film; 0: none.
        fps: Its frames per second.
    """

    def __init__(self, film_seconds: float = 8.0, fps: int = 25) -> None:
        if not 0 <= film_seconds < float("inf"):
            raise UserError(f"callbacks.showcase.film_seconds must not be negative, not {film_seconds}")
        self.film_seconds = film_seconds
        self.fps = check_interval("callbacks.showcase.fps", fps)
        self._trained = False

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self._trained = True

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        run_dir = Path(trainer.default_root_dir)
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        film = self.film_seconds > 0 and hasattr(module.generator_ema, "latent_size")
        if module.stopping.agreed or not trainer.is_global_zero or not (self._trained or self._missing(run_dir, film)):
            return
        from_latents = hasattr(module.generator_ema, "latent_size")
        count, columns = (60, 10) if from_latents else (12, 2)
        written = [save_image(run_dir / "samples.png", image_grid(SampleGrid.sample(module, count), columns))]
        if (run_dir / "metrics.csv").exists():
            written.append(plot_losses(run_dir / "metrics.csv", run_dir / "losses.png"))
        if film:
            frames = round(self.film_seconds * self.fps)
            written.append(write_film(_film(module, frames, self.fps), film_path(run_dir / "interpolation"), self.fps))
        logger.info("look at %s", ", ".join(str(path) for path in written))

    def _missing(self, run_dir: Path, film: bool) -> bool:
        """Whether a finished run was killed before it had written all of this."""
        patterns = ["samples.png", *(["interpolation.*"] if film else [])]
        written = [max((path.stat().st_mtime for path in run_dir.glob(pattern)), default=0.0) for pattern in patterns]
        checkpoint = run_dir / CHECKPOINT_FILE
        return checkpoint.exists() and min(written) < checkpoint.stat().st_mtime


def plot_losses(table: Path, out: Path) -> Path:
    """Plots the columns of metrics.csv that tell how a run went, against images_seen.

    Args:
        table: metrics.csv.
        out: The picture to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in read_rows(table) if row.get("resolution")]  # not those of evaluations
    kimg = [float(row["images_seen"]) / 1000 for row in rows]
    panels = {
        "loss": ("discriminator_loss", "generator_loss"),
        "score": ("real_score", "fake_score"),
        "gradient norm": ("gradient_norm_at_interpolates", "discriminator_gradient_norm", "generator_gradient_norm"),
        "images per second": ("images_per_second",),
    }
    figure = Figure(figsize=(9, 8), layout="constrained")
    marker = "." if len(rows) < 3 else None  # a line through one point is nothing to see
    axes = figure.subplots(len(panels), 1, sharex=True)
    for axis, (title, columns) in zip(axes, panels.items(), strict=True):
        for column in columns:
            if rows and column in rows[0]:
                axis.plot(
                    kimg,
                    [float(row[column] or "nan") for row in rows],
                    label=column.replace("_", " "),
                    lw=0.9,
                    marker=marker,
                )
        resolutions = [row["resolution"] for row in rows]
        for i in range(1, len(rows)):
            if resolutions[i] != resolutions[i - 1]:
                axis.axvline(kimg[i], color="0.8", lw=0.8, zorder=0)
        axis.set_ylabel(title)
        if title in ("gradient norm", "images per second"):
            axis.set_yscale("log")
        if axis.lines:
            axis.legend(fontsize=8, loc="upper right")
    axes[-1].set_xlabel("real images seen by the discriminator (thousands); grey lines: a resolution begins")
    FigureCanvasAgg(figure).print_png(str(out))
    return out


@torch.inference_mode()
def _film(module: AdversarialModule, frames: int, fps: int) -> Iterator[NDArray[np.uint8]]:
    generator = module.generator_ema
    columns, rows = _FILM_GRID
    path = gaussian_path(module.seed, frames, columns * rows, int(generator.latent_size), fps)  # type: ignore[arg-type]
    codes = module.draw_labels(0, columns * rows, "samples/labels")
    for latents in torch.from_numpy(path):
        images = to_uint8(module.pictures(latents, codes)).cpu()
        factor = max(1, _FILM_HEIGHT // (rows * images.shape[2]))
        picture = upscale_nearest(image_grid(images, columns), factor)
        yield to_rgb(picture).permute(1, 2, 0).numpy()
