"""Pictures, grids and films from a trained generator: what ``generate.py`` does."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from commands.checkpoints import images_in_epoch, run_of
from commands.command_line import command_line
from commands.devices import find_device
from commands.figures import figure_of_run
from commands.generate_dataset import generate_dataset
from commands.generate_options import check_options
from commands.picture_labels import PictureLabels
from conf.generate_schema import GenerateConfig
from imago import __version__
from imago.errors import UserError
from imago.images import image_grid, save_image, to_rgb, to_uint8, upscale_nearest
from imago.latents import cubic_path, draw_centre, draw_latents, gaussian_path, slerp_path, truncate
from imago.networks.serialization import LoadedGenerator, load_generator
from imago.video import film_path, write_film

_GAUSSIAN_PATH_MIN_SECONDS = 3.0  # 4 σ of the blur; below, its mean over the loop is nearly all that is left


@dataclass(frozen=True)
class Job:
    """A checked request: the options, the generator, and what follows from both."""

    cfg: GenerateConfig
    loaded: LoadedGenerator
    device: torch.device
    resolution: int
    out: Path
    labels: PictureLabels

    @property
    def latent_size(self) -> int:
        generator: Any = self.loaded.generator  # nn.Module types every attribute as a tensor or a module
        return int(generator.latent_size)

    @property
    def picture_extent(self) -> tuple[int, int]:
        """(height, width) of a picture before it is scaled."""
        generator: Any = self.loaded.generator
        base = self.loaded.config.get("base", [4, 4])
        height, width = self.resolution, self.resolution * base[1] // base[0]
        zoom = getattr(generator, "telescope", (1, 1))
        return (height, width) if self.cfg.read_back else (height * zoom[0], width * zoom[1])

    def latents(self, keys: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
        """Latents of pictures by (seed, number), truncated as asked: ``(len(keys), size)``."""
        size, truncation = self.latent_size, self.cfg.truncation
        centres = {seed: draw_centre(seed, size) for seed, _ in keys}
        rows = [truncate(draw_latents(seed, number, 1, size), centres[seed], truncation) for seed, number in keys]
        return np.concatenate(rows)

    def pictures(
        self, latents: Iterable[NDArray[np.float32]], total: int, codes: Iterable[NDArray[np.int64] | None]
    ) -> Iterator[Tensor]:
        """The generator's pictures, uint8 ``(C, H, W)`` on the CPU; see :func:`_pictures`."""
        return _pictures(self, latents, total, codes)

    @property
    def settings(self) -> dict[str, str]:
        """Options, other than seed and number, that make a picture differ from the default one of the same latent."""
        used: dict[str, str] = {}
        if self.resolution != self.loaded.resolution:
            used["resolution"] = str(self.resolution)
        if self.cfg.truncation != 1:
            used["truncation"] = f"{self.cfg.truncation:g}"
        if self.cfg.scale != 1:
            used["scale"] = str(self.cfg.scale)
        if self.cfg.read_back:
            used["read_back"] = "true"
        return used

    @property
    def variant(self) -> str:
        """The settings as part of a file name, so that a picture does not replace one made with others."""
        return "".join(f"-{name}{value}" for name, value in self.settings.items()) + self.labels.variant


def generate(cfg: GenerateConfig) -> list[Path]:
    """Make what the options ask for, and print what was written and where.

    Args:
        cfg: The options; any object with the attributes of :class:`GenerateConfig`.

    Returns:
        The files written, in order.

    Raises:
        UserError: If an option is out of range, the checkpoint cannot be read, the generator's output is not finite,
            memory runs out or a file cannot be written.
    """
    check_options(cfg)
    device = find_device(cfg.device)
    checkpoint = Path(cfg.checkpoint).expanduser()
    loaded = load_generator(checkpoint, device=device)
    out = Path(cfg.out).expanduser() if cfg.out else _default_folder(checkpoint, loaded.images_seen)
    labels = PictureLabels.asked_for(cfg.labels, loaded, cfg.checkpoint)
    job = Job(cfg, loaded, device, _resolution(cfg, loaded), out, labels)
    make = {
        "images": _images,
        "grid": _grid,
        "interpolation": _interpolation,
        "dataset": generate_dataset,
        "errors": _figure,
        "activations": _figure,
    }[cfg.what]
    try:
        if cfg.what != "dataset":
            out.mkdir(parents=True, exist_ok=True)
        return make(job)
    except torch.OutOfMemoryError as error:
        raise UserError(f"{device} ran out of memory; lower batch_size (now {cfg.batch_size})") from error
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}") from error


