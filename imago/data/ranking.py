"""Ranks the images of a source by their scores: a table to choose by, and sheets of the best and the worst."""

from pathlib import Path

import numpy as np
from PIL import Image

from imago.atomic import atomic_path
from imago.data.near_duplicates import near_duplicates
from imago.data.scoring import HASH, Scores
from imago.data.sources.source import Source, read_all
from imago.data.sources.subset import entry_name
from imago.data.tables import table_text

_NEAR = 2  # bits of 64 in which the hashes of near-duplicates may differ
_SHEET = 40  # images on a contact sheet


def rank(source: Source, scores: Scores, out: Path, count: int | None = None) -> Path:
    """Writes into a folder ``scores.csv``, best first, ``best.png`` and ``worst.png``.

    The column ``keep`` of the table is 1 for the images that are worth keeping: not a near-duplicate of a better one,
    and among the best `count`. The table can be given as a list of what to keep, as it is or edited.

    Args:
        source: The images.
        scores: Of all of them.
        out: The folder; it exists.
        count: How many to keep; None: all but near-duplicates.

    Returns:
        The table.
    """
    order = scores.best_first().tolist()
    better = _better_near_duplicates(scores, order)
    kept = 0
    rows = [["rank", "name", "keep", *scores.columns, HASH, "near_duplicate_of"]]
    for position, index in enumerate(order):
        keep = index not in better and (count is None or kept < count)
        kept += keep
        numbers = [_text(values[index]) for values in scores.columns.values()]
        original = scores.names[better[index]] if index in better else ""
        rows.append([str(position + 1), scores.names[index], str(int(keep)), *numbers, scores.hashes[index], original])
    _write(out / "scores.csv", rows)
    _write_sheets(source, scores, order, out)
    (out / "unreadable.csv").unlink(missing_ok=True)  # of an earlier call
    if scores.left_out:
        _write(out / "unreadable.csv", [["name", "reason"], *map(list, scores.left_out)])
    return out / "scores.csv"


def _write(path: Path, rows: list[list[str]]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(table_text(rows))


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
