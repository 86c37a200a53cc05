"""Packs a source of images: crop, resize, pyramid, files; atomic, resumable, in parallel."""

import errno
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imago.atomic import sync_folder
from imago.data.locking import exclusive
from imago.data.pack_writer import JOURNAL, PackWriter
from imago.data.packed import PackedDataset
from imago.data.parallel import ordered_map
from imago.data.preparation import Preparation, Prepared, prepare
from imago.data.sources.source import Source
from imago.errors import UserError

logger = logging.getLogger(__name__)

_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)

Progress = Callable[[int, int], None]


def pack(
    source: Source,
    out: str | Path,
    *,
    resolution: int,
    base: tuple[int, int] = (4, 4),
    channels: int = 3,
    zip_from: int = 256,
    crop: str = "center",
    png_level: int = 1,
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
        png_level: Compression of the PNGs, 0 to 9. Level 1 takes twice the time of 0 and a third of the space; 6 takes
            four times as long as 1 for a tenth less.
        max_unreadable: Share of the entries that may be unreadable, 0 to 1; they are left out and listed in
            ``unreadable.csv``, as are those that the source skips for what they show.
        workers: Processes that read and resize; with 1, this one does. They are spawned: a script that calls this
            with more must guard its entry point with ``if __name__ == "__main__"``.
        progress: Called with (entries done, entries in all) as the work goes on.

    Raises:
        UserError: Invalid parameters, `out` holds something else, too many unreadable entries, a full disk.
    """
    preparation = Preparation(resolution, base, channels, zip_from, crop, png_level)
    if workers < 1:
        raise UserError(f"workers={workers}: must be at least 1")
    if not 0 <= max_unreadable <= 1:
        raise UserError(f"max_unreadable={max_unreadable}: is a share, from 0 to 1")

    def prepared(position: int) -> Iterator[Prepared]:
        runs = preparation.runs(range(position, len(source)))
        return ordered_map(prepare, (source, preparation), runs, workers)

    return write_pack(source, out, preparation, prepared, len(source), max_unreadable, progress)


def write_pack(
    source: Source,
    out: str | Path,
    preparation: Preparation,
    prepared: Callable[[int], Iterable[Prepared]],
    total: int,
    max_unreadable: float = 0.01,
    progress: Progress | None = None,
    part: bool = False,
) -> PackedDataset:
    """Writes what `prepared` yields from a position on as the pack of `source`; what :func:`pack` is made of.

    Args:
        source: What the pack is made from.
        out: The folder to make.
        preparation: How.
        prepared: From the number of entries that were written before to the entries from there on.
        total: Entries in all, as `prepared` counts them.
        max_unreadable: See :func:`pack`.
        progress: Called with (entries done, entries in all).
        part: It is a part of a larger pack: it may be without images, and nothing is said of enlarged ones.

    Raises:
        UserError: See :func:`pack`.
    """
    out = Path(out).expanduser().absolute()
    identity = preparation.identity(source)
    finished = finished_pack(out, identity)
    if finished:
        return finished
    partial = out.with_name(out.name + ".partial")
    with _told_errors(out, partial):
        out.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(out.with_name(out.name + ".lock")):
            finished = finished_pack(out, identity)  # by the process that held the lock
            if finished:
                return finished
            if not _is_complete(partial, identity):
                if total == 0:
                    raise UserError(f"{source.name}: the source has no images")
                with PackWriter(partial, identity, preparation.shapes(), preparation.zip_from) as writer:
                    for run in prepared(writer.position):
                        writer.append(run)
                        if progress:
                            progress(writer.position, total)
                    writer.commit()
                    _check_left_out(writer, source.name, len(source), max_unreadable, part)
                    writer.finish(_description(source, preparation, identity))
            (partial / JOURNAL).unlink(missing_ok=True)
            os.replace(partial, out)
            sync_folder(out.parent)
    packed = PackedDataset(out)
    if packed.upsampled and not part:
        logger.warning(
            "%s: %d of %d images are smaller than %d pixels and were enlarged",
            out, packed.upsampled, packed.count, preparation.resolution,
        )  # fmt: skip
    return packed


@contextmanager
def _told_errors(out: Path, partial: Path) -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise UserError(
            f"{out}: a worker process died (out of memory?); what was done is kept: run again with fewer workers"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem = f"the disk is full ({error.strerror}); what was done is kept in {partial}"
            raise UserError(f"{out}: {problem}: free some space and run again") from error
        if error.errno in _CANNOT_WRITE:
            where = f"{out}: " if error.filename in (None, str(out)) else f"{out}: {error.filename} "
            raise UserError(f"{where}cannot be written ({error.strerror})") from error
        raise


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
        progress: Called with (entries done, entries in all).
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


def finished_pack(out: Path, identity: dict[str, Any]) -> PackedDataset | None:
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


def _description(source: Source, preparation: Preparation, identity: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": source.name,
        "source": getattr(source, "kind", type(source).__name__),
        "resolutions": list(preparation.shapes()),
        "base": preparation.base,
        "channels": preparation.channels,
        **identity,
    }


def _check_left_out(writer: PackWriter, name: str, total: int, max_unreadable: float, part: bool) -> None:
    unreadable = len(writer.left_out) - writer.skipped
    if unreadable <= max_unreadable * total and (writer.kept or part):
        return
    listed = writer.write_left_out()
    examples = "; ".join(f"{name}: {reason}" for name, reason in writer.left_out[:3])
    if writer.kept == 0:
        raise UserError(f"{name}: none of {total} images can be used ({examples}); the list is in {listed}")
    raise UserError(
        f"{name}: {unreadable} of {total} images cannot be read ({examples}); the list is in {listed}; "
        f"to pack the others, set max_unreadable={_up(unreadable / total)} (data.max_unreadable when training)"
    )


def _up(share: float) -> float:
    """The share rounded up to a short number that is not below it."""
    return min(1.0, (int(share * 1000) + 1) / 1000)
