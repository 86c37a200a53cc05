"""CelebA (Liu et al. 2015), aligned or in the wild, as the official archives, torchvision or Kaggle lay it out."""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from imago.data.labels import NamedLabels
from imago.data.sources.file_tree import FileTree, file_of, folder_of, is_image, natural_key, stem_of
from imago.data.sources.image_files import Box, ImageFileSource, cropped
from imago.data.sources.label_files import LabelFile, find_label_file, read_table
from imago.data.sources.source import Item, UnreadableImageError
from imago.errors import UserError

logger = logging.getLogger(__name__)

OFFICIAL_CROP: Box = (25, 57, 153, 185)  # 128×128 about (89, 121): what PGGAN's and most papers' 128² CelebA is
ALIGNED_SIZE = (178, 218)
PARTITIONS = ("train", "validation", "test")  # 0, 1, 2 in list_eval_partition.txt

_FOLDERS = {"aligned": ("img_align_celeba", "img_align_celeba_png"), "in_the_wild": ("img_celeba",)}
_LANDMARKS = {"aligned": "list_landmarks_align_celeba", "in_the_wild": "list_landmarks_celeba"}


class CelebA(ImageFileSource):
    """CelebA's 202,599 photos of celebrities, aligned (178×218) or in the wild, with attributes and landmarks.

    Labels are joined by file name. The columns are the 40 attributes ("Smiling", … with the values "-1" and "1"),
    "partition" ("train", "validation", "test") where the partition file is there, and "identity" on request. Label
    files are searched in the folder or zip, beside it, and in ``Anno`` and ``Eval`` beside it, as ``.txt`` or as
    Kaggle's ``.csv``.

    Args:
        root: The folder of the data set, its folder of images, or a zip of either; ``~`` is expanded.
        variant: "aligned" or "in_the_wild".
        crop: "official" cuts aligned photos to the usual 128×128 about (89, 121); "none" leaves them whole. Photos in
            the wild are never cropped.
        attributes: Whether to read the 40 attributes.
        partition: Keep only "train", "validation" or "test"; None keeps all.
        identity: Whether to read the numbers of the persons (10,177).
        channels: 1 (grey), 3 (RGB) or 4 (RGBA) channels of the items' images.
        background: RGB colour shown through transparent images.
        minimum_side: Images with a smaller side are unreadable.

    Attributes:
        boxes: For photos in the wild, int32 ``(N, 4)`` annotated face x, y, width, height in pixels, −1 where
            unknown; None without ``list_bbox_celeba``.
        five_points: float32 ``(N, 5, 2)`` left eye, right eye, nose, left and right corner of the mouth in pixels of
            the uncropped file, NaN where unknown; None without the landmark file.

    Raises:
        UserError: Unknown options, no images, missing or damaged label files.
    """

    layout: ClassVar[str] = (
        "<root>/img_align_celeba/000001.jpg … (or img_celeba/ for in_the_wild; also under Img/, or as "
        "img_align_celeba.zip), with list_attr_celeba, list_eval_partition, identity_CelebA and list_landmarks_* as "
        ".txt or .csv beside it or in Anno/ and Eval/"
    )

    def __init__(
        self,
        root: str | Path,
        variant: str = "aligned",
        crop: str = "official",
        attributes: bool = True,
        partition: str | None = None,
        identity: bool = False,
        channels: int = 3,
        background: Sequence[int] = (255, 255, 255),
        minimum_side: int = 8,
    ) -> None:
        if variant not in _FOLDERS:
            raise UserError(f"variant={variant!r}: must be one of {', '.join(_FOLDERS)}")
        if crop not in ("official", "none"):
            raise UserError(f"crop={crop!r}: must be official or none")
        if partition is not None and partition not in PARTITIONS:
            raise UserError(f"partition={partition!r}: must be one of {', '.join(PARTITIONS)}, or null for all")
        tree, files, names = _images(root, variant)
        stems = {stem_of(name) for name in names}
        labels = NamedLabels()

        def find(base: str, needed: bool = False) -> LabelFile | None:
            found = find_label_file(tree, files, f"{base}.txt", f"{base}.csv")
            if found is None and needed:
                raise UserError(f"{root}: no {base}.txt or .csv; expected {self.layout}")
            return found

        if attributes:
            _read_attributes(find("list_attr_celeba"), labels, stems, root)
        _read_partition(find("list_eval_partition", needed=partition is not None), labels, stems)
        if identity:
            file = find("identity_CelebA", needed=True)
            for name, (person,) in read_table(file, headers=0, width=1).rows if file else ():
                _add(labels, stems, name, {"identity": person})
        if partition:
            names = [name for name in names if (labels.get(stem_of(name)) or {}).get("partition") == partition]
            if not names:
                raise UserError(f"{root}: none of the {len(stems):,} images is in the partition {partition}")
        unlabelled = sum(stem_of(name) not in labels for name in names) if len(labels) else 0
        if unlabelled:
            logger.warning("%s: %d of %d images are in no label file", root, unlabelled, len(names))
        points, boxes = find(_LANDMARKS[variant]), find("list_bbox_celeba") if variant == "in_the_wild" else None
        self.five_points: NDArray[np.float32] | None = None
        self.boxes: NDArray[np.int32] | None = None
        if points:
            self.five_points = _numbers(points, names, 10, np.nan).reshape(-1, 5, 2)
        if boxes:
            self.boxes = _numbers(boxes, names, 4, -1).astype(np.int32)
        self._places = {name: index for index, name in enumerate(names)} if points else {}
        self._crop = crop == "official" and variant == "aligned"
        super().__init__(
            tree,
            names,
            "_".join(part for part in ("celeba", "" if variant == "aligned" else variant, partition) if part),
            channels=channels,
            background=background,
            minimum_side=minimum_side,
            labels=labels if len(labels) else None,
            label_key=stem_of,
            parameters={"reader": "celeba", "crop": self._crop, "points": _digest(self.five_points)},
        )

    def annotated(self, item: Item) -> Item:
        """Adds the five points, and crops."""
        if self.five_points is not None:
            points = self.five_points[self._places[item.name]]
            item.five_points = None if np.isnan(points).any() else points.astype(np.float64)
        if not self._crop:
            return item
        height, width = item.image.shape[:2]
        if (width, height) != ALIGNED_SIZE:
            raise UnreadableImageError(f"{width}x{height}, an aligned photo is 178x218; crop=none takes it as it is")
        return cropped(item, OFFICIAL_CROP)


