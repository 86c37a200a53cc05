"""How often a degraded copy of a picture ranks below its original by the quality score.

    python benchmarks/image_quality.py $DATA/celebahq_sample.zip --half design
    python benchmarks/image_quality.py $DATA/celebahq_sample.zip --half report --sheet best_and_worst.png
    python benchmarks/image_quality.py $DATA/faces128.zip --every 80
    python benchmarks/image_quality.py $DATA/celebahq_sample.zip --half report --focus

The two halves of the pictures are those with an even and an odd place in the collection. The sheet shows the best and
the worst originals with their scores.
"""

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from imago.data.contact_sheet import best_and_worst
from imago.data.quality import score_image
from imago.data.sources.folder import FolderSource
from imago.images import save_image

Picture = NDArray[np.uint8]
Degradation = Callable[[Picture, np.random.Generator], Picture]


def blur(sigma: float) -> Degradation:
    """Gaussian, in pixels."""
    return lambda image, rng: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def noise(sigma: float) -> Degradation:
    """White, independent in the three colours, in grey levels."""
    return lambda image, rng: np.clip(np.rint(image + rng.normal(0, sigma, image.shape)), 0, 255).astype(np.uint8)


def jpeg(quality: int) -> Degradation:
    """Pillow's JPEG, colours at half resolution."""

    def degrade(image: Picture, rng: np.random.Generator) -> Picture:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return degrade


def resized_jpeg(quality: int, factor: float) -> Degradation:
    """A JPEG of a smaller picture, enlarged again: its blocks are no longer 8 pixels wide."""

    def degrade(image: Picture, rng: np.random.Generator) -> Picture:
        height, width = image.shape[:2]
        small = Image.fromarray(image).resize((round(width / factor), round(height / factor)), Image.Resampling.LANCZOS)
        crushed = Image.fromarray(jpeg(quality)(np.asarray(small), rng))
        return np.asarray(crushed.resize((width, height), Image.Resampling.BICUBIC))

    return degrade


