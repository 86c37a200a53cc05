"""The options of every reader of data sets, once: ``source=…`` of prepare.py and ``data=…`` of train.py share them."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class SourceOptions:
    """What all readers have in common."""

    reader: str = MISSING  # the reader's class
    root: str | None = None  # where the data lie
    keep: str | None = None  # a list of what to keep: a CSV with a column "name", or one name a line
    keep_best: int | None = None  # keep only this many, the best by imago.data.quality


@dataclass
class DecodedSourceOptions(SourceOptions):
    """Of readers that decode image files."""

    background: list[int] = field(default_factory=lambda: [255, 255, 255])  # under transparent pixels
    minimum_side: int = 8  # images with a smaller side count as unreadable


@dataclass
class FolderOptions(DecodedSourceOptions):
    reader: str = "imago.data.sources.folder.FolderSource"


@dataclass
class PackedOptions(SourceOptions):
    reader: str = "imago.data.sources.packed.PackedSource"


@dataclass
class DrawnPortraitsOptions(SourceOptions):
    reader: str = "imago.data.sources.drawn.DrawnPortraits"
    count: int = 3000
    size: int = 256  # in pixels
    seed: int = 0  # which portraits


@dataclass
class CelebAOptions(DecodedSourceOptions):
    reader: str = "imago.data.sources.celeba.CelebA"
    variant: str = "aligned"  # or in_the_wild
    crop: str = "official"  # 128 × 128 around the face, as in the paper; none: the whole 178 × 218
    attributes: bool = True  # the 40 attributes as labels
    partition: str | None = None  # train, validation or test; null: all
    identity: bool = False  # who it is, as a label


@dataclass
class CelebAHQOptions(DecodedSourceOptions):
    reader: str = "imago.data.sources.celeba_hq.CelebAHQ"
    layout: str = "auto"  # mask_hq, data256x256, stargan_v2, hdf5, tfrecords, parquet, folder
    attributes: bool = True
    partition: str | None = None  # train, validation or test; null: all


@dataclass
class FFHQOptions(DecodedSourceOptions):
    reader: str = "imago.data.sources.ffhq.FFHQ"
    variant: str = "auto"  # images1024x1024, thumbnails128x128, in_the_wild
    part: str = "all"  # train (0–59,999), validation (60,000–69,999)
    landmarks: bool = True  # the 68 points of ffhq-dataset-v2.json, where it is there


@dataclass
class LSUNOptions(DecodedSourceOptions):
    reader: str = "imago.data.sources.recipes.lsun_of_the_paper"
    category: str = MISSING  # bedroom, church_outdoor, cat, …
    split: str = "train"  # or val
    max_images: int | None = None  # null: as in the paper, 100,000, and all of bedroom and dog; 0: all


@dataclass
class CIFAR10Options(SourceOptions):
    reader: str = "imago.data.sources.cifar10.CIFAR10"
    split: str = "train"  # train, test, all


@dataclass
class MNISTOptions(SourceOptions):
    reader: str = "imago.data.sources.mnist.MNIST"
    variant: str = "grey"  # rgb: three random digits, for the discrete mode test
    split: str = "train"  # train, test, all
    count: int = 1_000_000  # of rgb images
    digit_seed: int = 123  # which digits meet in rgb images
    pad: bool = True  # 28 × 28 to 32 × 32


@dataclass
class CurtoOptions(DecodedSourceOptions):
    reader: str = "imago.data.sources.curto.Curto"
    release: str = "auto"  # c, graphics
    split: str | None = None  # train, validation or test, grouped by the photos' owners; null: all
    include_mirrors: bool = True  # the mirrored copies that the data set holds; off where data.mirror is on
    include_extra: bool = False  # the extra set
    include_synthetic: bool = False  # the images made by HDCGAN, which have no labels
    validation_share: float = 0.1
    test_share: float = 0.1
    split_seed: int = 0


@dataclass
class AlignedOptions(SourceOptions):
    """Of sources that find faces in photos and cut them out as the paper's appendix C says."""

    landmarks: str = "auto"  # annotation, dlib, precomputed; auto: annotations where there are some, else dlib
    landmarks_file: str | None = None  # precomputed: a CSV name,x0,y0,… of 5 or 68 points
    faces: str = "largest"  # of several in one photo: largest, all, none
    size: int = 1024  # of the crops
    supersample: int = 4096  # of the bilinear transform, before the box filter
    minimum_face: int = 16  # crops of fewer pixels in the photo are skipped
    framing: str = "celeba_hq"  # or ffhq: where the eyes of 68 landmarks come to lie
    enhance: str | None = None  # "package.module:function" for the photo before anything else: your own networks
    predictor_path: str | None = None  # dlib's 68-point model, where face_recognition_models is not installed


@dataclass
class InTheWildOptions(AlignedOptions):
    reader: str = "imago.data.sources.recipes.in_the_wild"
    background: list[int] = field(default_factory=lambda: [255, 255, 255])


@dataclass
class CelebAHQRecipeOptions(AlignedOptions):
    reader: str = "imago.data.sources.recipes.celeba_hq_recipe"
    keep_best: int | None = 30_000


SOURCES: dict[str, type[SourceOptions]] = {
    "folder": FolderOptions,
    "celeba": CelebAOptions,
    "celeba_hq": CelebAHQOptions,
    "ffhq": FFHQOptions,
    "lsun": LSUNOptions,
    "cifar10": CIFAR10Options,
    "mnist": MNISTOptions,
    "curto": CurtoOptions,
    "in_the_wild": InTheWildOptions,
    "celeba_hq_recipe": CelebAHQRecipeOptions,
}
"""The name of every source that is an option of both commands."""

ONLY_TO_PREPARE: dict[str, type[SourceOptions]] = {"packed": PackedOptions, "drawn_portraits": DrawnPortraitsOptions}
"""Sources of prepare.py for which train.py has data modules of their own."""


def data_schema(options: type[SourceOptions], base: type[Any]) -> type[Any]:
    """The schema of ``data=<source>``: the reader's options and those of the data module.

    Args:
        options: The reader's.
        base: The data module's.
    """
    name = options.__name__.replace("Options", "Data")
    return dataclasses.make_dataclass(name, [], bases=(base, options), namespace={"__module__": __name__})
