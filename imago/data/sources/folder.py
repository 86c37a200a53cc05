"""Any folder or zip of images, with the labels that StyleGAN's tools put beside them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from imago.data.labels import NamedLabels
from imago.data.sources.file_tree import IMAGE_ENDINGS, FileTree
from imago.data.sources.image_files import ImageFileSource
from imago.errors import UserError, first_line

LABEL_FILE = "dataset.json"


class FolderSource(ImageFileSource):
    """All images of a folder (with its subfolders) or of a zip, in natural order of their names.

    Hidden files and folders and what macOS adds to zips are left out, and so are files with other endings. A
    ``dataset.json`` as StyleGAN's tools write it, ``{"labels": [[name, label], …]}``, gives the column "label" (whole
    numbers) or "label_0", "label_1", … (vectors).

    Args:
        root: A folder or a zip file; ``~`` is expanded.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA) channels of the items' images.
        background: RGB colour shown through transparent images where channels < 4.
        minimum_side: Images with a smaller side are unreadable.

    Raises:
        UserError: `root` does not exist, is neither a folder nor a whole zip, or holds no images; a broken
            ``dataset.json``.
    """

    layout: ClassVar[str] = "a folder (searched recursively) or a zip of images, if you like with a dataset.json"

    def __init__(
        self,
        root: str | Path,
        channels: int = 3,
        background: Sequence[int] = (255, 255, 255),
        minimum_side: int = 8,
    ) -> None:
        tree = FileTree(root)
        names = tree.images()
        if not names:
            kind = "zip" if tree.is_zip else "folder"
            raise UserError(f"{root}: no images in this {kind}; accepted endings: {' '.join(IMAGE_ENDINGS)}")
        super().__init__(
            tree,
            names,
            tree.name,
            channels=channels,
            background=background,
            minimum_side=minimum_side,
            labels=_stylegan_labels(tree),
            label_key=str,  # names with their folders
        )


def _stylegan_labels(tree: FileTree) -> NamedLabels | None:
    """The labels of ``dataset.json``; None where there is no such file or it holds none."""
    if not tree.has(LABEL_FILE):
        return None
    try:
        content = json.loads(tree.text(LABEL_FILE))
        pairs = content.get("labels") if isinstance(content, dict) else None
        if pairs is None:
            return None
        labels = NamedLabels()
        for name, value in pairs:
            labels.add(str(name).replace("\\", "/"), _columns(value))
    except (ValueError, TypeError, RecursionError) as error:
        where = tree.where(LABEL_FILE)
        raise UserError(
            f'{where}: not StyleGAN labels ({first_line(error)}); expected {{"labels": [[name, label], …]}}'
        ) from error
    return labels


def _columns(value: Any) -> dict[str, str]:
    if isinstance(value, list):
        return {f"label_{i}": f"{number:g}" for i, number in enumerate(value)}
    return {"label": "" if value is None else f"{value:g}"}
