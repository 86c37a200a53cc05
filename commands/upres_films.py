"""Films, up-resolved frame by frame and kept from flickering."""

import importlib.util
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from commands.generate import path_latents
from commands.upres_job import Stopwatch, UpresJob, extents_text
from commands.upres_noise import NoiseSource, generated_face
from imago.faces.finding import LandmarkFinder
from imago.images import save_image, to_uint8
from imago.upres.chain import Step, scaled_landmarks
from imago.upres.film_landmarks import smooth_landmarks
from imago.upres.film_options import FilmOptions
from imago.upres.film_report import FilmMeter
from imago.upres.selection import Choice
from imago.upres.stacking import resample
from imago.upres.temporal import stabilise
from imago.upres.temporal_profile import TemporalProfile
from imago.video import film_path, write_film

_PROFILE_STRETCH = 4  # rows of the temporal profile for each frame
_BARELY_MOVES = 3.0  # seconds, see generate.py

UpresFrame = Callable[[Tensor, NDArray[np.floating] | None, Any], tuple[Tensor, Sequence[Choice]]]


def upres_noise_film(job: UpresJob, source: NoiseSource, options: FilmOptions) -> list[Path]:
    """A film through latent space that loops, up-resolved.

    Returns:
        The files written.
    """
    cfg, watch = job.cfg, Stopwatch()
    count = max(1, round(cfg.seconds * cfg.fps))
    latents = path_latents(source.job, count, 1)[:, 0]  # (frames, size)
    seed, number = (source.seeds[0], source.pictures[0])
    codes = source.job.labels.codes(seed, number)
    faces = source.job.pictures(latents, count, (codes for _ in range(count)))
    frames, found = zip(*(generated_face(job, face, film=True) for face in faces), strict=True)
    extent = (frames[0].shape[1], frames[0].shape[2])
    steps = job.portrait_steps(extent)
    low = low_extent(steps[-1].high, extent)
    tracks = np.stack([no_landmarks() if face is None else face.landmarks for face in found])
    tracks = np.stack(scaled_landmarks(list(tracks), extent, low))
    lows = [resample(frame, low) for frame in frames]
    names = "+".join(f"{seed:04d}" for seed in source.seeds)[:60]
    target = film_path(job.out / f"film-seed{names}-{cfg.path}-{cfg.seconds:g}s-{cfg.fps}fps{source.job.variant}")

    def write(high: Iterator[NDArray[np.uint8]]) -> None:
        write_film(high, target, cfg.fps)

    report_landmarks(job.finder, tracks, options, loop=True)
    stabilised(job, lows, steps, tracks, options, write, target, count, loop=True)
    print(f"wrote {target}: {count} frames ({count / cfg.fps:g} s), {extents_text(steps, extent)}, {watch}")
    if cfg.path == "gaussian" and cfg.seconds < _BARELY_MOVES:
        print(f"a gaussian path barely moves in {cfg.seconds:g} s: take {_BARELY_MOVES:g} s or path=cubic")
    return job.written


def stabilised(
    job: UpresJob,
    lows: Iterable[Tensor],
    steps: Sequence[Step],
    tracks: NDArray[np.float64] | None,
    options: FilmOptions,
    write: Callable[[Iterator[NDArray[np.uint8]]], None],
    target: Path,
    count: int | None,
    loop: bool = False,
) -> None:
    """Up-resolves the frames of a film, writes them as they come, and reports how stable they are.

    Args:
        job: The request.
        lows: Low-resolution frames, ``(3, h, w)`` in [-1, 1].
        steps: Of each.
        tracks: Landmarks of all frames in their pixels, ``(T, 68, 2)``; NaN where there is no face.
        options: How the film is made stable.
        write: Takes the frames, uint8 ``(H, W, 3)``.
        target: The film; the temporal profile is written beside it.
        count: Of frames, for the progress bar, where it is known.
        loop: Its first frame follows its last.
    """

    def upres_frame(
        low: Tensor, landmarks: NDArray[np.floating] | None, variant: Any
    ) -> tuple[Tensor, Sequence[Choice]]:
        faces = [] if landmarks is None else [np.asarray(landmarks, dtype=np.float64)]
        return job.enlarge_frame(low, faces, steps, variant)

    report = job.cfg.film.report
    if report and importlib.util.find_spec("cv2") is None:
        job.tell_once("the film's stability is not measured: OpenCV is missing (pip install 'imago[video]')")
        report = False
    meter, profile = FilmMeter(loop, options=options), TemporalProfile()

    def frames() -> Iterator[NDArray[np.uint8]]:
        with frame_progress(target.name, count) as progress:
            for low, high in stabilise(lows, upres_frame, options, tracks, loop):
                if report:
                    meter.add(low, high)
                    profile.add(high)
                yield to_uint8(high).permute(1, 2, 0).contiguous().cpu().numpy()
                progress()

    write(frames())
    job.written.append(target)
    if not report:
        return
    if meter.pairs or loop:
        measured = meter.report()
        if measured.pairs:
            print(
                f"film.mode={options.mode}: warping error {1e4 * measured.warping_error:.2f}·10⁻⁴ "
                f"({measured.relative:.2f} times that of the low-resolution film enlarged by Lanczos), "
                f"{1e4 * measured.detail_warping_error:.2f}·10⁻⁴ of it flicker of added detail"
            )
    path = save_image(target.with_name(f"{target.stem}-profile.png"), profile.picture(_PROFILE_STRETCH))
    job.written.append(path)
    print(f"wrote {path}: the middle row of every frame, one below the other")


def low_extent(high: tuple[int, int], extent: tuple[int, int]) -> tuple[int, int]:
    """The extent of the low-resolution frames of a film: a whole fraction of the result, about that of its source.

    Args:
        high: (height, width) of the up-resolved frames.
        extent: (height, width) of the frames that they are made of.

    Returns:
        The largest that is no larger than `extent`; where there is none, the smallest.
    """
    common = math.gcd(*high)
    divisors = [k for k in range(1, common + 1) if common % k == 0]
    factor = next((k for k in divisors if k * extent[0] >= high[0]), common)
    return high[0] // factor, high[1] // factor


def report_landmarks(
    finder: LandmarkFinder | None, tracks: NDArray[np.float64], options: FilmOptions, loop: bool = False
) -> None:
    """Tells in how many frames there were landmarks, those taken over from the frame before included."""
    if finder is None:
        return
    steady = smooth_landmarks(tracks, options.landmark_sigma, loop, options.landmark_hold)
    known, found = (np.isfinite(values).all(axis=(1, 2)) for values in (steady, tracks))
    finder.held(int((known & ~found).sum()))
    print(finder.summary("frames"))


def no_landmarks() -> NDArray[np.float64]:
    """Of a frame without a face."""
    return np.full((68, 2), np.nan)


@contextmanager
def frame_progress(name: str, count: int | None) -> Iterator[Callable[[], None]]:
    """A progress bar over the frames of a film, on a terminal only."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=count)
        yield lambda: bar.advance(task)
