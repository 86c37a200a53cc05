"""Packing beside plain Pillow: ``python benchmarks/packing.py faces128.zip --resolution 128 --workers 2``.

The reference makes the content of the same files with Pillow alone, in as many processes: it reads each image, decodes
it, crops and resizes it to the largest level, reduces that to the smaller ones, encodes as PNG what is kept as PNG, and
writes it all to one file a process. It orders, checks, syncs and journals nothing. Both start their processes anew and
take turns.
"""

import argparse
import io
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import IO

from PIL import Image

from imago.data import pack
from imago.data.pyramid import crop_box, resize
from imago.data.sources.folder import FolderSource
from imago.data.sources.subset import Subset

_task: tuple[FolderSource, int, int, IO[bytes]] | None = None


def _start(source: FolderSource, resolution: int, zip_from: int, folder: Path) -> None:
    global _task
    _task = source, resolution, zip_from, open(folder / f"plain-{os.getpid()}", "wb")  # noqa: SIM115


def _plain(index: int) -> None:
    assert _task is not None
    source, resolution, zip_from, out = _task
    image = Image.open(io.BytesIO(source.tree.read(source.names[index]))).convert("RGB")
    level = resize(image.crop(crop_box(image.height, image.width, (4, 4))), resolution, resolution)
    while True:
        if level.height >= zip_from:
            level.save(out, "PNG", compress_level=1)
        else:
            out.write(level.tobytes())
        if level.height == 4:
            break
        level = level.reduce(2)


def time_plain(source: FolderSource, count: int, resolution: int, zip_from: int, workers: int, folder: Path) -> float:
    """Seconds that Pillow takes."""
    started = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _start, (source, resolution, zip_from, folder)) as pool:
        for _ in pool.imap(_plain, range(count), chunksize=max(1, min(32, count // (4 * workers)))):
            pass
    seconds = time.perf_counter() - started
    for path in folder.glob("plain-*"):
        path.unlink()
    return seconds


def time_pack(source: FolderSource, count: int, resolution: int, zip_from: int, workers: int, folder: Path) -> float:
    """Seconds that packing takes."""
    out = folder / "pack"
    started = time.perf_counter()
    pack(
        Subset(source, range(count)),
        out,
        resolution=resolution,
        zip_from=zip_from,
        workers=workers,
        max_unreadable=1.0,
    )
    seconds = time.perf_counter() - started
    shutil.rmtree(out)
    return seconds


def print_png_levels(source: FolderSource, resolution: int, levels: list[int]) -> None:
    """Time and size of an image as PNG, means over ten images."""
    images = []
    for index in range(min(10, len(source))):
        image = Image.fromarray(source.read(index).image)
        images.append(resize(image.crop(crop_box(image.height, image.width, (4, 4))), resolution, resolution))
    for level in levels:
        size, started = 0, time.perf_counter()
        for image in images:
            file = io.BytesIO()
            image.save(file, "PNG", compress_level=level)
            size += file.tell()
        milliseconds = 1000 * (time.perf_counter() - started) / len(images)
        print(f"PNG level {level}: {milliseconds:.0f} ms, {size / len(images) / 1e6:.2f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, help="a folder or zip of images")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--zip-from", type=int, default=256)
    parser.add_argument("--count", type=int, default=4000, help="images a round")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--png-levels", type=int, nargs="*", default=[], help="only time these levels of compression")
    arguments = parser.parse_args()
    source = FolderSource(arguments.images)
    if arguments.png_levels:
        print_png_levels(source, arguments.resolution, arguments.png_levels)
        return
    count = min(arguments.count, len(source))
    plain, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        options = (source, count, arguments.resolution, arguments.zip_from, arguments.workers, Path(folder))
        for _ in range(arguments.rounds):
            plain.append(time_plain(*options))
            ours.append(time_pack(*options))
    ratios = [a / b for a, b in zip(plain, ours, strict=True)]
    print(
        f"{count} images to {arguments.resolution}², {arguments.workers} processes, {arguments.rounds} rounds, medians:"
    )
    print(f"  plain Pillow  {count / statistics.median(plain):8.1f} img/s")
    print(f"  pack          {count / statistics.median(ours):8.1f} img/s")
    print(f"  pack / plain  {statistics.median(ratios):8.2f}   ({min(ratios):.2f}–{max(ratios):.2f})")


if __name__ == "__main__":
    main()