def ordered_screen(side: int, strength: float) -> Degradation:
    """Bayer's ordered dither of two levels, blended with the original."""
    matrix = np.zeros((1, 1))
    while len(matrix) < side:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    threshold = 255 * (matrix + 0.5) / side**2

    def degrade(image: Picture, rng: np.random.Generator) -> Picture:
        height, width = image.shape[:2]
        tiled = np.tile(threshold, (height // side + 1, width // side + 1))[:height, :width, None]
        return blend(image, image > tiled, strength)

    return degrade


def screen(pitch: float, degrees: float, strength: float, dots: bool) -> Degradation:
    """A printing screen of lines or dots, `pitch` pixels apart, blended with the original."""

    def degrade(image: Picture, rng: np.random.Generator) -> Picture:
        y, x = np.mgrid[: image.shape[0], : image.shape[1]]
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        across = np.cos(2 * np.pi * (x * c + y * s) / pitch)
        along = np.cos(2 * np.pi * (y * c - x * s) / pitch)
        wave = (across + along) / 2 if dots else across
        return blend(image, image > (127.5 + 125 * wave)[..., None], strength)

    return degrade


def blend(image: Picture, printed: NDArray[np.bool_], strength: float) -> Picture:
    return np.rint((1 - strength) * image + strength * 255 * printed).astype(np.uint8)


def out_of_focus(face: float, background: float) -> Degradation:
    """Blurs of their own for what lies within an ellipse about the size of an aligned face, and for the rest."""

    def degrade(image: Picture, rng: np.random.Generator) -> Picture:
        y, x = (np.linspace(-1, 1, side) for side in image.shape[:2])
        radius = np.hypot(x[None, :] / 0.55, (y[:, None] - 0.1) / 0.75)
        within = np.clip((1.1 - radius) / 0.2, 0, 1)[..., None]
        inner, outer = (blur(sigma)(image, rng) if sigma else image for sigma in (face, background))
        return np.rint(within * inner + (1 - within) * outer).astype(np.uint8)

    return degrade


def focus(originals: list[Picture], scores: NDArray[np.float64]) -> None:
    """Prints whether the score minds a blurred background as much as a blurred face."""
    rng = np.random.default_rng(0)
    face, background = (
        np.array([float(score_image(out_of_focus(*sigmas)(image, rng))["quality"]) for image in originals])
        for sigmas in ((3.0, 0.0), (0.0, 8.0))
    )
    for name, values in (("face blurred, σ 3", face), ("background blurred, σ 8", background)):
        print(f"{name}: median quality {np.median(values):.2f}, change {np.median(values - scores):+.3f}")
    print(f"the picture with the blurred face ranks lower in {100 * (face < background).mean():.1f} %")


def degradations() -> dict[str, Degradation]:
    """All that is tried, by name."""
    tried: dict[str, Degradation] = {}
    tried |= {f"blur σ {sigma:g}": blur(sigma) for sigma in (0.5, 0.7, 1, 1.5, 3, 6)}
    tried |= {f"noise σ {sigma:g}": noise(sigma) for sigma in (1, 2.5, 5, 10, 25)}
    tried |= {f"JPEG {quality}": jpeg(quality) for quality in (5, 10, 20, 40, 60, 75)}
    tried |= {f"JPEG {quality} at 1/1.7": resized_jpeg(quality, 1.7) for quality in (10, 40)}
    for strength in (1.0, 0.5, 0.2, 0.05):
        percent = f"{100 * strength:g} %"
        tried |= {f"ordered {side}, {percent}": ordered_screen(side, strength) for side in (4, 8)}
        for pitch, degrees in ((4, 45), (6, 15), (10, 0)):
            tried[f"lines {pitch} px {degrees}°, {percent}"] = screen(pitch, degrees, strength, dots=False)
        for pitch, degrees in ((5, 45), (8, 15)):
            tried[f"dots {pitch} px {degrees}°, {percent}"] = screen(pitch, degrees, strength, dots=True)
    return tried


def pictures(source: str, size: int | None, half: str, every: int) -> list[Picture]:
    """The pictures of a folder or zip; of `size` each, cut square, where it is given."""
    photos = FolderSource(source)
    places = {"all": range(len(photos)), "design": range(0, len(photos), 2), "report": range(1, len(photos), 2)}[half]
    found = []
    for index in places[::every]:
        image = photos.read(index).image
        if size is not None:
            side = min(image.shape[:2])
            top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
            square = Image.fromarray(image[top : top + side, left : left + side])
            image = np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))
        found.append(image)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a folder or zip of pictures")
    parser.add_argument("--half", choices=("all", "design", "report"), default="all")
    parser.add_argument("--every", type=int, default=1, help="take every so many")
    parser.add_argument("--size", type=int, help="cut square and resize first")
    parser.add_argument("--focus", action="store_true", help="compare blurred faces with blurred backgrounds instead")
    parser.add_argument("--sheet", type=Path, help="write the best and the worst here")
    options = parser.parse_args()
    originals = pictures(options.source, options.size, options.half, options.every)
    start = time.process_time()
    scores = np.array([float(score_image(image)["quality"]) for image in originals])
    seconds = (time.process_time() - start) / len(originals)
    height, width = originals[0].shape[:2]
    print(f"{len(originals)} pictures, {1000 * seconds:.1f} ms each ({width}x{height}), quality", end=" ")
    print(" / ".join(f"{value:.2f}" for value in np.quantile(scores, (0.05, 0.5, 0.95))), "(5 %, median, 95 %)")
    if options.sheet:
        print(save_image(options.sheet, best_and_worst(scores.tolist(), lambda index: originals[index])))
    if options.focus:
        focus(originals, scores)
        return 0
    print("\n| | ranks below the original | median quality |\n|---|---|---|")
    for name, degrade in degradations().items():
        rng = np.random.default_rng(0)
        worse = np.array([float(score_image(degrade(image, rng))["quality"]) for image in originals])
        print(f"| {name} | {100 * (worse < scores).mean():.1f} % | {np.median(worse):.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
