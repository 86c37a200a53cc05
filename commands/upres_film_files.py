"""Films that were shot, up-resolved with their sound: the face that they follow, or entire frames."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from commands.upres_films import low_extent, no_landmarks, report_landmarks, stabilised
from commands.upres_job import Stopwatch, UpresJob, extents_text
from imago.errors import UserError
from imago.faces.alignment import CropTransform
from imago.faces.finding import LandmarkFinder
from imago.film_files import Film, check_target, read_film, write_film_like
from imago.upres.chain import scaled_landmarks
from imago.upres.film_landmarks import smooth_landmarks
from imago.upres.film_options import FilmOptions
from imago.upres.inputs import InputFile
from imago.upres.portrait import cut_portrait, portrait_rectangle
from imago.upres.stacking import resample

_LARGEST = 4096  # pixels of a film's longer side, where no size is asked for


def upres_film_file(job: UpresJob, file: InputFile, options: FilmOptions) -> None:
    """Up-resolves a film. It is decoded twice: first to find the face in all frames, so as to follow it smoothly.

    Raises:
        UserError: It cannot be read, or no face is found that could be cut out.
        MissingDependencyError: PyAV is missing.
    """
    watch = Stopwatch()
    check_target(file.target)
    film = read_film(file.path)
    finder = None if job.finder is None else job.finder.fresh()
    tracks = _find(film, finder)
    if job.cfg.mode == "portrait":
        if not np.isfinite(tracks).any():
            raise UserError(f"{file.path}: no face found in any frame; mode=whole enlarges entire frames")
        report_landmarks(finder, tracks, options)
        extent = (job.face_size, job.face_size)
        steps = job.portrait_steps(extent)
        low = low_extent(steps[-1].high, extent)
        known = smooth_landmarks(tracks, options.landmark_sigma, hold=options.landmark_hold)
        filled = _filled(known)
        tracks = _in_portraits(known, filled, job.face_size, job.cfg.framing)
        lows = _portraits(film, filled, job.face_size, job.cfg.framing, low)
        options = replace(options, landmark_sigma=0.0, landmark_hold=0)  # both are done
    else:
        report_landmarks(finder, tracks, options)
        extent = (film.height, film.width)
        largest = job.cfg.largest if job.cfg.size else min(job.cfg.largest, _LARGEST)
        steps = job.whole_steps(extent, largest)
        low = low_extent(steps[-1].high, extent)
        lows = (resample(_unit(frame), low) for frame in film)
    tracks = np.array(scaled_landmarks(list(tracks), extent, low)).reshape(-1, 68, 2)

    def write(frames: Iterator[NDArray[np.uint8]]) -> None:
        write_film_like(film, frames, file.target)

    stabilised(job, lows, steps, tracks, options, write, file.target, film.count)
    sound = "with its sound, " if film.sounds else ""
    print(f"wrote {file.target}: {len(tracks)} frames, {sound}{extents_text(steps, extent)}, {watch}")


def _find(film: Film, finder: LandmarkFinder | None) -> NDArray[np.float64]:
    """Landmarks of every frame, ``(T, 68, 2)``, NaN where there is no face."""
    found = []
    for frame in film:
        face = None if finder is None else finder.next_face(frame)
        found.append(no_landmarks() if face is None else face.landmarks)
    return np.array(found).reshape(-1, 68, 2)


def _filled(tracks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Missing landmarks as those of the last frame that has some; at the beginning, of the first."""
    places = np.flatnonzero(np.isfinite(tracks).all(axis=(1, 2)))
    last = np.searchsorted(places, np.arange(len(tracks)), side="right") - 1
    return tracks[places[np.maximum(last, 0)]]


def _in_portraits(
    tracks: NDArray[np.float64], filled: NDArray[np.float64], size: int, framing: str
) -> NDArray[np.float64]:
    """Landmarks in the pixels of the portraits cut out by those that are filled."""
    transforms = [CropTransform(portrait_rectangle(points, framing), size) for points in filled]
    return np.stack([transform.to_crop(points) for transform, points in zip(transforms, tracks, strict=True)])


def _portraits(
    film: Film, filled: NDArray[np.float64], size: int, framing: str, low: tuple[int, int]
) -> Iterator[Tensor]:
    for frame, points in zip(film, filled, strict=False):
        yield resample(cut_portrait(frame, points, size, framing).picture, low)


def _unit(frame: NDArray[np.uint8]) -> Tensor:
    """A frame ``(H, W, 3)`` as networks see it, ``(3, H, W)``."""
    return torch.from_numpy(frame).permute(2, 0, 1).to(torch.float32) / 127.5 - 1
