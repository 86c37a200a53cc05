"""Scores every image of a source, resumably and in parallel, and ranks them or keeps the best."""

import csv
import hashlib
import json
import logging
import math
import os
import re
from array import array
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.atomic import atomic_path
from imago.data.locking import exclusive
from imago.data.near_duplicates import near_duplicates
from imago.data.parallel import ordered_map
from imago.data.quality import QUALITY_VERSION, SMALLEST_SIDE, score_image
from imago.data.sources.source import Source, UnreadableImageError, read_all
from imago.data.sources.subset import Subset, entry_name, keep_names
from imago.errors import UserError
from imago.faces.landmarks import Face, LandmarkDetector

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

_RUN = 8  # entries that a process scores at once
_NEAR = 2  # bits of 64 in which the hashes of near-duplicates may differ
_HASH = "perceptual_hash"  # the one column that is not a number
_SHEET = 40  # images on a contact sheet


@dataclass
class Scores:
    """Scores of images, in the order of the source; a hundred bytes an image.

    Attributes:
        names: Names of the images.
        hashes: Their perceptual hashes.
        columns: Score → one number per image; NaN where it is unknown.
        left_out: (name, reason) of the entries that could not be read.
        entries: Entries of the source that have been scored.
    """

    names: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    columns: "dict[str, array[float]]" = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    entries: int = 0

    def extend(self, record: dict[str, Any]) -> None:
        """Adds one record of the journal."""
        for name, row in record["items"]:
            self.hashes.append(row.pop(_HASH))
            for column, value in row.items():
                values = self.columns.setdefault(column, array("d", [float("nan")]) * len(self.names))
                values.append(float("nan") if value is None else value)
            self.names.append(name)
            for values in self.columns.values():
                if len(values) < len(self.names):
                    values.append(float("nan"))
        self.left_out += [(name, reason) for name, reason in record["left_out"]]
        self.entries += record["entries"]

    def best_first(self) -> NDArray[np.int64]:
        """Positions of the images by falling quality; equals in the order of the source."""
        quality = np.frombuffer(self.columns["quality"], dtype=np.float64)
        return np.argsort(-quality, kind="stable")


