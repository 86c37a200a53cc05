"""Packs a source of images: crop, resize, pyramid, files; atomic, resumable, in parallel."""

import errno
import hashlib
import io
import json
import logging
import multiprocessing
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.atomic import sync_folder
from imago.data.locking import exclusive
from imago.data.pack_writer import JOURNAL, PackWriter, Prepared
from imago.data.packed import PackedDataset
from imago.data.pyramid import CROPS, fit, level_heights, pyramid
from imago.data.sources.source import Source, UnreadableImageError
from imago.errors import UserError

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Preparation:
    """The parameters that the content of a pack depends on; see :func:`pack`."""

    resolution: int
    base: tuple[int, int] = (4, 4)
    channels: int = 3
    zip_from: int = 256
    crop: str = "center"

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", (int(self.base[0]), int(self.base[1])))  # a configuration gives lists
        level_heights(self.resolution, self.base)
        if self.channels not in (1, 3, 4):
            raise UserError(f"channels={self.channels}: must be 1 (grey), 3 (RGB) or 4 (RGBA)")
        if self.crop not in CROPS:
            raise UserError(f"crop={self.crop!r}: must be one of {', '.join(CROPS)}")

    def shapes(self) -> dict[int, tuple[int, int, int]]:
        """Height → ``(H, W, C)`` of every level, ascending."""
        heights = level_heights(self.resolution, self.base)
        return {height: (height, height // self.base[0] * self.base[1], self.channels) for height in heights}

    def identity(self, source: Source) -> dict[str, Any]:
        """What makes two packs the same, as JSON values."""
        return {"fingerprint": source.fingerprint(), "preparation": json.loads(json.dumps(asdict(self)))}


def pack(
    source: Source,
    out: str | Path,
    *,
    resolution: int,
    base: tuple[int, int] = (4, 4),
    channels: int = 3,
    zip_from: int = 256,
    crop: str = "center",
    max_unreadable: float = 0.01,
    workers: int = 1,
    progress: Progress | None = None,
) -> PackedDataset:
    """Packs `source` into the folder `out`, or opens `out` where this has been done before.

    Each image is cropped and resized to the largest level (:func:`imago.data.pyramid.fit`: the exact area mean where
    it is larger by a power of two, Lanczos otherwise), and each smaller level is the 2×2 mean of the one above it.
    Work happens in ``<out>.partial``; if it is interrupted, the next call with the same source and parameters
    continues there. A second process that packs to the same place waits and opens what the first has made. The
    content depends neither on `workers` nor on interruptions.

    Args:
        source: The images.
        out: The folder to make; ``~`` is expanded.
        resolution: Height of the largest level, base height · 2^k.
        base: Height and width of the smallest level.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        zip_from: Levels of this height and larger are zips of PNGs, smaller ones are arrays.
        crop: "center" cuts the longer direction to the aspect of `base`, "stretch" changes the aspect.
        max_unreadable: Share of the items that may be unreadable, 0 to 1; they are left out and listed in
            ``unreadable.csv``.
        workers: Processes that read and resize; with 1, this one does. They are spawned: a script that calls this
            with more must guard its entry point with ``if __name__ == "__main__"``.
        progress: Called with (items done, items in all) as the work goes on.

    Raises:
        UserError: Invalid parameters, `out` holds something else, too many unreadable items, a full disk.
    """
    preparation = Preparation(resolution, base, channels, zip_from, crop)
    if workers < 1 or not 0 <= max_unreadable <= 1:
        raise UserError(f"{workers=}, {max_unreadable=}: need at least one worker and a share from 0 to 1")
    out = Path(out).expanduser().absolute()
    identity = preparation.identity(source)
    finished = _finished(out, identity)
    if finished:
        return finished
    partial = out.with_name(out.name + ".partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(out.with_name(out.name + ".lock")):
            finished = _finished(out, identity)  # by the process that held the lock
            if finished:
                return finished
            if not _is_complete(partial, identity):
                _write(partial, source, preparation, identity, max_unreadable, workers, progress)
            (partial / JOURNAL).unlink(missing_ok=True)
            os.replace(partial, out)
            sync_folder(out.parent)
    except BrokenProcessPool as error:
        raise UserError(
            f"{out}: a worker process died (out of memory?); what was done is kept: run again with fewer workers"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem = f"the disk is full ({error.strerror}); what was done is kept in {partial}"
            raise UserError(f"{out}: {problem}: free some space and run again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"{out}: cannot be written ({error.strerror})") from error
        raise
    packed = PackedDataset(out)
    if packed.upsampled:
        logger.warning(
            "%s: %d of %d images are smaller than %d pixels and were enlarged",
            out, packed.upsampled, packed.count, resolution,
        )  # fmt: skip
    return packed


def default_cache() -> Path:
    """Where packs are kept that nobody gave a place: $IMAGO_CACHE, or ``~/.cache/imago``."""
    return Path(os.environ.get("IMAGO_CACHE") or "~/.cache/imago").expanduser()


def cached_pack(
    source: Source,
    cache: str | Path | None = None,
    *,
    max_unreadable: float = 0.01,
    workers: int = 1,
    progress: Progress | None = None,
    **parameters: Any,
) -> PackedDataset:
    """Packs `source` into a folder of `cache` named after it and its parameters, or opens that folder.

    Args:
        source: The images.
        cache: A folder; :func:`default_cache` by default.
        max_unreadable: See :func:`pack`, as for the following.
        workers: Processes.
        progress: Called with (items done, items in all).
        **parameters: The other parameters of :func:`pack`.

    Returns:
        The pack in ``<cache>/<source name>-<resolution>-<hash of content and parameters>``.
    """
    preparation = Preparation(**parameters)
    identity = json.dumps(preparation.identity(source), sort_keys=True)
    digest = hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()
    name = re.sub(r"[^\w.-]+", "_", source.name)
    out = Path(cache or default_cache()).expanduser() / f"{name}-{preparation.resolution}-{digest}"
    return pack(source, out, max_unreadable=max_unreadable, workers=workers, progress=progress, **parameters)


def _finished(out: Path, identity: dict[str, Any]) -> PackedDataset | None:
    """The pack at `out`, or None where there is none yet.

    Raises:
        UserError: There is something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / "dataset.json").is_file():
        raise UserError(f"{out}: exists and is not a packed data set; choose another place or move it away")
    packed = PackedDataset(out)
    wanted = identity["preparation"]
    other = [f"{key}={packed.preparation.get(key)}" for key in wanted if packed.preparation.get(key) != wanted[key]]
    if packed.fingerprint != identity["fingerprint"]:
        other.insert(0, "another source")
    if other:
        raise UserError(f"{out}: already holds a pack made with {', '.join(other)}; choose another place or delete it")
    return packed


def _is_complete(partial: Path, identity: dict[str, Any]) -> bool:
    """Whether only the last renaming is missing."""
    try:
        packed = PackedDataset(partial)
    except UserError:
        return False
    return {"fingerprint": packed.fingerprint, "preparation": packed.preparation} == identity


def _write(
    partial: Path,
    source: Source,
    preparation: Preparation,
    identity: dict[str, Any],
    max_unreadable: float,
    workers: int,
    progress: Progress | None,
) -> None:
    total = len(source)
    if total == 0:
        raise UserError(f"{source.name}: the source has no images")
    with PackWriter(partial, identity, preparation.shapes(), preparation.zip_from) as writer:
        for prepared in _prepared(source, preparation, writer.position, workers):
            writer.append(prepared)
            if progress:
                progress(writer.position, total)
        writer.commit()
        if len(writer.unreadable) > max_unreadable * total or writer.kept == 0:
            listed = writer.write_unreadable()
            examples = "; ".join(f"{name}: {reason}" for name, reason in writer.unreadable[:3])
            share = len(writer.unreadable) / total
            remedy = "" if writer.kept == 0 else f"; to pack the others, set data.max_unreadable={_up(share)}"
            raise UserError(
                f"{source.name}: {len(writer.unreadable)} of {total} images cannot be read ({examples}); "
                f"the list is in {listed}{remedy}"
            )
        about = {
            "name": source.name,
            "source": type(source).__name__,
            "resolutions": list(preparation.shapes()),
            "base": preparation.base,
            "channels": preparation.channels,
            **identity,
        }
        writer.finish(about)


def _up(share: float) -> float:
    """The share rounded up to a short number that is not below it."""
    return min(1.0, (int(share * 1000) + 1) / 1000)


def _prepared(source: Source, preparation: Preparation, start: int, workers: int) -> Iterator[Prepared]:
    """All items from `start` on, in order, in runs of a few megabytes."""
    pixels = int(np.prod(preparation.shapes()[preparation.resolution]))
    step = max(1, min(32, (4 << 20) // pixels))
    runs = [range(first, min(first + step, len(source))) for first in range(start, len(source), step)]
    if workers == 1 or len(runs) <= 1:
        for run in runs:
            yield _prepare(source, preparation, run)
        return
    # Spawned: a fork of a process with threads (as training has) may deadlock.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (source, preparation)) as pool:
        waiting: deque[Future[Prepared]] = deque()
        try:
            for run in runs:
                waiting.append(pool.submit(_prepare_in_worker, run))
                if len(waiting) > 4 * workers:  # no more, or a slow disk would fill the memory
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_worker_task: tuple[Source, Preparation] | None = None


def _start_worker(source: Source, preparation: Preparation) -> None:
    global _worker_task
    _worker_task = source, preparation
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """A killed parent cannot end its workers, which would wait for work forever."""
    parent = multiprocessing.parent_process()
    with suppress(OSError):
        if parent is not None:
            parent.join()
            os._exit(1)


def _prepare_in_worker(run: range) -> Prepared:
    assert _worker_task is not None
    return _prepare(*_worker_task, run)


def _prepare(source: Source, preparation: Preparation, run: range) -> Prepared:
    """Reads, crops and resizes the items of `run` and makes their pyramids."""
    shapes = preparation.shapes()
    height, width, channels = shapes[preparation.resolution]
    images, landmarks, labels, unreadable, upsampled = [], [], [], [], 0
    for index in run:
        try:
            item = source.read(index)
        except UnreadableImageError as error:
            unreadable.append((error.name or f"item {index}", error.reason))
            continue
        pixels, points, enlarged = fit(item, height, width, channels, preparation.crop)
        images.append(pixels)
        landmarks.append(points)
        labels.append(item.labels)
        upsampled += enlarged
    stacked = np.stack(images) if images else np.empty((0, height, width, channels), dtype=np.uint8)
    levels: dict[int, NDArray[np.uint8] | list[bytes]] = {}
    for level, pixels in zip(shapes, pyramid(stacked, len(shapes)), strict=True):
        levels[level] = [_png(image) for image in pixels] if level >= preparation.zip_from else pixels
    points = np.stack(landmarks) if landmarks else np.empty((0, 68, 2), dtype=np.float32)
    return Prepared(len(run), levels, points, labels, unreadable, upsampled)


def _png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    # Level 1 makes photos about a tenth larger than the default does, in a fraction of the time.
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(file, "PNG", compress_level=1)
    return file.getvalue()
