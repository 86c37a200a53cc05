"""CelebA-HQ (Karras et al. 2018, appendix C) in the layouts that people have it in."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from imago.data.labels import NamedLabels
from imago.data.sources.celeba import PARTITIONS
from imago.data.sources.file_tree import (
    IMAGE_ENDINGS,
    FileTree,
    file_of,
    folder_of,
    is_image,
    natural_key,
    stem_of,
)
from imago.data.sources.hdf5 import HDF5Source
from imago.data.sources.image_files import ImageFileSource
from imago.data.sources.label_files import find_label_file, read_table
from imago.data.sources.parquet import ParquetSource
from imago.data.sources.source import Item, Source
from imago.data.sources.tfrecords import TFRecordSource
from imago.errors import UserError

logger = logging.getLogger(__name__)

LAYOUTS = ("mask_hq", "data256x256", "stargan_v2", "hdf5", "tfrecords", "parquet", "folder")
IMAGES_OF_CELEBA = 202_599
_MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
_ATTRIBUTES = "CelebAMask-HQ-attribute-anno.txt"
_STARGAN = re.compile(r"(?:.*/)?(train|val)/(female|male)/[^/]+")  # of the name within the root's own folder


class CelebAHQ:
    """CelebA-HQ's 30,000 portraits, whatever form they come in.

    - `mask_hq`: CelebAMask-HQ, ``CelebA-HQ-img/0.jpg`` … ``29999.jpg`` with its mapping and attribute files. Labels:
      the 40 attributes ("-1", "1"); "partition" where CelebA's ``list_eval_partition.txt`` is there, too.
    - `data256x256`: ``00001.jpg`` … ``30000.jpg``, from 1. No labels.
    - `stargan_v2`: ``train`` and ``val``, each with ``female`` and ``male``. Labels: "partition", "gender".
    - `hdf5`, `tfrecords`: PGGAN's files (:class:`imago.data.sources.hdf5.HDF5Source`,
      :class:`imago.data.sources.tfrecords.TFRecordSource`). Labels: those beside them.
    - `parquet`: :class:`imago.data.sources.parquet.ParquetSource`. Labels: its label columns.
    - `folder`: any other folder or zip of images. No labels.

    Args:
        root: A folder, a zip, or a file of the formats above; ``~`` is expanded.
        layout: One of the above; "auto" tells them apart.
        partition: Keep only "train", "validation" or "test": the partition of the CelebA photo that an image was made
            from (`mask_hq`: 24,183, 2,993 and 2,824 images), or of the copy (`stargan_v2`, `parquet`). None keeps all.
        attributes: Whether to read the attributes of `mask_hq`.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA) channels of the items' images, where files are decoded.
        background: RGB colour shown through transparent images.
        minimum_side: Images with a smaller side are unreadable.

    Attributes:
        layout_found: The layout that is read.
        name: "celeba_hq_" and the layout.

    Raises:
        UserError: Unknown options, nothing in such a layout, missing or damaged label files.
        MissingDependencyError: h5py or pyarrow is needed and not installed.
    """

    layout: ClassVar[str] = (
        "one of <root>/CelebA-HQ-img/0.jpg … (CelebAMask-HQ), <root>/00001.jpg … (data256x256), "
        "<root>/train|val/female|male/… (StarGAN v2), <name>.h5, <name>-r10.tfrecords, *.parquet, or a folder or zip "
        "of images"
    )

    def __init__(
        self,
        root: str | Path,
        layout: str = "auto",
        partition: str | None = None,
        attributes: bool = True,
        channels: int = 3,
        background: Sequence[int] = (255, 255, 255),
        minimum_side: int = 8,
    ) -> None:
        if layout not in ("auto", *LAYOUTS):
            raise UserError(f"layout={layout!r}: must be auto or one of {', '.join(LAYOUTS)}")
        if partition is not None and partition not in PARTITIONS:
            raise UserError(f"partition={partition!r}: must be one of {', '.join(PARTITIONS)}, or null for all")
        path = Path(root).expanduser().absolute()
        tree = None if path.is_file() and path.suffix.lower() != ".zip" and layout != "folder" else FileTree(path)
        files = tree.files() if tree else {path.name}
        self.layout_found = _detect(files, path) if layout == "auto" else layout
        self.name = f"celeba_hq_{self.layout_found}" + (f"_{partition}" if partition else "")
        if partition and self.layout_found not in ("mask_hq", "stargan_v2", "parquet"):
            raise UserError(f"{root}: the layout {self.layout_found} tells no partitions; use partition=null")
        if tree and tree.is_zip and self.layout_found in ("hdf5", "tfrecords", "parquet"):
            raise UserError(f"{root}: the zip holds {self.layout_found} files: unpack it first")
        self.source: Source
        if self.layout_found == "hdf5":
            self.source = HDF5Source(_only_folder(path, files, ".h5"))
        elif self.layout_found == "tfrecords":
            self.source = TFRecordSource(path)
        elif self.layout_found == "parquet":
            self.source = ParquetSource(
                path, split=partition, channels=channels, background=background, minimum_side=minimum_side
            )
        else:
            if tree is None:
                raise UserError(f"{root}: the layout {self.layout_found} is a folder or a zip; expected {self.layout}")
            names, labels = _files(tree, files, self.layout_found, partition, attributes)
            self.source = ImageFileSource(
                tree,
                names,
                self.name,
                channels=channels,
                background=background,
                minimum_side=minimum_side,
                labels=labels,
                label_key=str,
                parameters={"reader": "celeba_hq", "layout": self.layout_found},
            )
        if len(self.source) == IMAGES_OF_CELEBA:
            logger.warning(
                "%s: %s images are all of CelebA, not the 30,000 of CelebA-HQ (some copies are misnamed)",
                root, f"{IMAGES_OF_CELEBA:,}",
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.source)

    def fingerprint(self) -> str:
        """That of the reader of the layout."""
        return self.source.fingerprint()

    def item_name(self, index: int) -> str:
        """The file's name, or the data file's name and the position in it."""
        return self.source.item_name(index)

    def read(self, index: int) -> Item:
        """One image; see :meth:`imago.data.sources.source.Source.read`."""
        return self.source.read(index)


def _detect(files: set[str], path: Path) -> str:
    """The layout that these files are in."""
    for ending, layout in ((".h5", "hdf5"), (".tfrecords", "tfrecords"), (".parquet", "parquet")):
        if any(name.endswith(ending) for name in files):
            return layout
    images = [name for name in files if is_image(name)]
    # With a root of CelebA-HQ-img itself, the names tell: from 0, not padded.
    at_root = {name for name in images if "/" not in name}
    if any(_in_folder(name, "CelebA-HQ-img") for name in images) or (path.name == "CelebA-HQ-img" and at_root):
        return "mask_hq"
    if any(_STARGAN.fullmatch(f"{path.name}/{name}") for name in images):
        return "stargan_v2"
    numbered = [stem_of(name) for name in images]
    if images and all(re.fullmatch(r"\d{5}", stem) for stem in numbered) and min(numbered) == "00001":
        return "data256x256"
    if images:
        return "folder"
    endings = " ".join(IMAGE_ENDINGS)
    raise UserError(f"{path}: no CelebA-HQ in it; expected {CelebAHQ.layout} (image endings: {endings})")


def _in_folder(name: str, folder: str) -> bool:
    return file_of(folder_of(name)) == folder


def _only_folder(path: Path, files: set[str], ending: str) -> Path:
    """Where the only file with this ending lies; the path itself where there are several, which its reader tells."""
    found = [name for name in files if name.endswith(ending)]
    return path / found[0] if path.is_dir() and len(found) == 1 else path


def _files(
    tree: FileTree, files: set[str], layout: str, partition: str | None, attributes: bool
) -> tuple[list[str], NamedLabels | None]:
    """The image files of a layout in natural order, and their labels by name."""
    names = [name for name in files if is_image(name)]
    labels = NamedLabels()
    if layout == "mask_hq":
        in_folder = [name for name in names if _in_folder(name, "CelebA-HQ-img")]  # not the 400,000 masks
        names = in_folder or [name for name in names if re.fullmatch(r"\d+\.(jpg|png)", name)]
        names.sort(key=natural_key)
        _label_mask_hq(tree, files, names, labels, attributes, needs_partition=partition is not None)
    elif layout == "stargan_v2":
        matches = {name: match for name in names if (match := _STARGAN.fullmatch(f"{tree.path.name}/{name}"))}
        names = sorted(matches, key=natural_key)
        for name in names:
            kind, gender = matches[name].groups()
            labels.add(name, {"partition": "validation" if kind == "val" else "train", "gender": gender})
    else:
        names.sort(key=natural_key)
    if partition:
        names = [name for name in names if (labels.get(name) or {}).get("partition") == partition]
    if not names:
        of = f" of the partition {partition}" if partition else ""
        raise UserError(f"{tree.path}: no images{of} in the layout {layout}; expected {CelebAHQ.layout}")
    return names, labels if len(labels) else None


def _label_mask_hq(
    tree: FileTree, files: set[str], names: list[str], labels: NamedLabels, attributes: bool, needs_partition: bool
) -> None:
    """Attributes by the image's own name; the partition by the name of the CelebA photo that it was made from."""
    by_file = {stem_of(name): name for name in names}
    file = find_label_file(tree, files, _ATTRIBUTES) if attributes else None
    if file:
        table = read_table(file, headers=2)
        for key, values in table.rows:
            if stem_of(key) in by_file:
                labels.add(by_file[stem_of(key)], dict(zip(table.columns, values, strict=True)))
    elif attributes:
        logger.warning("%s: no %s, so no attributes (attributes=false silences this)", tree.path, _ATTRIBUTES)
    mapping = find_label_file(tree, files, _MAPPING)
    partitions = find_label_file(tree, files, "list_eval_partition.txt", "list_eval_partition.csv")
    if mapping is None or partitions is None:
        if needs_partition:
            lacking = _MAPPING if mapping is None else "list_eval_partition.txt (of CelebA)"
            raise UserError(f"{tree.path}: partitions need {lacking} in it or beside it")
        return
    original = {}
    table = read_table(mapping, headers=1)
    if "orig_file" not in table.columns:
        raise UserError(f"{mapping.where}: no column orig_file; expected the header idx orig_idx orig_file")
    column = list(table.columns).index("orig_file")
    for key, values in table.rows:
        if key in by_file:
            original[stem_of(values[column])] = by_file[key]
    for key, (code,) in read_table(partitions, headers=0, width=1).rows:
        name = original.get(stem_of(key))
        if name is not None:
            if code not in ("0", "1", "2"):
                raise UserError(f"{partitions.where}: {key} has the partition {code!r}, expected 0, 1 or 2")
            labels.add(name, {"partition": PARTITIONS[int(code)]})
