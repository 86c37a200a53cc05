"""Packing by several machines: each packs a shard of the source, the last one joins them into one pack.

Shards are runs of consecutive entries. The joined pack has the bytes that one process would have written, because it
is written by the same writer, from the same pixels and files in the same order.
"""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from imago.data.locking import exclusive
from imago.data.packed import PackedDataset
from imago.data.packing import Progress, finished_pack, write_pack
from imago.data.parallel import ordered_map
from imago.data.preparation import RUN_BYTES, Preparation, Prepared, prepare
from imago.data.sources.source import Source
from imago.data.sources.subset import part_of
from imago.errors import UserError

logger = logging.getLogger(__name__)


def pack_shard(
    source: Source,
    out: str | Path,
    shard: int,
    shards: int,
    *,
    max_unreadable: float = 0.01,
    workers: int = 1,
    progress: Progress | None = None,
    **parameters: Any,
) -> PackedDataset | None:
    """Packs one shard of `source` beside `out`; the call that finds all shards there joins them.

    Args:
        source: All images; the same on every machine.
        out: The folder to make in the end, on a file system that all machines see.
        shard: Which shard, 0 … shards − 1.
        shards: How many there are.
        max_unreadable: See :func:`imago.data.packing.pack`; checked when the shards are joined.
        workers: Processes.
        progress: Called with (entries done, entries in all), of the shard and then of the joined pack.
        **parameters: The other parameters of :func:`imago.data.packing.pack`.

    Returns:
        The joined pack, or None while shards are missing.

    Raises:
        UserError: See :func:`imago.data.packing.pack`; a shard that does not exist.
    """
    if not (shards >= 1 and 0 <= shard < shards):
        raise UserError(f"shard={shard} of shards={shards}: shards are numbered from 0 to shards − 1")
    parts = [part_of(source, index, shards) for index in range(shards)]
    preparation = Preparation(**parameters)
    out = Path(out).expanduser().absolute()
    folder = out.with_name(out.name + ".shards")
    finished = finished_pack(out, preparation.identity(source))
    if finished:
        shutil.rmtree(folder, ignore_errors=True)
        return finished
    part = parts[shard]

    def prepared(position: int) -> Iterator[Prepared]:
        return ordered_map(prepare, (part, preparation), preparation.runs(range(position, len(part))), workers)

    places = [folder / f"{index:05d}-of-{shards:05d}" for index in range(shards)]
    for each, place in zip(parts, places, strict=True):
        finished_pack(place, preparation.identity(each))  # refuses shards made with other parameters
    write_pack(part, places[shard], preparation, prepared, len(part), 1.0, progress, part=True)
    with exclusive(folder.with_name(folder.name + ".lock")):  # the last two to finish may do so together
        finished = finished_pack(out, preparation.identity(source))
        if finished:
            return finished
        missing = [index for index, place in enumerate(places) if not (place / "dataset.json").is_file()]
        if missing:
            logger.info("%s: shard %d is packed; still to come: %s", out, shard, ", ".join(map(str, missing)))
            return None
        packs = []
        for each, place in zip(parts, places, strict=True):
            found = finished_pack(place, preparation.identity(each))
            assert found is not None
            packs.append(found)
        joined = write_pack(
            source,
            out,
            preparation,
            lambda position: _joined(packs, position),
            sum(found.count + 1 for found in packs),
            max_unreadable,
            progress,
        )
        shutil.rmtree(folder, ignore_errors=True)
    return joined


def _joined(packs: list[PackedDataset], position: int) -> Iterator[Prepared]:
    """What the shards hold from a position on, which counts images, and each shard's list of the others as one."""
    for packed in packs:
        if position <= packed.count:
            yield from _entries(packed, position)
        position = max(0, position - packed.count - 1)


def _entries(packed: PackedDataset, start: int) -> Iterator[Prepared]:
    pixels = sum(int(np.prod(packed.extent(resolution))) for resolution in packed.resolutions) * packed.channels
    step = max(1, RUN_BYTES // pixels)
    for first in range(start, packed.count, step):
        stop = min(first + step, packed.count)
        landmarks = np.full((stop - first, 68, 2), np.nan, dtype=np.float32)
        if packed.landmarks is not None:
            landmarks[:] = packed.landmarks[first:stop]
        labels = [packed.label_texts(index) for index in range(first, stop)]
        names = packed.names[first:stop]
        yield Prepared(stop - first, names, packed.levels(first, stop), landmarks, labels, [], 0, 0)
    nothing: dict[int, Any] = {resolution: array[:0] for resolution, array in packed.levels(0, 0).items()}
    empty = np.empty((0, 68, 2), dtype=np.float32)
    yield Prepared(1, [], nothing, empty, [], packed.left_out(), packed.skipped, packed.upsampled)
