"""What each metric sees: real images against the same kind of images, degraded in known ways.

    python benchmarks/metric_ladder.py faces.zip --count 4096

The set is cut in two. One part is the reference; the other is measured against it as it is, and blurred, with noise,
with less contrast, and with only sixteen of its images repeated.
"""

import argparse
import contextlib
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from datamodules.progress import PreparationProgress
from imago import randomness
from imago.data.packing import cached_pack
from imago.data.sources.folder import FolderSource
from imago.evaluation.building import MeasureBuilder, MeasureOptions
from imago.evaluation.image_sets import ImageSet
from imago.evaluation.measure import Reals, Row, evaluate
from imago.evaluation.protocol import Protocol
from imago.evaluation.report import number

COLLAPSED = 16


def blurred(images: Tensor, sigma: float) -> Tensor:
    """uint8 ``(N, C, H, W)``, each blurred with a Gaussian of `sigma` pixels."""
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).reshape(1, 1, -1, 1)
    planes = pad(images.float().flatten(0, 1)[:, None], [radius] * 4, mode="reflect")  # (N·C, 1, H, W)
    return conv2d(conv2d(planes, kernel), kernel.mT).reshape(images.shape).round().byte()


def noisy(images: Tensor, first: int, sigma: float) -> Tensor:
    """With Gaussian noise of `sigma` grey levels."""
    size = images[0].numel()
    noise = randomness.normal(0, f"ladder/noise/{sigma}", first, len(images), size)
    return (images + sigma * torch.from_numpy(noise).reshape(images.shape)).round().clamp(0, 255).byte()


def less_contrast(images: Tensor, gain: float, offset: float) -> Tensor:
    """Contrast and brightness of all images changed alike."""
    return ((images.float() - 127.5) * gain + 127.5 + offset).round().clamp(0, 255).byte()


class Changed:
    """An image set seen through a function of (number of the first image, images)."""

    def __init__(self, images: ImageSet, change: Callable[[int, Tensor], Tensor]) -> None:
        self.source = images
        self.change = change

    def images(self, first: int, count: int) -> Tensor:
        return self.change(first, self.source.images(first, count))


class Repeated:
    """The first few images of a set, drawn at random again and again."""

    def __init__(self, images: ImageSet, few: int) -> None:
        self.few = images.images(0, few)

    def images(self, first: int, count: int) -> Tensor:
        draws = randomness.uniform(0, "ladder/repeated", first, count)[:, 0]
        return self.few[torch.from_numpy((draws * len(self.few)).astype(int))]


def rungs(others: ImageSet) -> dict[str, ImageSet]:
    """The ladder: name → images."""
    return {
        "the other half": others,
        "blur σ 0.5": Changed(others, lambda _, images: blurred(images, 0.5)),
        "blur σ 1": Changed(others, lambda _, images: blurred(images, 1.0)),
        "blur σ 2": Changed(others, lambda _, images: blurred(images, 2.0)),
        "noise σ 5": Changed(others, lambda first, images: noisy(images, first, 5.0)),
        "noise σ 20": Changed(others, lambda first, images: noisy(images, first, 20.0)),
        "contrast × 0.7": Changed(others, lambda _, images: less_contrast(images, 0.7, 0)),
        "contrast × 0.9, brightness + 20": Changed(others, lambda _, images: less_contrast(images, 0.9, 20)),
        f"{COLLAPSED} images repeated": Repeated(others, COLLAPSED),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder or zip of images")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--count", type=int, default=4096, help="images of each part")
    parser.add_argument("--metrics", nargs="+", default=["swd", "ms_ssim", "frechet"])
    parser.add_argument("--features", default="face")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        dataset = cached_pack(FolderSource(options.source), folder, resolution=options.resolution)
        if len(dataset) < 2 * options.count:
            parser.error(f"{len(dataset)} images are fewer than two parts of {options.count}")
        protocol = Protocol(
            swd_images=options.count, ms_ssim_images=options.count, feature_images=options.count, face_images=500
        )
        wanted = MeasureOptions(options.metrics, protocol, features=options.features, floor=False, cache=folder)
        measures = MeasureBuilder(wanted, torch.device("cpu"), options.resolution).build()
        reals = Reals.of(dataset, options.resolution, mirror=False)
        for measure in measures:
            measure.prepare(reals, PreparationProgress)
        for i, (name, images) in enumerate(rungs(reals.others).items()):
            rows = evaluate(measures, images, wanted.batch_size, name, PreparationProgress)
            print(line(name, rows, header=i == 0), flush=True)


def line(name: str, rows: list[Row], header: bool) -> str:
    """A row of a Markdown table."""
    text = f"| {name} | " + " | ".join(number(row.value) for row in rows) + " |"
    if header:
        names = "| | " + " | ".join(row.metric for row in rows) + " |\n" + "|---" * (len(rows) + 1) + "|\n"
        return names + text
    return text


if __name__ == "__main__":
    main()
