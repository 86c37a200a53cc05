"""Scores every image of a source, resumably, in parallel and on several machines; keeps the best."""

import json
import logging
import math
import os
from array import array
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imago.data.locking import exclusive
from imago.data.packing import Progress
from imago.data.parallel import ordered_map
from imago.data.quality import QUALITY_VERSION, SMALLEST_SIDE, score_image
from imago.data.sources.source import SkippedImageError, Source, UnreadableImageError, read_all
from imago.data.sources.subset import Subset, keep_names, part_of
from imago.errors import UserError
from imago.faces.landmarks import Face, LandmarkDetector

logger = logging.getLogger(__name__)

_RUN = 8  # entries that a process scores at once
HASH = "perceptual_hash"  # the one score that is not a number


@dataclass
class Scores:
    """Scores of images, in the order of the source; a hundred bytes an image.

    Attributes:
        names: Names of the images.
        hashes: Their perceptual hashes.
        columns: Score → one number per image; NaN where it is unknown.
        left_out: (name, reason) of what has no scores.
        skipped: How many of these could be read, but are not wanted or too small.
        entries: Entries of the source that have been scored.
    """

    names: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    columns: "dict[str, array[float]]" = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    skipped: int = 0
    entries: int = 0

    def extend(self, record: dict[str, Any]) -> None:
        """Adds one record of the journal."""
        for name, row in record["items"]:
            self.hashes.append(row.pop(HASH))
            for column, value in row.items():
                values = self.columns.setdefault(column, array("d", [float("nan")]) * len(self.names))
                values.append(float("nan") if value is None else value)
            self.names.append(name)
            for values in self.columns.values():
                if len(values) < len(self.names):
                    values.append(float("nan"))
        self.left_out += [(name, reason) for name, reason in record["left_out"]]
        self.skipped += record.get("skipped", 0)
        self.entries += record["entries"]

    def best_first(self) -> NDArray[np.int64]:
        """Positions of the images by falling quality; equals in the order of the source."""
        quality = np.frombuffer(self.columns["quality"], dtype=np.float64)
        return np.argsort(-quality, kind="stable")


