"""Loading beside decoding: ``python benchmarks/loading.py faces128.zip --resolutions 32 64 128``.

Up to 128² batches are gathered from arrays; the reference decodes the original JPEGs for every sample and resizes
them, as a loader without a pack does. From 256² on batches are decoded from PNGs; the reference decodes the same PNGs
and does nothing else, in as many processes as the loader has threads. Both take turns.
"""

import argparse
import io
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from datamodules.packed import BatchStream
from imago.data import PackedDataset, pack
from imago.data.pyramid import crop_box, resize
from imago.data.sources.folder import FolderSource
from imago.data.sources.subset import Subset
from imago.growth import GrowthSchedule

_png_source: tuple[PackedDataset, int] | None = None


def rate_of_loading(dataset: PackedDataset, resolution: int, batch: int, threads: int, seconds: float) -> float:
    """Images per second that come in training's order, half of them mirrored; the first batches do not count."""
    schedule = GrowthSchedule(resolution, resolution, final_images=10**12, batch_size=batch)
    stream = BatchStream(dataset, schedule, seed=0, threads=threads)
    batches: Iterator[object] = iter(DataLoader(stream, batch_size=None))
    for _ in islice(batches, 2 * threads + 2):  # until what was made ahead of the clock is used up
        pass
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        next(batches)
        count += batch
    return count / (time.perf_counter() - started)


def rate_of_jpegs(source: FolderSource, resolution: int, seconds: float) -> float:
    """Images per second that one process decodes from the original files and resizes."""
    order = np.random.default_rng(0).permutation(len(source)).tolist()
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        image = Image.open(io.BytesIO(source.tree.read(source.names[order[count % len(order)]]))).convert("RGB")
        image = image.crop(crop_box(image.height, image.width, (4, 4)))
        torch.from_numpy(np.array(resize(image, resolution, resolution)).transpose(2, 0, 1))
        count += 1
    return count / (time.perf_counter() - started)


def _start(dataset: PackedDataset, resolution: int) -> None:
    global _png_source
    _png_source = dataset, resolution


def _decode_for(seconds: float) -> float:
    assert _png_source is not None
    dataset, resolution = _png_source
    order = np.random.default_rng(0).permutation(len(dataset)).tolist()
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        Image.open(io.BytesIO(dataset.encoded(order[count % len(order)], resolution))).load()
        count += 1
    return count / (time.perf_counter() - started)


def rate_of_pngs(dataset: PackedDataset, resolution: int, workers: int, seconds: float) -> float:
    """Images per second that `workers` processes decode from the pack's PNGs."""
    with multiprocessing.get_context("fork").Pool(workers, _start, (dataset, resolution)) as pool:
        return sum(pool.map(_decode_for, [seconds] * workers, chunksize=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, help="a folder or zip of JPEGs")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--count", type=int, default=4000, help="images in the pack")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2, help="threads, or processes of the reference, from 256² on")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    source = FolderSource(arguments.images)
    count = min(arguments.count, len(source))
    print("| Resolution | loaded, img/s | reference, img/s | × reference (min–max) |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        largest = max(arguments.resolutions)
        dataset = pack(Subset(source, range(count)), Path(folder) / "pack", resolution=largest, workers=2)
        for resolution in arguments.resolutions:
            loaded, reference = [], []
            for _ in range(arguments.rounds):
                threads = arguments.threads
                loaded.append(rate_of_loading(dataset, resolution, arguments.batch, threads, arguments.seconds))
                if dataset.is_compressed(resolution):
                    reference.append(rate_of_pngs(dataset, resolution, threads, arguments.seconds))
                else:
                    reference.append(rate_of_jpegs(source, resolution, arguments.seconds))
            ratios = [a / b for a, b in zip(loaded, reference, strict=True)]
            print(
                f"| {resolution}² | {statistics.median(loaded):,.0f} | {statistics.median(reference):,.0f} "
                f"| {statistics.median(ratios):.3g} ({min(ratios):.3g}–{max(ratios):.3g}) |"
            )


if __name__ == "__main__":
    main()
