"""The faces of Curtó & Zarza (Curtó et al. 2020, section 3), in both releases.

What the files hold differs in places from the paper's Table 1: ages have a ninth value, ``elderly`` (204 faces, and 81
of the extra set), which the table leaves out; its "African American" is ``black`` in the files. All other counts are
equal. The tables are in ``docs/datasets.md``.
"""

import csv
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from imago.data.drawn_portraits import VOCABULARY
from imago.data.grouped_split import PARTS, grouped_split
from imago.data.labels import NamedLabels
from imago.data.sources.file_tree import FileTree, is_image, natural_key, stem_of
from imago.data.sources.image_files import ImageFileSource
from imago.data.sources.label_files import find_file
from imago.data.sources.restricted_pickle import load_plain
from imago.errors import UserError

logger = logging.getLogger(__name__)

COLUMNS = (
    "Age",
    "Ethnicity",
    "Eyes Color",
    "Facial Hair",
    "Gender",
    "Glasses",
    "Hair Color",
    "Hair Covered",
    "Hair Style",
    "Smile",
    "Visible Forehead",
)

# Flickr's photo, secret, server and owner, the number of the face; originals end in "_" in the files of January 2019.
_FACE = re.compile(r"(\d+_[0-9a-f]+_\d+_(\d+@N\d\d)_\d+)(_mirror|_)?")


class Curto(ImageFileSource):
    """The 14,248 faces (7,124 and their mirror images), the 3,384 of the extra set, and the 4,239 synthetic ones.

    Labels are the eleven columns of the label files with the values that stand there ("Age": "early_adulthood"; see
    :data:`COLUMNS`), joined by file name, wherever below `root` the images lie. Synthetic faces have none. There is
    no official split; this one keeps all photos of an owner in one part, across the main and the extra set, so that
    neither a face nor its mirror image nor another face of the same photo is in two parts. It is computed from the
    label files alone, whatever images are there and whatever else is chosen.

    Args:
        root: The folder of a release, the one around it, or a zip of it; ``~`` is expanded.
        release: "graphics" (labels in a CSV), "c" (one JSON list per face), or "auto".
        split: Keep only "train", "validation" or "test"; None keeps all. Synthetic faces are in "train".
        include_mirrors: Whether to take the mirror images; leave them out where training flips at random.
        include_extra: Whether to take the extra set (all white, no mirror images).
        include_synthetic: Whether to take the faces that HDCGAN made (at 512² where they are there at two sizes).
        validation_share: Share of all labelled faces, extra set included, in the validation part.
        test_share: The same for the test part.
        split_seed: Of the split.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA) channels of the items' images.
        background: RGB colour shown through transparent images.
        minimum_side: Images with a smaller side are unreadable.

    Attributes:
        release: The release that is read.
        missing: Faces with labels, of those asked for, whose images are not there.

    Raises:
        UserError: Unknown options, no or damaged label files, none of the images.
    """

    layout: ClassVar[str] = (
        "<root>/samples/*.png with labels/c&z.csv (graphics) or labels/<image name without .png> (c); "
        "extra/samples/*.png with labels/extra_c&z.csv or extra/labels/…; hdcgan/ for the synthetic faces"
    )

    def __init__(
        self,
        root: str | Path,
        release: str = "auto",
        split: str | None = None,
        include_mirrors: bool = True,
        include_extra: bool = False,
        include_synthetic: bool = False,
        validation_share: float = 0.1,
        test_share: float = 0.1,
        split_seed: int = 0,
        channels: int = 3,
        background: Sequence[int] = (255, 255, 255),
        minimum_side: int = 8,
    ) -> None:
        if split is not None and split not in PARTS:
            raise UserError(f"split={split!r}: must be one of {', '.join(PARTS)}, or null for all")
        tree = _tree(root)
        files = tree.files()
        self.release, main, extra = _labels(tree, files, release)
        if include_extra and not len(extra):
            raise UserError(f"{root}: no labels of the extra set; expected {self.layout}")
        if split and not len(extra):
            logger.warning("%s: no labels of the extra set: the split differs from the one made with them", root)
        parts = owner_split((main, extra), validation_share, test_share, split_seed)

        def wanted(key: str) -> bool:
            return (split is None or parts[owner_of(key)] == split) and (include_mirrors or not key.endswith("_mirror"))

        labels = NamedLabels()
        for table in (main, extra) if include_extra else (main,):
            for key in filter(wanted, table.names):
                labels.add(key, table.get(key) or {})
        images = sorted((name for name in files if is_image(name)), key=natural_key)
        synthetic = _synthetic(images)
        names, self.missing = self._join(root, [n for n in images if n not in synthetic], labels, main, extra)
        if include_synthetic and split in (None, "train"):
            if not synthetic:
                raise UserError(f"{root}: no synthetic faces in it; expected {self.layout}")
            names += _largest_size(synthetic, images)
        super().__init__(
            tree,
            names,
            "curto" + ("" if split is None else f"_{split}"),
            channels=channels,
            background=background,
            minimum_side=minimum_side,
            labels=labels,
            label_key=face_key,
            parameters={"reader": "curto"},
        )

    def _join(
        self, root: str | Path, images: list[str], labels: NamedLabels, main: NamedLabels, extra: NamedLabels
    ) -> tuple[list[str], int]:
        """The images of the faces with these labels, and how many faces have none; says what does not fit."""
        by_key: dict[str, str] = {}
        twice = unknown = 0
        for name in images:
            key = face_key(name)
            unknown += key not in main and key not in extra
            if key in labels:
                twice += key in by_key
                by_key.setdefault(key, name)
        missing = len(labels) - len(by_key)
        if not by_key:
            raise UserError(
                f"{root}: labels of {len(labels):,} faces, but none of their images; expected {self.layout}; the "
                "README of github.com/curto2/graphics links to the images"
            )
        problems = [
            f"{missing:,} of {len(labels):,} labelled faces have no image" if missing else "",
            f"{unknown:,} images have no labels and are left out" if unknown else "",
            f"{twice:,} faces are there twice and taken once" if twice else "",
        ]
        if any(problems):
            logger.warning("%s: %s", root, "; ".join(problem for problem in problems if problem))
        return list(by_key.values()), missing


