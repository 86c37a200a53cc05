"""Films that were shot: read frame by frame, and written anew with their times and their sound.

Nothing is held but the frames at hand, so a film may be of any length.
"""

import importlib.util
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imago.atomic import atomic_path
from imago.data.sources.file_tree import suggestion
from imago.errors import MissingDependencyError, UserError, first_line
from imago.film_sound import Sound
from imago.picture_files import write_picture
from imago.video import add_picture_stream, checked_frames, stream_frame

SOUND_FILM_ENDINGS = (".mp4", ".mov", ".mkv")

_UNTAGGED = 2  # FFmpeg's number for an unknown matrix
_FINE = 10_000  # ticks a second at least, for pictures that start a little after the sound
_HIGH_DEFINITION = 720  # rows from which players take untagged films as BT.709


@dataclass(frozen=True)
class Film:
    """A film on the disk. Iterating decodes it from the start, every time: uint8 RGB ``(H, W, 3)``, upright.

    Attributes:
        path: The file.
        height: Of the upright frames, in pixels.
        width: Of the upright frames.
        fps: Frames per second, on average.
        times: When each frame is shown, in units of `time_base` from the start of the film, ascending; empty where the
            file does not say.
        time_base: Seconds.
        start: Seconds on the file's own clock at which the film starts; recorders let it run on.
        pixel_aspect: Width of a pixel over its height, in the upright frames.
        sounds: Sound tracks.
    """

    path: Path
    height: int
    width: int
    fps: Fraction
    times: Sequence[int] = field(repr=False)
    time_base: Fraction
    start: Fraction
    pixel_aspect: Fraction
    sounds: int

    @property
    def count(self) -> int | None:
        """Frames, by the file's index; None where it has none. Damaged films give fewer."""
        return len(self.times) or None

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """
        Raises:
            UserError: Damage that the decoder does not get over, or a frame of another size.
        """
        with _opened(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                pixels = _upright_rgb(frame)
                if pixels.shape != (self.height, self.width, 3):
                    size = f"{pixels.shape[1]}x{pixels.shape[0]}"
                    raise UserError(f"{self.path}: frame {number} is {size}, not {self.width}x{self.height}")
                yield pixels


def read_film(path: str | Path) -> Film:
    """Open a film of any kind that FFmpeg knows. Its index is read, and its first frame.

    The rotation that phones note in the file is applied to the frames. Untagged colours are taken as players take
    them: BT.709 from 720 rows on, BT.601 below. High dynamic range is not tone-mapped.

    Args:
        path: The file; ``~`` is expanded.

    Raises:
        UserError: No such file, not a film, or nothing in it can be decoded.
        MissingDependencyError: PyAV is missing.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such film{suggestion(path.absolute())}")
    with _opened(path) as container:
        import av

        if not container.streams.video:
            raise UserError(f"{path}: no pictures in this file")
        stream = container.streams.video[0]
        first = next(container.decode(stream), None)
        if first is None:
            raise UserError(f"{path}: no frame can be decoded")
        height, width, _ = _upright_rgb(first).shape
        fps = stream.average_rate or stream.guessed_rate or Fraction(25)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        if first.rotation % 180:
            aspect = 1 / aspect
        sounds, time_base = len(container.streams.audio), Fraction(stream.time_base)
        start = Fraction(container.start_time or 0, av.time_base)
    with _opened(path) as container:
        packets = (packet for packet in container.demux(container.streams.video[0]) if packet.size)
        shown = [packet.pts for packet in packets if not packet.is_discard]
    times = [] if None in shown else sorted(pts - round(start / time_base) for pts in shown)
    if len(set(times)) != len(times):
        times = []
    if len(times) > 1:
        measured = Fraction(len(times) - 1) / ((times[-1] - times[0]) * time_base)
        if not 0.98 < measured / fps < 1.02:  # the rate that is noted is that of the file's clock (some AVIs)
            fps = measured.limit_denominator(1001)
    return Film(path, height, width, Fraction(fps), tuple(times), time_base, start, aspect, sounds)


def check_target(path: str | Path) -> None:
    """Refuse a film that cannot be written, before any frame is made.

    Raises:
        UserError: The ending is none of ``SOUND_FILM_ENDINGS``.
        MissingDependencyError: PyAV is missing.
    """
    path = Path(path)
    if path.suffix.lower() not in SOUND_FILM_ENDINGS:
        endings = ", ".join(SOUND_FILM_ENDINGS)
        raise UserError(f"cannot write a film with sound as {path.name}: the ending must be one of {endings}")
    if importlib.util.find_spec("av") is None:
        raise MissingDependencyError("av", "to read and write films", "video")


def write_film_like(film: Film, frames: Iterable[NDArray[np.uint8]], path: str | Path) -> Path:
    """Write new pictures for a film, with its times, its sound and its title; whole or not at all.

    Pictures are encoded as :func:`imago.video.write_film` does. Frame i is shown when the film's frame i was, so that a
    film with varying steps, as phones make, keeps to its sound; further frames follow at the average rate. Sound is
    copied packet by packet where the container holds its kind, and is encoded anew (AAC) elsewhere; where there are
    fewer frames than the film has, it ends with them. Subtitles are left out.

    Args:
        film: The source.
        frames: uint8 RGB ``(H, W, 3)``, all of one size, any size; taken one at a time.
        path: The file, ending in one of ``SOUND_FILM_ENDINGS``.

    Returns:
        The path written.

    Raises:
        UserError: The ending is unknown, or it is the film itself.
        ValueError: There is no frame, or a frame is not uint8 ``(H, W, 3)`` of the first one's size.
        MissingDependencyError: PyAV is missing.
    """
    path = Path(path)
    check_target(path)
    if path.exists() and path.samefile(film.path):
        raise UserError(f"{path}: would overwrite the film that it is made from")
    import av

    checked = checked_frames(frames)
    first = next(checked, None)
    if first is None:
        raise ValueError("a film needs at least one frame")
    options = {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
    with atomic_path(path) as temporary, _opened(film.path) as source:
        try:
            with av.open(str(temporary), "w", options=options) as container:
                container.metadata.update(_kept_metadata(source.metadata))
                _write(film, itertools.chain([first], checked), first.shape, source, container)
        except av.error.FFmpegError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or first_line(error)})") from error
    return path


def _write(film: Film, frames: Iterable[NDArray[np.uint8]], shape: Sequence[int], source: Any, container: Any) -> None:
    clock = _Clock(film)
    stream = add_picture_stream(container, film.fps, shape[0], shape[1])
    stream.time_base = stream.codec_context.time_base = clock.time_base
    stream.codec_context.sample_aspect_ratio = film.pixel_aspect
    sound = Sound(source, container, film.start)
    for number, frame in enumerate(frames):
        picture = stream_frame(frame)
        picture.pts, picture.time_base = clock.time(number), clock.time_base
        picture.duration = clock.time(number + 1) - clock.time(number)
        sound.write_until(picture.pts * clock.time_base)
        container.mux(stream.encode(picture))
        clock.frames = number + 1
    container.mux(stream.encode(None))
    sound.write_until(clock.end())
    sound.finish()


def write_frames(frames: Iterable[NDArray[np.uint8]], folder: str | Path) -> int:
    """Write frames as pictures ``000000.png``, ``000001.png``, … for other programs to go on with.

    Args:
        frames: uint8 RGB ``(H, W, 3)``, all of one size; taken one at a time.
        folder: Made if need be.

    Returns:
        How many were written.

    Raises:
        UserError: The folder holds pictures of a longer film already.
        ValueError: There is no frame, or a frame is not uint8 ``(H, W, 3)`` of the first one's size.
    """
    folder = Path(folder)
    count = 0
    for number, frame in enumerate(checked_frames(frames)):
        write_picture(folder / f"{number:06d}.png", frame)
        count = number + 1
    if count == 0:
        raise ValueError("a film needs at least one frame")
    if (folder / f"{count:06d}.png").exists():
        raise UserError(f"{folder}: frames of an older, longer film follow on {count - 1:06d}.png; empty the folder")
    return count


class _Clock:
    """When the frames of a new film are shown."""

    def __init__(self, film: Film) -> None:
        self.times = film.times
        self.step = 1 / film.fps
        self.time_base = film.time_base
        self.frames = 0  # written
        first = self.times[0] * film.time_base if self.times else Fraction(0)
        ideal = [first + number * self.step for number in range(len(self.times))]
        if all(abs(t * film.time_base - i) <= film.time_base for t, i in zip(self.times, ideal, strict=True)):
            # Even, but for the file's rounding (Matroska: to milliseconds), which would show as an odd frame rate.
            self.time_base = Fraction(1, film.fps.numerator * max(1, round(_FINE / film.fps.numerator)))
            self.times = [round(time / self.time_base) for time in ideal]

    def time(self, number: int) -> int:
        """Of a frame, in units of `time_base`; ascending."""
        if number < len(self.times):
            return self.times[number]
        start, first = (self.times[-1], len(self.times) - 1) if self.times else (0, 0)
        return start + max(round((number - first) * self.step / self.time_base), number - first)

    def end(self) -> Fraction | float:
        """When the last sound may begin, in seconds: with all of the film's frames, as late as it likes."""
        return math.inf if self.frames >= len(self.times) else self.time(self.frames) * self.time_base


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A PyAV container; FFmpeg's errors become the user's."""
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError("av", "to read and write films", "video") from error

    try:
        with av.open(str(path), metadata_errors="replace") as container:
            yield container
    except av.error.FFmpegError as error:
        raise UserError(f"{path}: not a film, or a damaged one ({error.strerror or first_line(error)})") from error


def _upright_rgb(frame: Any) -> NDArray[np.uint8]:
    """uint8 ``(H, W, 3)`` of PyAV's frame."""
    matrix = None
    if frame.colorspace == _UNTAGGED:
        matrix = "ITU709" if frame.height >= _HIGH_DEFINITION else "ITU601"
    pixels = frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def _kept_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """What is true of the new film too."""
    kept = ("title", "artist", "album", "comment", "copyright", "creation_time", "date", "genre", "description")
    return {key: value for key, value in metadata.items() if key.lower() in kept}
