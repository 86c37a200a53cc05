"""Films: mp4 through PyAV, GIF and animated WebP through Pillow."""

import importlib.util
import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from imago.atomic import atomic_path
from imago.errors import MissingDependencyError, UserError

FILM_ENDINGS = (".mp4", ".gif", ".webp")

_GIF_MAX_FPS = 50  # delays are whole hundredths of a second, and browsers slow down anything under two of them
_BT709 = 1  # FFmpeg's number for BT.709, as colour space, primaries and transfer alike
_LIMITED_RANGE = 1
_LARGE = 1 << 22  # pixels of a frame
# The encoder looks 40 frames ahead and encodes several at once: at 4096² that took 2.8 GB, with these limits 0.8 GB.
_FEW_FRAMES = "rc-lookahead=4:sync-lookahead=0:sliced-threads=1:ref=1:bframes=1"


def film_path(stem: str | Path) -> Path:
    """A path for a film that can be written here: ``.mp4`` with PyAV, ``.webp`` without, ``.gif`` without both.

    Args:
        stem: Path without an ending; dots in it are kept.
    """
    if importlib.util.find_spec("av") is not None:
        ending = ".mp4"
    else:
        ending = ".webp" if features.check("webp") else ".gif"
    return Path(f"{stem}{ending}")


def check_film_path(path: str | Path) -> None:
    """Refuse a film that cannot be written, before any frame is made.

    Raises:
        UserError: If the ending is none of ``FILM_ENDINGS``.
        MissingDependencyError: If it is ``.mp4`` and PyAV is not installed.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in FILM_ENDINGS:
        raise UserError(f"cannot write a film as {path.name}: the ending must be one of {', '.join(FILM_ENDINGS)}")
    if ending == ".mp4" and importlib.util.find_spec("av") is None:
        raise MissingDependencyError("av", "to write mp4 films", "video")


def write_film(frames: Iterable[NDArray[np.uint8]], path: str | Path, fps: float) -> Path:
    """Write frames as a film in the format of the path's ending; the file appears whole or not at all.

    - ``.mp4``: H.264 at constant quality (CRF 18, near transparent), BT.709 colours, 4:2:0, which every player reads.
      4:2:0 needs even sizes: an odd picture gets its last row or column repeated. Frames are encoded as they come, none
      is kept. Whether it loops is up to the player.
    - ``.gif``: loops; 256 colours a frame; at most 50 fps. Pillow holds all frames in memory.
    - ``.webp``: loops; full colour, quality 90. Pillow holds all frames in memory.

    Args:
        frames: uint8 RGB ``(H, W, 3)``, all of one size.
        path: The file, ending in ``.mp4``, ``.gif`` or ``.webp``.
        fps: Frames per second, > 0.

    Returns:
        The path written.

    Raises:
        UserError: If the ending is unknown, the frame rate not positive or too high for a GIF.
        MissingDependencyError: If ``.mp4`` is asked for and PyAV is not installed.
        ValueError: If there is no frame, or a frame is not uint8 ``(H, W, 3)`` of the first one's size.
    """
    path = Path(path)
    check_film_path(path)
    ending = path.suffix.lower()
    if not 0 < fps < float("inf"):
        raise UserError(f"the frame rate must be positive, not {fps}")
    if ending == ".gif" and fps > _GIF_MAX_FPS:
        raise UserError(f"a GIF plays at most {_GIF_MAX_FPS} frames per second, not {fps:g}; use .mp4 or .webp")
    checked = checked_frames(frames)
    first = next(checked, None)
    if first is None:
        raise ValueError("a film needs at least one frame")
    checked = itertools.chain([first], checked)
    with atomic_path(path) as temporary:
        if ending == ".mp4":
            _write_mp4(checked, temporary, fps, first.shape[0], first.shape[1])
        elif ending == ".gif":
            _write_gif(checked, temporary, fps)
        else:
            _write_webp(checked, temporary, fps)
    return path


def checked_frames(frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """The frames as they come.

    Raises:
        ValueError: One is not uint8 ``(H, W, 3)`` of the first one's size.
    """
    shape = None
    for number, frame in enumerate(frames):
        shape = shape or frame.shape
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != shape:
            raise ValueError(f"frame {number} is {frame.dtype} {frame.shape}; films take uint8 (H, W, 3) of one size")
        yield frame


def add_picture_stream(container: Any, rate: Fraction, height: int, width: int) -> Any:
    """A stream of H.264 at constant quality (CRF 18, near transparent), BT.709, 4:2:0, in an open PyAV container.

    Args:
        container: PyAV's output container.
        rate: Frames per second.
        height: Of the frames; odd ones are padded by :func:`stream_frame`.
        width: Of the frames.

    Returns:
        PyAV's stream.
    """
    import av

    if "libx264" in av.codecs_available:
        options = {"crf": "18", "preset": "medium"}
        if height * width > _LARGE:
            options["x264-params"] = _FEW_FRAMES
        stream = container.add_stream("libx264", rate=rate, options=options)
    else:  # builds of FFmpeg without GPL code
        stream = container.add_stream("mpeg4", rate=rate, options={"qmin": "2", "qmax": "4"})
        stream.bit_rate = 100_000_000  # a ceiling only: the quantiser limits decide
    stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    # Untagged films are shown with the matrix that the player guesses from their size: faces change colour.
    codec = stream.codec_context
    codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
    codec.color_range = _LIMITED_RANGE
    return stream


def stream_frame(frame: NDArray[np.uint8]) -> Any:
    """A frame for the stream of :func:`add_picture_stream`; an odd size gets its last row or column repeated.

    Args:
        frame: uint8 RGB ``(H, W, 3)``.

    Returns:
        PyAV's frame.
    """
    import av

    height, width, _ = frame.shape
    padded = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else frame
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
    return picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")


def _write_mp4(frames: Iterable[NDArray[np.uint8]], path: Path, fps: float, height: int, width: int) -> None:
    import av

    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        rate = Fraction(fps).limit_denominator(1001)  # 1001: the film rates such as 30000/1001
        stream = add_picture_stream(container, rate, height, width)
        for frame in frames:
            container.mux(stream.encode(stream_frame(frame)))
        container.mux(stream.encode(None))


def _write_gif(frames: Iterable[NDArray[np.uint8]], path: Path, fps: float) -> None:
    def pictures() -> Iterator[Image.Image]:
        # Delays are rounded so that they add up: at 30 fps 3, 4, 3 hundredths, not 3, 3, 3 (33.3 fps).
        for number, frame in enumerate(frames):
            picture = Image.fromarray(frame)
            picture.info["duration"] = 10 * (round(100 * (number + 1) / fps) - round(100 * number / fps))
            yield picture

    stream = pictures()
    next(stream).save(path, format="GIF", save_all=True, append_images=stream, loop=0)


def _write_webp(frames: Iterable[NDArray[np.uint8]], path: Path, fps: float) -> None:
    if not features.check("webp"):
        raise UserError("this Pillow was built without WebP; use .gif or .mp4, or install Pillow's own wheel")
    stream = map(Image.fromarray, frames)
    # Pillow adds the durations up before it rounds, so a fraction of a millisecond is not lost.
    next(stream).save(
        path, format="WEBP", save_all=True, append_images=stream, duration=1000 / fps, loop=0, quality=90, method=4
    )