def _images(job: Job) -> list[Path]:
    keys = _picture_keys(job.cfg, job.cfg.count)
    latents = (job.latents([key])[0] for key in keys)  # lazily: fifty thousand need not fit in memory
    written = []
    codes = (job.labels.codes(*key) for key in keys)
    for (seed, number), picture in zip(keys, _pictures(job, latents, len(keys), codes), strict=True):
        path = job.out / f"seed{seed:04d}-{number:05d}{job.variant}.{job.cfg.format}"
        metadata = _metadata(job, job.labels.texts(seed, number), seed=seed, picture=number)
        written.append(save_image(path, picture, metadata))
    names = written[0].name if len(written) == 1 else f"{written[0].name} … {written[-1].name}"
    height, width = picture.shape[1:]
    print(f"wrote {len(written)} picture{'s' * (len(written) > 1)} of {height}×{width} to {job.out}: {names}")
    if len(written) > 1:
        seed, number = keys[-1]
        options: dict[str, object] = {"checkpoint": job.cfg.checkpoint, "seed": seed, "pictures": [number]}
        labels = {f"labels.{name}": value for name, value in job.labels.words.items()}
        print(f"the last alone: {command_line('generate.py', {**options, **job.settings, **labels})}")
    return written


def _grid(job: Job) -> list[Path]:
    cfg = job.cfg
    # A shape given in full decides how many pictures there are, shared out among the seeds.
    places = cfg.rows * cfg.columns if cfg.rows and cfg.columns else None
    keys = _picture_keys(cfg, max(1, places // len(cfg.seeds or [cfg.seed])) if places else cfg.count)
    if places and len(keys) > places:
        raise UserError(f"{len(keys)} pictures do not fit a grid of {cfg.columns} columns and {cfg.rows} rows")
    columns = cfg.columns or (math.ceil(len(keys) / cfg.rows) if cfg.rows else math.ceil(math.sqrt(len(keys))))
    codes = (job.labels.codes(*key) for key in keys)
    grid = image_grid(torch.stack(list(_pictures(job, job.latents(keys), len(keys), codes))), columns)
    rows = math.ceil(len(keys) / columns)
    path = job.out / f"grid-{_names_of(cfg)}-{columns}x{rows}{job.variant}.{cfg.format}"
    what: dict[str, object] = {"pictures (seed/number)": " ".join(f"{seed}/{number}" for seed, number in keys)}
    if job.loaded.labels is not None:
        texts = (", ".join(f"{name}: {value}" for name, value in job.labels.texts(*key).items()) for key in keys)
        what["labels (a line per picture)"] = "\n".join(texts)
    save_image(path, grid, _metadata(job, {}, **what))
    print(f"wrote a grid of {columns}×{rows} pictures, {grid.shape[2]}×{grid.shape[1]} pixels, to {path}")
    return [path]


def _figure(job: Job) -> list[Path]:
    checkpoint = Path(job.cfg.checkpoint).expanduser()
    epoch = job.cfg.epoch or (images_in_epoch(checkpoint) if job.cfg.what == "errors" else None)
    written = figure_of_run(job.cfg.what, run_of(checkpoint), job.out, epoch)
    print(f"wrote {written}")
    return [written]


def _interpolation(job: Job) -> list[Path]:
    cfg = job.cfg
    columns, rows = cfg.columns or 1, cfg.rows or 1
    cells, frames = columns * rows, max(1, round(cfg.seconds * cfg.fps))
    shape = f"-{columns}x{rows}" if cells > 1 else ""
    stem = f"interpolation-{_names_of(cfg)}-{cfg.path}-{cfg.seconds:g}s-{cfg.fps}fps{shape}{job.variant}"
    path = job.out / f"{stem}.{cfg.film}" if cfg.film else film_path(job.out / stem)
    latents = path_latents(job, frames, cells)  # (frames, cells, size)
    codes = itertools.cycle([job.labels.codes(*key) for key in _keys_of_cells(job.cfg, cells)])  # only latents change
    pictures = _pictures(job, latents.reshape(-1, latents.shape[-1]), frames * cells, codes)
    write_film((_film_frame(list(itertools.islice(pictures, cells)), columns) for _ in range(frames)), path, cfg.fps)
    print(f"wrote a film of {frames} frames ({frames / cfg.fps:g} s, {columns}×{rows} pictures) to {path}")
    if cfg.path == "gaussian" and cfg.seconds < _GAUSSIAN_PATH_MIN_SECONDS:
        print(f"a gaussian path barely moves in {cfg.seconds:g} s: take {_GAUSSIAN_PATH_MIN_SECONDS:g} s or path=cubic")
    return [path]


def path_latents(job: Job, frames: int, cells: int) -> NDArray[np.float32]:
    """Latents of a film: ``(frames, cells, size)``."""
    cfg = job.cfg
    if cfg.path == "gaussian":
        path = gaussian_path(cfg.seed, frames, cells, job.latent_size, cfg.fps)
        return truncate(path, draw_centre(cfg.seed, job.latent_size), cfg.truncation)
    # Keyframes are truncated, not the path: so a film passes through the very pictures that what=images makes.
    keys = _picture_keys(cfg, cells * cfg.keyframes)
    keyframes = job.latents(keys).reshape(cells, -1, job.latent_size).swapaxes(0, 1)  # (K, cells, size)
    if len(keyframes) < 2:
        raise UserError("a film needs at least two pictures to pass through; give pictures=[0,1,2] or keyframes=8")
    return (slerp_path if cfg.path == "slerp" else cubic_path)(keyframes, frames)


def _keys_of_cells(cfg: GenerateConfig, cells: int) -> list[tuple[int, int]]:
    """(seed, number) of the picture whose labels each cell of a film keeps: where it passes through some, the first."""
    if cfg.path == "gaussian":
        return [(cfg.seed, cell) for cell in range(cells)]
    keys = _picture_keys(cfg, cells * cfg.keyframes)
    return keys[:: len(keys) // cells]


def _film_frame(pictures: list[Tensor], columns: int) -> NDArray[np.uint8]:
    frame = image_grid(torch.stack(pictures), columns)
    return to_rgb(frame).permute(1, 2, 0).contiguous().numpy()


def _picture_keys(cfg: GenerateConfig, count: int) -> list[tuple[int, int]]:
    """(seed, number) of each picture."""
    seeds = [cfg.seed] if cfg.seeds is None else list(cfg.seeds)
    numbers = range(count) if cfg.pictures is None else list(cfg.pictures)
    return list(itertools.product(seeds, numbers))


def _pictures(
    job: Job,
    latents: Iterable[NDArray[np.float32]],
    total: int,
    codes: Iterable[NDArray[np.int64] | None],
) -> Iterator[Tensor]:
    """Run the generator in batches; yields uint8 ``(C, H, W)`` on the CPU, one per latent, scaled as asked."""
    from rich.console import Console
    from rich.progress import Progress

    # At the resolution that training stopped at, the last layers may still be fading in; below it, they are done.
    console = Console(stderr=True)
    latents, codes = iter(latents), iter(codes)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("generating", total=total)
        while batch := list(itertools.islice(latents, job.cfg.batch_size)):
            with torch.inference_mode():  # not around the yield, which would leak the mode to whoever reads
                z = torch.from_numpy(np.stack(batch)).to(job.device)
                labels = [code for code in itertools.islice(codes, len(batch)) if code is not None]
                given = torch.from_numpy(np.stack(labels)) if labels else None
                images = job.loaded.pictures(z, given, read_back=job.cfg.read_back)
                if not bool(images.isfinite().all()):
                    raise UserError(
                        f"the generator in {job.cfg.checkpoint} makes NaN or infinity: its training diverged"
                    )
                # The toRGB layers of smaller resolutions stopped learning when those had been faded out, and what they
                # would read has changed since: smaller pictures are the 2×2 means of the trained ones, as reals are.
                images = avg_pool2d(images, job.loaded.resolution // job.resolution)
                images = upscale_nearest(to_uint8(images).cpu(), job.cfg.scale)
            for picture in images:
                yield picture
                progress.advance(task)


def _metadata(job: Job, labels: dict[str, str], **what: object) -> dict[str, object] | None:
    if not job.cfg.metadata:
        return None
    return {
        **labels,
        "Software": f"imago {__version__}",
        "checkpoint": job.cfg.checkpoint,
        "images seen": job.loaded.images_seen,
        "resolution": job.resolution,
        "truncation": job.cfg.truncation,
        **what,
    }


def _names_of(cfg: GenerateConfig) -> str:
    """Seeds and listed pictures for a file name, kept short."""
    seeds = "+".join(f"{seed:04d}" for seed in ([cfg.seed] if cfg.seeds is None else cfg.seeds))
    numbers = "" if cfg.pictures is None else "-" + "+".join(str(number) for number in cfg.pictures)
    return f"seed{seeds[:60]}{numbers[:60]}"


def _default_folder(checkpoint: Path, images_seen: int) -> Path:
    """``generated/<images seen>`` in the run: pictures of an earlier state are not replaced by those of a later one."""
    return run_of(checkpoint) / "generated" / f"{images_seen:09d}"


def _resolution(cfg: GenerateConfig, loaded: LoadedGenerator) -> int:
    if cfg.resolution is None:
        return loaded.resolution
    generator: Any = loaded.generator
    trained = [r for r in generator.resolutions if r <= loaded.resolution]
    if cfg.resolution not in trained:
        names = ", ".join(map(str, trained))
        raise UserError(f"resolution={cfg.resolution}: the generator in {cfg.checkpoint} was trained at {names}")
    return cfg.resolution