def _images(root: str | Path, variant: str) -> tuple[FileTree, set[str], list[str]]:
    """The folder or zip that holds the images, its files, and the images in natural order."""
    tree = FileTree(root)
    files = tree.files()
    by_folder = Counter(folder_of(name) for name in files if is_image(name))
    # The folder itself may be the root, and then it is known by its own name only.
    called = {folder: file_of(folder) or tree.name for folder in by_folder}
    others = {name for key, names in _FOLDERS.items() if key != variant for name in names}
    folders = [folder for wanted in _FOLDERS[variant] for folder in by_folder if called[folder] == wanted]
    if not folders:
        numbered = Counter(
            folder_of(name) for name in files if is_image(name) and re.fullmatch(r"\d{6}", stem_of(name))
        )
        folders = [folder for folder in numbered if called[folder] not in others]
    if folders:
        folder = max(folders, key=lambda folder: by_folder[folder])
        images = (name for name in files if is_image(name) and folder_of(name) == folder)
        return tree, files, sorted(images, key=natural_key)
    for name in sorted(files, key=natural_key):
        if not tree.is_zip and file_of(name) in {f"{folder}.zip" for folder in _FOLDERS[variant]}:
            return _images(tree.path / name, variant)
    hint = f"expected {CelebA.layout}"
    if any(re.search(r"\.7z(\.\d+)?$", name) for name in files):
        hint = "its .7z archives must be unpacked first: cat img_celeba.7z.* > whole.7z && 7z x whole.7z"
    elif any(name in others for name in called.values()):
        hint = f"this is the other variant: variant={next(key for key in _FOLDERS if key != variant)}"
    raise UserError(f"{root}: no {variant.replace('_', ' ')} CelebA images; {hint}")


def _add(labels: NamedLabels, stems: set[str], name: str, row: dict[str, str]) -> None:
    stem = stem_of(name)  # label files name .jpg where the images are .png
    if stem in stems:
        labels.add(stem, row)


def _read_attributes(file: LabelFile | None, labels: NamedLabels, stems: set[str], root: str | Path) -> None:
    if file is None:
        logger.warning("%s: no list_attr_celeba.txt or .csv, so no attributes (attributes=false silences this)", root)
        return
    table = read_table(file)
    for name, values in table.rows:
        if not all(value in ("-1", "1") for value in values):
            raise UserError(f"{file.where}: the attributes of {name} must be -1 or 1")
        _add(labels, stems, name, dict(zip(table.columns, values, strict=True)))


def _read_partition(file: LabelFile | None, labels: NamedLabels, stems: set[str]) -> None:
    for name, (code,) in read_table(file, headers=0, width=1).rows if file else ():
        if code not in ("0", "1", "2"):
            raise UserError(f"{file.where if file else ''}: {name} has the partition {code!r}, expected 0, 1 or 2")
        _add(labels, stems, name, {"partition": PARTITIONS[int(code)]})


def _numbers(file: LabelFile, names: Sequence[str], width: int, unknown: float) -> NDArray[np.float32]:
    """The numbers of each of these images, ``(N, width)``."""
    table = np.full((len(names), width), unknown, dtype=np.float32)
    places = {stem_of(name): index for index, name in enumerate(names)}
    for name, values in read_table(file, width=width).rows:
        place = places.get(stem_of(name))
        if place is not None:
            try:
                table[place] = [float(value) for value in values]
            except ValueError as error:
                raise UserError(f"{file.where}: {name} has values that are no numbers") from error
    return table


def _digest(points: NDArray[np.float32] | None) -> str:
    return "" if points is None else hashlib.blake2b(points.tobytes(), digest_size=8).hexdigest()
