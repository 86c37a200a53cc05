"""Sources as the papers used them.

The recipe of CelebA-HQ (Karras et al. 2018, appendix C): what can be rebuilt is the geometry (landmarks, padding with a
depth-of-field effect, the oriented crop, the resampling) and a quality score of the kind that the appendix describes.
What cannot are the two private networks (removal of JPEG artefacts, four-fold super-resolution) and the delta files
that stand for them. The result is like CelebA-HQ; numbers measured on it are not comparable with the paper's.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imago.data.sources.aligned import AlignedFaces
from imago.data.sources.celeba import CelebA
from imago.data.sources.ffhq import FFHQ
from imago.data.sources.file_tree import FileTree
from imago.data.sources.folder import FolderSource
from imago.data.sources.lsun import LSUN
from imago.errors import UserError

CELEBA_HQ_LIKE = "aligned as CelebA-HQ is, without its private networks: CelebA-HQ-like; see docs/celeba_hq.md"
ALL_IMAGES = ("bedroom", "dog")  # categories of LSUN of which the paper used all images, and did not mirror them
PAPER_IMAGES = 100_000  # of the other categories


def in_the_wild(
    root: str | Path, channels: int = 3, background: Sequence[int] = (255, 255, 255), **options: Any
) -> AlignedFaces:
    """Aligned faces from any folder or zip of photos.

    Args:
        root: A folder or zip.
        channels: Channels of the images.
        background: RGB under transparent pixels.
        **options: See :class:`imago.data.sources.aligned.AlignedFaces`.

    Raises:
        UserError: See :class:`imago.data.sources.folder.FolderSource` and AlignedFaces.
    """
    return AlignedFaces(FolderSource(root, channels=channels, background=background), **options)


def celeba_hq_recipe(root: str | Path, **options: Any) -> AlignedFaces:
    """Aligned faces from CelebA's photos in the wild with its landmark file, or from FFHQ's with its metadata.

    Args:
        root: The folder of CelebA (``img_celeba`` and ``list_landmarks_celeba.txt``), or that of FFHQ with
            ``in-the-wild-images`` and ``ffhq-dataset-v2.json``.
        **options: See :class:`imago.data.sources.aligned.AlignedFaces`.

    Raises:
        UserError: The data are not there, or an option is wrong.
    """
    if FileTree(root).has("ffhq-dataset-v2.json"):
        return AlignedFaces(FFHQ(root, variant="in_the_wild"), **options)
    try:
        photos = CelebA(root, variant="in_the_wild")
    except UserError as error:
        celeba, ffhq = "img_celeba/ and list_landmarks_celeba.txt", "in-the-wild-images/ and ffhq-dataset-v2.json"
        raise UserError(f"{root}: nothing for CelebA-HQ's recipe; expected {celeba}, or {ffhq} ({error})") from error
    return AlignedFaces(photos, **options)


def lsun_of_the_paper(
    root: str | Path,
    category: str,
    split: str = "train",
    max_images: int | None = None,
    channels: int = 3,
    background: Sequence[int] = (255, 255, 255),
    minimum_side: int = 8,
) -> LSUN:
    """LSUN with the number of images that the paper trained on (Karras et al. 2018, appendix G).

    Args:
        root: See :class:`imago.data.sources.lsun.LSUN`, as for the others.
        category: "bedroom", "church_outdoor", …
        split: "train" or "val".
        max_images: How many; None: 100,000, but all of bedroom and dog; 0: all.
        channels: Channels of the images.
        background: RGB under transparent pixels.
        minimum_side: Images with a smaller side are unreadable.

    Raises:
        UserError: See :class:`imago.data.sources.lsun.LSUN`.
    """
    if max_images is None:
        max_images = 0 if category in ALL_IMAGES else PAPER_IMAGES
    return LSUN(root, category, split, max_images or None, channels, background, minimum_side)
