"""The options of evaluate.py, checked by Hydra against the types given here."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from imago.evaluation.protocol import Protocol


@dataclass
class EvaluateConfig:
    """What to measure of which generators."""

    # metrics: of generators; compare: a table of all runs below `runs`, with the newest samples of each.
    what: str = "metrics"

    # Of what=compare: a sweep's folder, a pattern with a star, or a list of run directories.
    runs: Any = None

    # Of what=compare: a column of metrics.csv; the best run comes first, with a minus before it the worst. By default
    # the metric by which runs kept their best generator, or the first one that was measured.
    sort_by: str | None = None

    # A run directory, a .ckpt file or a generator .safetensors; or several, as a list or with a star, to see a curve:
    # runs/a/generators/*.safetensors
    checkpoint: Any = None

    # swd, ms_ssim; frechet (fid), kernel (kid), precision_recall (pr), inception_score (is), of `features`; faces,
    # neighbours, memorisation, modes, path_length (ppl).
    metrics: list[str] = field(default_factory=lambda: ["swd", "ms_ssim"])

    # The real images; without data=…, data.path=… or data.root=…, those that the run was trained on.
    data: Any = MISSING

    protocol: Protocol = field(default_factory=Protocol)

    # Report to write, ending in .json; a Markdown table and, for several generators, a plot are written beside it. By
    # default evaluation/<images seen>-<metrics>-<hash of the settings>.json in the run that the checkpoint belongs to.
    out: str | None = None

    # Of several generators: plot over epochs rather than thousands of images; of all that the run trained on, where
    # these are packed or drawn, else of the real images.
    epochs: bool = False

    # Of several generators: affine draws a straight line through each curve and prints it.
    fit: str | None = None

    # Any other seed gives other samples, descriptors and projections.
    seed: int = 0

    # Height of the images; by default what the given generators grow to. Smaller ones are enlarged by repeating pixels.
    resolution: int | None = None

    # What frechet, kernel, precision_recall, inception_score and memorisation look at: face (dlib's embedding, needs
    # imago[faces]), inception (needs imago[fid]), torchscript, vgg16.
    features: str = "face"

    # The network's file, for inception, torchscript and vgg16.
    weights: str | None = None

    # VGG16's weights (vgg16-397923af.pth), for path_length and neighbour_distance=vgg16.
    vgg16_weights: str | None = None

    # How an image gets the size that the network wants: tf1, clean or box; by default as the network's makers do.
    resize: str | None = None

    # Measure real images against real images, too: the value that a perfect generator would have.
    floor: bool = True

    # neighbours: this many samples, with their `neighbours` nearest training images, as a picture.
    neighbour_samples: int = 8
    neighbours: int = 5

    # neighbours: pixel, or vgg16 (needs `vgg16_weights`), or face.
    neighbour_distance: str = "pixel"

    # neighbours: the part of the picture that is compared, around its centre.
    neighbour_crop: float = 0.6

    # memorisation: images that were not trained on, a folder, zip or pack.
    held_out: str | None = None

    # modes: the folder of MNIST's files, to train the digit classifier on.
    digits: str | None = None

    # path_length: full (along the whole path) or end (at its beginning).
    path_sampling: str = "full"

    # Of an up-resolution network: pictures to enlarge, at most; and whether their small versions are made to look like
    # what a first stage or JPEG leaves, as in training.
    pictures: int = 64
    degraded: bool = False

    # Images per pass through the generator.
    batch_size: int = 64

    # auto (a GPU where there is one), cpu, cuda, cuda:1, mps.
    device: str = "auto"

    # Processes that share the work: on as many GPUs, or on CPUs with device=cpu.
    processes: int = 1

    # Results of real images are kept in the folder metrics in here; by default in $IMAGO_CACHE or ~/.cache/imago.
    cache: str | None = None