def score(
    source: Source,
    folder: Path,
    *,
    shard: int = 0,
    shards: int = 1,
    detector: LandmarkDetector | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Scores | None:
    """Scores every image of a source, or of one shard of it.

    Args:
        source: The images.
        folder: Keeps the scores, a file a shard; a call that is interrupted goes on there, and what was finished is
            read from there.
        shard: Which shard to score, 0 … shards − 1: a run of consecutive entries.
        shards: How many there are.
        detector: Finds the faces whose size and confidence are scored; None: these stay unknown.
        workers: Processes; spawned, see :func:`imago.data.parallel.ordered_map`.
        progress: Called with (entries done, entries in all) of the shard.

    Returns:
        The scores of all images, or None while other shards are not finished.

    Raises:
        UserError: No image can be read, a worker died, there is no such shard, `folder` holds scores of another source.
    """
    parts = [part_of(source, index, shards) for index in range(shards)]
    if not 0 <= shard < shards:
        raise UserError(f"shard={shard} of shards={shards}: shards are numbered from 0 to shards − 1")
    journals = [folder / f"{index:05d}-of-{shards:05d}.jsonl" for index in range(shards)]
    identities = [_identity(part, detector) for part in parts]
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(journals[shard].with_suffix(".lock")):
        _score_part(parts[shard], journals[shard], identities[shard], detector, workers, progress)
    scores = Scores()
    missing = []
    for index, (part, journal, identity) in enumerate(zip(parts, journals, identities, strict=True)):
        before = scores.entries
        for record in _records(journal, identity)[1]:
            scores.extend(record)
        if scores.entries - before < len(part):
            missing.append(index)
    if missing:
        logger.info("%s: shard %d is scored; still to come: %s", folder, shard, ", ".join(map(str, missing)))
        return None
    if not scores.names:
        examples = "; ".join(f"{name}: {reason}" for name, reason in scores.left_out[:3])
        raise UserError(f"{source.name}: none of {len(source)} images can be used ({examples})")
    return scores


def _identity(part: Source, detector: LandmarkDetector | None) -> dict[str, Any]:
    return {"source": part.fingerprint(), "version": QUALITY_VERSION, "faces": detector is not None}


def _score_part(
    part: Source,
    journal: Path,
    identity: dict[str, Any],
    detector: LandmarkDetector | None,
    workers: int,
    progress: Progress | None,
) -> None:
    """Completes a journal."""
    whole, records = _records(journal, identity)
    if whole:
        os.truncate(journal, whole)
    else:
        journal.write_bytes(json.dumps(identity).encode() + b"\n")  # new, or killed within its first line
    done = sum(record["entries"] for record in records)
    runs = [range(first, min(first + _RUN, len(part))) for first in range(done, len(part), _RUN)]
    try:
        with open(journal, "ab") as file:
            for record in ordered_map(_score_run, (part, detector), runs, workers):
                file.write(json.dumps(record).encode() + b"\n")
                file.flush()
                done += record["entries"]
                if progress:
                    progress(done, len(part))
    except BrokenProcessPool as error:
        raise UserError(f"{journal}: a worker process died (out of memory?); run again with fewer") from error
    except OSError as error:
        problem = f"cannot be written ({error.strerror}); what was done is kept"
        raise UserError(f"{journal}: {problem}: free some space and run again") from error


def _records(journal: Path, identity: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """How many bytes of a journal are whole lines, and its records; (0, []) where it is missing.

    Raises:
        UserError: It holds the scores of another source.
    """
    whole, records = 0, []
    if journal.exists():
        with open(journal, "rb") as file:
            for line in file:
                try:
                    record = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    record = None
                if record is None:
                    break
                if whole == 0 and record != identity:
                    raise UserError(
                        f"{journal.parent}: holds scores of another source, or made with other options; choose another "
                        "place or delete it"
                    )
                if whole:
                    records.append(record)
                whole += len(line)
    return whole, records


def _score_run(task: tuple[Source, LandmarkDetector | None], run: range) -> dict[str, Any]:
    """One record of the journal: {"entries", "items": [[name, {column: value}]], "left_out", "skipped"}."""
    source, detector = task
    items: list[Any] = []
    left_out: list[tuple[str, str]] = []
    skipped = 0
    for index in run:
        try:
            found = read_all(source, index)
        except UnreadableImageError as error:
            left_out.append((error.name or source.item_name(index), error.reason))
            skipped += isinstance(error, SkippedImageError)
            continue
        for item in found:
            if min(item.image.shape[:2]) < SMALLEST_SIDE:
                left_out.append((item.name, f"smaller than {SMALLEST_SIDE} pixels: too small to judge"))
                skipped += 1
                continue
            row = score_image(item.image, _largest_face(detector, item.image))
            items.append([item.name, {key: _json_value(value) for key, value in row.items()}])
    return {"entries": len(run), "items": items, "left_out": left_out, "skipped": skipped}


def _largest_face(detector: LandmarkDetector | None, image: NDArray[np.uint8]) -> Face | None:
    if detector is None:
        return None
    colour = image[..., :3] if image.shape[2] >= 3 else image.repeat(3, 2)
    faces = detector.detect(colour)
    return max(faces, key=lambda face: face.area, default=None)


def _json_value(value: float | str) -> float | str | None:
    return None if isinstance(value, float) and math.isnan(value) else value


def keep_best(source: Source, count: int, scores: Scores, where: str) -> Subset:
    """The `count` images of the best quality, in the order of the source.

    Args:
        source: The images.
        count: How many.
        scores: Of all of them.
        where: What holds the scores, for messages.

    Raises:
        UserError: `count` < 1.
    """
    if count < 1:
        raise UserError(f"keep_best={count}: must be at least 1")
    if count > len(scores.names):
        logger.warning("%s: keep_best=%d, but only %d images can be used", source.name, count, len(scores.names))
    return keep_names(source, [scores.names[i] for i in scores.best_first()[:count].tolist()], where)
