"""FFHQ (Karras et al. 2019), with the 68 landmarks that its metadata gives for every image."""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imago.data.sources.file_tree import FileTree, is_image, natural_key, stem_of
from imago.data.sources.image_files import ImageFileSource
from imago.data.sources.label_files import LabelFile, find_label_file
from imago.data.sources.source import Item
from imago.errors import UserError

logger = logging.getLogger(__name__)

METADATA = "ffhq-dataset-v2.json"
TRAINING_IMAGES = 60_000  # 0 … 59,999; the remaining 10,000 are for validation
FULL_SIZE = 1024  # the landmarks of aligned images are in pixels of these

_FOLDERS = {
    "images1024x1024": "images1024x1024",
    "thumbnails128x128": "thumbnails128x128",
    "in_the_wild": "in-the-wild-images",
}
_NUMBERED = re.compile(r"(?:img)?0*(\d{1,8})")


class FFHQ(ImageFileSource):
    """FFHQ's 70,000 aligned portraits, their thumbnails, or the photos they were cut from.

    Images are known by their numbers: ``00000/00000.png`` as published, flat ``00000.png`` as in most zips, or
    ``00000/img00000000.png`` as StyleGAN's tools pack them.

    Args:
        root: The folder of the data set, its folder of images, or a zip of either; ``~`` is expanded.
        variant: "images1024x1024", "thumbnails128x128" or "in_the_wild"; "auto" takes the first of these folders that
            is there, or else all numbered images as aligned ones.
        part: "train" (images 0 … 59,999), "validation" (from 60,000 on) or "all".
        landmarks: Whether to read ``ffhq-dataset-v2.json`` (255 MB: five seconds) where it is found.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA) channels of the items' images.
        background: RGB colour shown through transparent images.
        minimum_side: Images with a smaller side are unreadable.

    Attributes:
        variant: The variant that is read.
        points: float32 ``(N, 68, 2)`` landmarks in pixels of the published image (of the 1024² one for thumbnails),
            NaN where unknown; None without the metadata.

    Raises:
        UserError: Unknown options, no images, damaged metadata.
    """

    layout: ClassVar[str] = (
        "<root>/images1024x1024/00000/00000.png … (or thumbnails128x128/, in-the-wild-images/, or a zip of them), "
        f"if you like with {METADATA}"
    )

    def __init__(
        self,
        root: str | Path,
        variant: str = "auto",
        part: str = "all",
        landmarks: bool = True,
        channels: int = 3,
        background: Sequence[int] = (255, 255, 255),
        minimum_side: int = 8,
    ) -> None:
        if variant not in ("auto", *_FOLDERS):
            raise UserError(f"variant={variant!r}: must be auto or one of {', '.join(_FOLDERS)}")
        if part not in ("all", "train", "validation"):
            raise UserError(f"part={part!r}: must be all, train or validation")
        tree = FileTree(root)
        files = tree.files()
        self.variant, names = _images(tree, files, variant)
        if part != "all":
            names = [name for name in names if (_number(name) < TRAINING_IMAGES) == (part == "train")]
        if not names:
            of = "" if part == "all" else f" of the part {part}"
            raise UserError(f"{root}: no FFHQ images{of} ({variant=}); expected {self.layout}")
        self.points: NDArray[np.float32] | None = None
        metadata = find_label_file(tree, files, METADATA) if landmarks else None
        if metadata:
            self.points = _landmarks(metadata, names, in_the_wild=self.variant == "in_the_wild")
        elif landmarks:
            logger.warning("%s: no %s, so no landmarks (landmarks=false silences this)", root, METADATA)
        self._places = {name: place for place, name in enumerate(names)} if self.points is not None else {}
        shown = "" if self.variant == "images1024x1024" else f"_{self.variant}"
        super().__init__(
            tree,
            names,
            f"ffhq{shown}" + ("" if part == "all" else f"_{part}"),
            channels=channels,
            background=background,
            minimum_side=minimum_side,
            parameters={"reader": "ffhq", "variant": self.variant, "points": _digest(self.points)},
        )

    def annotated(self, item: Item) -> Item:
        """Adds the landmarks, scaled to the image's own size where it is an aligned one."""
        if self.points is not None:
            points = self.points[self._places[item.name]].astype(np.float64)
            if self.variant != "in_the_wild":
                height, width = item.image.shape[:2]
                points = (points + 0.5) * (np.array([width, height]) / FULL_SIZE) - 0.5
            item.landmarks = None if np.isnan(points).any() else points
        return item


def _number(name: str) -> int:
    match = _NUMBERED.fullmatch(stem_of(name))
    return int(match[1]) if match else -1


def _images(tree: FileTree, files: set[str], variant: str) -> tuple[str, list[str]]:
    """The variant, and its images by number."""
    numbered = [name for name in files if is_image(name) and _number(name) >= 0]
    for key, folder in _FOLDERS.items():
        if variant in ("auto", key):
            within = [name for name in numbered if folder in name.split("/")[:-1]]
            if within:
                return key, _ordered(within, tree)
            if tree.name == folder:
                return key, _ordered(numbered, tree)
    others = set(_FOLDERS.values()) - {_FOLDERS.get(variant)}
    elsewhere = tree.name in others or any(others & set(name.split("/")[:-1]) for name in numbered)
    if elsewhere:  # another variant than the one that is wanted
        return variant, []
    return "images1024x1024" if variant == "auto" else variant, _ordered(numbered, tree)


def _ordered(names: list[str], tree: FileTree) -> list[str]:
    """By number; a number that stands twice is a mistake that would join wrong landmarks."""
    by_number: dict[int, str] = {}
    for name in sorted(names, key=natural_key):
        other = by_number.setdefault(_number(name), name)
        if other != name:
            raise UserError(f"{tree.path}: {other} and {name} have the same number; move one of them away")
    return [by_number[number] for number in sorted(by_number)]


def _landmarks(file: LabelFile, names: Sequence[str], in_the_wild: bool) -> NDArray[np.float32]:
    """``(N, 68, 2)`` for these images; one entry of the file is parsed at a time."""
    table = np.full((len(names), 68, 2), np.nan, dtype=np.float32)
    places = {_number(name): place for place, name in enumerate(names)}
    kind = "in_the_wild" if in_the_wild else "image"
    for key, entry in _entries(file):
        place = places.get(int(key)) if key.isdigit() else None
        if place is None:
            continue
        try:
            table[place] = np.array(entry[kind]["face_landmarks"], dtype=np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file.where}: image {key} has no 68 points in {kind}.face_landmarks") from error
    return table


def _entries(file: LabelFile) -> Iterator[tuple[str, Any]]:
    """The members of the one JSON object in a file, one by one: all at once would take more than a gigabyte."""
    text, decoder, blank = file.text, json.JSONDecoder(), re.compile(r"[\s,:]*")
    try:
        position = text.index("{") + 1
        while True:
            position = blank.match(text, position).end()  # type: ignore[union-attr]  # it matches nothing, too
            if text[position] == "}":
                return
            key, position = decoder.raw_decode(text, position)
            position = blank.match(text, position).end()  # type: ignore[union-attr]
            value, position = decoder.raw_decode(text, position)
            yield str(key), value
    except (ValueError, IndexError) as error:
        raise UserError(f"{file.where}: damaged or truncated JSON ({error}); download it again") from error


def _digest(points: NDArray[np.float32] | None) -> str:
    return "" if points is None else hashlib.blake2b(points.tobytes(), digest_size=8).hexdigest()