def score(
    source: Source,
    journal: Path,
    detector: LandmarkDetector | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Scores:
    """Scores every image of a source.

    Args:
        source: The images.
        journal: File that keeps the scores; a call that is interrupted goes on there, and one that was finished is
            read from there.
        detector: Finds the faces whose size and confidence are scored; None: these stay unknown.
        workers: Processes; spawned, see :func:`imago.data.parallel.ordered_map`.
        progress: Called with (entries done, entries in all).

    Raises:
        UserError: No image can be read; a worker died; the journal cannot be written.
    """
    identity = {"source": source.fingerprint(), "version": QUALITY_VERSION, "faces": detector is not None}
    journal.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(journal.with_name(journal.name + ".lock")):
        scores = _read_journal(journal, identity)
        runs = [range(i, min(i + _RUN, len(source))) for i in range(scores.entries, len(source), _RUN)]
        try:
            with open(journal, "ab") as file:
                for record in ordered_map(_score_run, (source, detector), runs, workers):
                    file.write(json.dumps(record).encode() + b"\n")
                    file.flush()
                    scores.extend(record)
                    if progress:
                        progress(scores.entries, len(source))
        except BrokenProcessPool as error:
            raise UserError(f"{journal}: a worker process died (out of memory?); run again with fewer") from error
    if not scores.names:
        examples = "; ".join(f"{name}: {reason}" for name, reason in scores.left_out[:3])
        raise UserError(f"{source.name}: none of {len(source)} images can be used ({examples})")
    return scores


def _read_journal(path: Path, identity: dict[str, Any]) -> Scores:
    """What an earlier call left; the file is cut back to its last whole line, or begun anew for another source."""
    scores = Scores()
    whole = 0
    if path.exists():
        with open(path, "rb") as file:
            for line in file:
                try:
                    record = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    record = None
                if record is None or (whole == 0 and record != identity):
                    break
                if whole:
                    scores.extend(record)
                whole += len(line)
        os.truncate(path, whole)
    if whole == 0:
        path.write_bytes(json.dumps(identity).encode() + b"\n")
    return scores


def _score_run(task: tuple[Source, LandmarkDetector | None], run: range) -> dict[str, Any]:
    """One record of the journal: {"entries", "items": [[name, {column: value}]], "left_out"}."""
    source, detector = task
    items: list[Any] = []
    left_out: list[tuple[str, str]] = []
    for index in run:
        try:
            found = read_all(source, index)
        except UnreadableImageError as error:
            left_out.append((error.name or source.item_name(index), error.reason))
            continue
        for item in found:
            if min(item.image.shape[:2]) < SMALLEST_SIDE:
                left_out.append((item.name, f"smaller than {SMALLEST_SIDE} pixels: too small to judge"))
                continue
            row = score_image(item.image, _largest_face(detector, item.image))
            items.append([item.name, {key: _json_value(value) for key, value in row.items()}])
    return {"entries": len(run), "items": items, "left_out": left_out}


def _largest_face(detector: LandmarkDetector | None, image: NDArray[np.uint8]) -> Face | None:
    if detector is None:
        return None
    colour = image[..., :3] if image.shape[2] >= 3 else image.repeat(3, 2)
    faces = detector.detect(colour)
    return max(faces, key=lambda face: face.area, default=None)


def _json_value(value: float | str) -> float | str | None:
    return None if isinstance(value, float) and math.isnan(value) else value


def keep_best(source: Source, count: int, folder: Path, workers: int = 1, progress: Progress | None = None) -> Subset:
    """The `count` images of the best quality, in the order of the source.

    Args:
        source: The images.
        count: How many.
        folder: Where the scores are kept.
        workers: Processes that score.
        progress: Called with (entries done, entries in all).

    Raises:
        UserError: `count` < 1, or see :func:`score`.
    """
    if count < 1:
        raise UserError(f"keep_best={count}: must be at least 1")
    digest = hashlib.blake2b(source.fingerprint().encode(), digest_size=6).hexdigest()
    journal = folder / f"scores-{re.sub(r'[^a-zA-Z0-9_.-]+', '_', source.name)}-{digest}.jsonl"
    scores = score(source, journal, workers=workers, progress=progress)
    if count > len(scores.names):
        logger.warning("%s: keep_best=%d, but only %d images can be used", source.name, count, len(scores.names))
    return keep_names(source, [scores.names[i] for i in scores.best_first()[:count].tolist()], str(journal))


def rank(
    source: Source,
    out: str | Path,
    *,
    count: int | None = None,
    detector: LandmarkDetector | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Writes a folder with ``scores.csv``, best first, ``best.png`` and ``worst.png``.

    The column ``keep`` of the table is 1 for the images that are worth keeping: not a near-duplicate of a better one,
    and among the best `count`. The table can be given as a list of what to keep, as it is or edited.

    Args:
        source: The images.
        out: The folder; its scores are begun anew if they are of another source.
        count: How many to keep; None: all but near-duplicates.
        detector: Finds the faces whose size and confidence are scored.
        workers: Processes.
        progress: Called with (entries done, entries in all).

    Returns:
        The table.

    Raises:
        UserError: See :func:`score`; `out` is something else.
    """
    out = Path(out).expanduser().absolute()
    if out.exists() and not (out.is_dir() and (any(out.glob("scores.*")) or not any(out.iterdir()))):
        raise UserError(f"{out}: exists and is not a ranking; choose another place or move it away")
    scores = score(source, out / "scores.jsonl", detector, workers, progress)
    order = scores.best_first().tolist()
    better = _better_near_duplicates(scores, order)
    kept = 0
    with atomic_path(out / "scores.csv") as path, open(path, "w", encoding="utf-8", newline="") as file:
        file.reconfigure(errors="surrogateescape")
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["rank", "name", "keep", *scores.columns, _HASH, "near_duplicate_of"])
        for position, index in enumerate(order):
            keep = index not in better and (count is None or kept < count)
            kept += keep
            numbers = [_text(values[index]) for values in scores.columns.values()]
            original = scores.names[better[index]] if index in better else ""
            row = [position + 1, scores.names[index], int(keep), *numbers, scores.hashes[index], original]
            table.writerow(row)
    _write_sheets(source, scores, order, out)
    if scores.left_out:
        with atomic_path(out / "unreadable.csv") as path, open(path, "w", encoding="utf-8", newline="") as file:
            file.reconfigure(errors="surrogateescape")
            csv.writer(file, lineterminator="\n").writerows([("name", "reason"), *scores.left_out])
    return out / "scores.csv"


def _text(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"


def _better_near_duplicates(scores: Scores, order: list[int]) -> dict[int, int]:
    """Image → the best image of its group of near-duplicates, for all but that one."""
    place = {index: position for position, index in enumerate(order)}
    better = {}
    for group in near_duplicates(scores.hashes, _NEAR):
        best = min(group, key=place.__getitem__)
        better.update({index: best for index in group if index != best})
    return better


def _write_sheets(source: Source, scores: Scores, order: list[int], out: Path) -> None:
    from imago.data.contact_sheet import contact_sheet  # brings PyTorch, which workers do without

    wanted = {"best": order[:_SHEET], "worst": order[::-1][:_SHEET]}
    entries = {entry_name(scores.names[i]): -1 for chosen in wanted.values() for i in chosen}
    for index in range(len(source)):
        if source.item_name(index) in entries:
            entries[source.item_name(index)] = index
    for name, chosen in wanted.items():
        images, captions = [], []
        for i in chosen:
            found = read_all(source, entries[entry_name(scores.names[i])])
            images.append(next(item.image for item in found if item.name == scores.names[i]))
            captions.append(f"{scores.columns['quality'][i]:.3f}  {scores.names[i]}")
        with atomic_path(out / f"{name}.png") as path:
            Image.fromarray(contact_sheet(images, captions, columns=8)).save(path)