def face_key(name: str) -> str:
    """A face's name without folders, ending and the old files' underscore: what all label files have in common."""
    stem = stem_of(name)
    match = _FACE.fullmatch(stem)
    return match[1] + (match[3] or "").rstrip("_") if match else stem


def owner_of(name: str) -> str:
    """The Flickr owner in a face's name ("49602580@N08"); the whole name where it is not of the usual form."""
    match = _FACE.fullmatch(face_key(name))
    return match[2] if match else face_key(name)


def owner_split(
    tables: Iterable[NamedLabels], validation_share: float = 0.1, test_share: float = 0.1, seed: int = 0
) -> dict[str, str]:
    """Owner → "train", "validation" or "test", for the faces of these tables (:func:`read_labels`).

    The shares are kept within the owners of each (most frequent) ethnicity: the photos of an owner are often of one
    country, and a tenth of the owners at random can be half South Asian. See :func:`grouped_split`.

    Args:
        tables: Labels by :func:`face_key`.
        validation_share: Share of all faces.
        test_share: Share of all faces.
        seed: Of the split.

    Raises:
        UserError: Shares below 0, or of more than 1 together.
    """
    faces: dict[str, Counter[str]] = {}
    for table in tables:
        for key in table.names:
            faces.setdefault(owner_of(key), Counter())[(table.get(key) or {}).get("Ethnicity", "")] += 1
    sizes = {owner: counts.total() for owner, counts in faces.items()}
    most = {owner: max(sorted(counts), key=lambda kind: counts[kind]) for owner, counts in faces.items()}
    return grouped_split(sizes, validation_share, test_share, seed, most)


def read_labels(root: str | Path, release: str = "auto") -> tuple[NamedLabels, NamedLabels]:
    """The labels of the main and of the extra set by :func:`face_key`; no images are needed.

    Args:
        root: As for :class:`Curto`.
        release: As for :class:`Curto`.

    Raises:
        UserError: No labels of the main set, or damaged label files.
    """
    tree = _tree(root)
    return _labels(tree, tree.files(), release)[1:]


