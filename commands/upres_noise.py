"""Faces drawn from noise by a generator, and up-resolved."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from commands.devices import find_device
from commands.generate import Job as GeneratorJob
from commands.generate_options import check_options
from commands.numbers import parse_numbers
from commands.picture_labels import PictureLabels
from commands.upres_job import Stopwatch, UpresJob, extents_text, finished
from conf.generate_schema import GenerateConfig
from conf.upres_schema import UpresConfig
from imago.faces.landmarks import Face
from imago.images import to_rgb
from imago.networks.serialization import load_generator

_BATCH, _SIDE = 16, 512  # pictures at a time, of no more pixels in all than one of so many squared


@dataclass(frozen=True)
class NoiseSource:
    """A generator, as generate.py would run it.

    Attributes:
        job: Its options and what follows from them.
        seeds: Of the pictures.
        pictures: Numbers of the pictures of each seed.
    """

    job: GeneratorJob
    seeds: list[int]
    pictures: list[int]

    @property
    def keys(self) -> list[tuple[int, int]]:
        """(seed, number) of each picture."""
        return [(seed, number) for seed in self.seeds for number in self.pictures]

    @property
    def metadata(self) -> dict[str, object]:
        """How all its pictures are made."""
        loaded = self.job.loaded
        return {"generator": self.job.cfg.checkpoint, "images seen": loaded.images_seen, **self.job.settings}


def find_noise(cfg: UpresConfig, out: Path) -> NoiseSource:
    """Loads the generator that ``generator=`` names.

    Raises:
        UserError: It cannot be read, or an option is not fit for it.
    """
    seeds = parse_numbers("seeds", cfg.seeds)
    pictures = [0] if cfg.pictures is None else parse_numbers("pictures", cfg.pictures)
    film = cfg.what == "film"
    through = film and (len(seeds) > 1 or cfg.pictures is not None)  # a film through these very pictures
    options = GenerateConfig(
        checkpoint=str(cfg.generator),
        what="interpolation" if film else "images",
        seed=seeds[0],
        seeds=seeds if through or not film else None,
        pictures=pictures if through or not film else None,
        truncation=cfg.truncation,
        labels=dict(cfg.labels),
        path=cfg.path,
        seconds=cfg.seconds,
        fps=cfg.fps,
    )
    check_options(options)
    device = find_device(cfg.device)
    loaded = load_generator(Path(str(cfg.generator)).expanduser(), device=device)
    options.batch_size = max(1, min(_BATCH, (_SIDE // loaded.resolution) ** 2))
    labels = PictureLabels.asked_for(options.labels, loaded, options.checkpoint)
    return NoiseSource(GeneratorJob(options, loaded, device, loaded.resolution, out, labels), seeds, pictures)


def upres_noise(job: UpresJob, source: NoiseSource) -> list[Path]:
    """Draws faces from noise and up-resolves them.

    Returns:
        The files written.
    """
    wanted = []
    for seed, number in source.keys:
        path = job.out / f"seed{seed:04d}-{number:05d}{source.job.variant}.{job.cfg.format}"
        if not (job.cfg.skip_existing and path.exists()):
            wanted.append((seed, number, path))
    job.tell_left_out(len(source.keys) - len(wanted), len(source.keys))
    batch = source.job.cfg.batch_size
    for first in range(0, len(wanted), batch):
        some = wanted[first : first + batch]
        keys = [(seed, number) for seed, number, _ in some]
        codes = [source.job.labels.codes(*key) for key in keys]
        faces = list(source.job.pictures(source.job.latents(keys), len(some), codes))  # its progress bar is gone now
        for key, (_, _, path), face in zip(keys, some, faces, strict=True):
            _enlarge(job, source, key, path, face)
    job.tell_landmarks("faces")
    return job.written


def _enlarge(job: UpresJob, source: NoiseSource, key: tuple[int, int], path: Path, face: Tensor) -> None:
    watch = Stopwatch()
    picture, found = generated_face(job, face)
    extent = (picture.shape[1], picture.shape[2])
    steps = job.portrait_steps(extent)
    landmarks = [] if found is None else [found.landmarks]
    planes, chain = job.enlarge(picture, landmarks, steps, path.stem)
    metadata: dict[str, Any] = {**source.job.labels.texts(*key), "seed": key[0], "picture": key[1]}
    metadata |= {**source.metadata, "landmarks": "none" if found is None else "found"}
    job.write(path, finished(planes, grey=len(face) == 1), metadata)
    job.show(path, picture, landmarks, chain)
    print(f"wrote {path}: {extents_text(steps, extent)}, {watch}")


def generated_face(job: UpresJob, face: Tensor, film: bool = False) -> tuple[Tensor, Face | None]:
    """A generator's picture, uint8 ``(C, H, W)``, as stages read it, ``(3, H, W)`` in [-1, 1], and the face in it."""
    rgb = to_rgb(face)
    if job.finder is None:
        found = None
    else:
        pixels = rgb.permute(1, 2, 0).contiguous().numpy()
        found = job.finder.next_face(pixels) if film else job.finder.face(pixels)
    return rgb.to(torch.float32) / 127.5 - 1, found
