"""The options of generate.py, checked by Hydra against the types given here."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from conf.dataset_schema import DatasetConfig


@dataclass
class GenerateConfig:
    """What to make from a trained generator, and how.

    A picture is identified by its seed and its number: picture 12 of seed 0 is the same picture however many are made
    around it, in whatever batches, and its file is called ``seed0000-00012.png``.
    """

    # A run directory, a .ckpt file or a generator .safetensors.
    checkpoint: str = MISSING

    # images: one file per picture; grid: all of them in one file; interpolation: a film that loops; dataset: a packed
    # data set of `count` pictures, in the folder `out`. Of the run that the checkpoint belongs to, errors: those of
    # both networks; activations: mean and variance layer by layer (of a run with callbacks=activations).
    what: str = "images"

    # Folder to write to. By default generated/<images seen> in the run that the checkpoint belongs to.
    out: str | None = None

    # Any other seed gives other pictures.
    seed: int = 0

    # Several seeds at once, in place of `seed`: `count` pictures (or keyframes) of each.
    seeds: list[int] | None = None

    # How many pictures, numbered from 0. A grid with both rows and columns holds rows × columns instead.
    count: int = 16

    # These numbers in place of 0 … count - 1: pictures=[12] makes picture 12 again, pictures=[12,40,7] a film through
    # these three (with what=interpolation and path=slerp or cubic).
    pictures: list[int] | None = None

    # A resolution that the generator was trained at on its way; by default the last.
    resolution: int | None = None

    # Of a conditional generator, by name: labels.glasses=eyeglasses labels.smile=yes. What is not given is as in a
    # random training image that has what is given.
    labels: dict[str, Any] = field(default_factory=dict)

    # what=dataset: which pictures are kept.
    dataset: DatasetConfig = field(default_factory=DatasetConfig)

    # Pictures as large as those of the data set, where HDCGAN's Glasses enlarged them.
    read_back: bool = False

    # 1 is off; lower is less varied: each latent keeps this fraction of its angle to a random centre (drawn from the
    # seed), so all pictures become variations on one. In (0, 1].
    truncation: float = 1.0

    # Pictures per pass through the generator: lower it if memory runs out. It does not change the pictures, except
    # that floating-point sums ordered otherwise may move a value by one in 255.
    batch_size: int = 16

    # Shape of a grid (by default the smallest square that holds `count`) or of a film that shows several at once (by
    # default a single picture).
    columns: int | None = None
    rows: int | None = None

    # How a film moves. gaussian: blurred noise, as in the film of Karras et al. 2018 (section 6.3); slerp: along great
    # circles through pictures 0 … keyframes - 1; cubic: a smooth curve through them.
    path: str = "gaussian"

    # Length of a film; its end leads back to its beginning. A gaussian path needs 3 s or more to move much.
    seconds: float = 10.0
    fps: int = 30

    # Pictures that a slerp or cubic path passes through.
    keyframes: int = 8

    # mp4, gif or webp; by default mp4 where av is installed (pip install 'imago[video]'), else webp.
    film: str | None = None

    # Of pictures and grids: png, jpg or webp (without loss).
    format: str = "png"

    # Repeat every pixel this many times in both directions, to look at small pictures.
    scale: int = 1

    # Of what=errors: images in an epoch, for an axis of epochs. By default those that the run trained on, where these
    # are packed or drawn.
    epoch: int | None = None

    # Write seed, number, checkpoint and settings into each picture (PNG text, EXIF elsewhere).
    metadata: bool = True

    # auto (a GPU where there is one), cpu, cuda, cuda:1, mps.
    device: str = "auto"