def _tree(root: str | Path) -> FileTree:
    """The release, also where the user points at its folder of images."""
    path = Path(root).expanduser().absolute()
    if path.name in ("samples", "labels") and path.is_dir():
        path = path.parent.parent if path.parent.name == "extra" else path.parent
        return FileTree(path)
    return FileTree(root)


def _labels(tree: FileTree, files: set[str], release: str) -> tuple[str, NamedLabels, NamedLabels]:
    """The release, and the labels of its main and extra set."""
    readers = {"graphics": _graphics_labels, "c": _c_labels}
    if release not in ("auto", *readers):
        raise UserError(f"release={release!r}: must be auto or one of {', '.join(readers)}")
    for name, read in readers.items():
        if release in ("auto", name):
            main, extra = read(tree, files, ""), read(tree, files, "extra")
            if len(main):
                if main.names[0] in extra:
                    raise UserError(f"{tree.path}: the labels of the main and of the extra set are the same")
                return name, main, extra
    kind = "" if release == "auto" else f" of the release {release}"
    raise UserError(f"{tree.path}: no label files{kind}; expected {Curto.layout}")


def _graphics_labels(tree: FileTree, files: set[str], part: str) -> NamedLabels:
    """``c&z.csv`` or, where that is missing, ``c&z.p``."""
    base = "extra_c&z" if part else "c&z"
    labels = NamedLabels()
    found = find_file(tree, files, f"{base}.csv")
    if found:
        where, content = found
        try:
            rows: list[Any] = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{where}: not a CSV file ({error})") from error
        if not rows or tuple(rows[0]) != ("Filename", *COLUMNS):
            raise UserError(f"{where}: expected the header Filename,{','.join(COLUMNS)}")
        _add_rows(labels, rows[1:], where)
        return labels
    found = find_file(tree, files, f"{base}.p")
    if found:
        where, content = found
        rows = load_plain(content, where)
        if not isinstance(rows, list):
            raise UserError(f"{where}: not a list of rows")
        _add_rows(labels, rows, where)
    return labels


def _c_labels(tree: FileTree, files: set[str], part: str) -> NamedLabels:
    """One file per face, without an ending, that holds a JSON list of eleven texts."""
    labels = NamedLabels()
    for name in sorted(files, key=natural_key):
        parts = name.split("/")
        if parts[-2:-1] == ["labels"] and (parts[-3:-2] == ["extra"]) == bool(part) and _FACE.fullmatch(parts[-1]):
            text = tree.text(name)
            try:
                values = json.loads(text)
            except ValueError as error:
                raise UserError(f"{tree.where(name)}: not a JSON list ({error})") from error
            _add_rows(labels, [[parts[-1], *values] if isinstance(values, list) else values], tree.where(name))
    return labels


def _add_rows(labels: NamedLabels, rows: Sequence[Any], where: str) -> None:
    strange: Counter[str] = Counter()
    for row in rows:
        if not isinstance(row, (list, tuple)) or len(row) != 12 or not all(isinstance(value, str) for value in row):
            raise UserError(f"{where}: a row is not a file name and eleven labels: {str(row)[:100]}; is it whole?")
        key, values = face_key(row[0]), dict(zip(COLUMNS, row[1:], strict=True))
        if key in labels and labels.get(key) != values:
            raise UserError(f"{where}: {row[0]} stands there twice with different labels")
        labels.add(key, values)
        strange.update(f"{c} {value}" for c, value in values.items() if value not in VOCABULARY[c])
    if strange:
        logger.warning("%s: values that the published files do not have: %s", where, ", ".join(strange))


def _synthetic(images: Sequence[str]) -> set[str]:
    return {name for name in images if "hdcgan" in name.split("/")[:-1]}


def _largest_size(synthetic: set[str], images: Sequence[str]) -> list[str]:
    """In natural order, without the small copies where the large ones are there."""
    large = [n for n in images if n in synthetic and "samples_128" not in n.split("/")]
    return large or [n for n in images if n in synthetic]
