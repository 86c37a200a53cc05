"""Image metrics beside the official code's arithmetic in NumPy: time, in turns, or peak memory.

    python benchmarks/image_metrics.py --metric swd --count 16384 --rounds 1
    python benchmarks/image_metrics.py --metric ms_ssim --count 2048
    python benchmarks/image_metrics.py --metric swd --count 16384 --resolution 1024 --memory

SWD compares --count images with as many others; MS-SSIM compares the first half of --count images with the second. The
reference takes the threads that NumPy takes: OMP_NUM_THREADS sets them. With --memory only imago runs, on images that
come in batches and are not kept.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Iterator

import numpy as np
import reference_metrics as reference
import torch
from torch import Tensor

from imago.metrics.ms_ssim import MultiScaleSsim
from imago.metrics.sliced_wasserstein import SlicedWasserstein

_POOL = 64


def batches(count: int, resolution: int, seed: int, size: int) -> Iterator[tuple[int, Tensor]]:
    """Images in batches, each with the index of its first: a few, moved around so that none comes twice."""
    pool = reference.blocky_images(min(_POOL, 2 * max(1, 2**22 // resolution**2)), resolution, seed)
    for start in range(0, count, size):
        indices = range(start, min(start + size, count))
        moved = [np.roll(pool[i % len(pool)], (i // len(pool)) * 37, axis=(1, 2)) for i in indices]
        yield start, torch.from_numpy(np.stack(moved))


def whole(count: int, resolution: int, seed: int) -> Tensor:
    return torch.cat([batch for _, batch in batches(count, resolution, seed, 256)])


def run_swd(count: int, resolution: int, batch: int) -> tuple[float, float]:
    """Seconds without those in which images are made, and the mean distance."""
    metric = SlicedWasserstein()
    seconds = 0.0
    for real in (True, False):
        for first, images in batches(count, resolution, int(real), batch):
            started = time.perf_counter()
            metric.update(images, first, real)
            seconds += time.perf_counter() - started
    started = time.perf_counter()
    result = metric.compute()["avg"]
    return seconds + time.perf_counter() - started, result


def run_ms_ssim(count: int, resolution: int, batch: int) -> tuple[float, float]:
    """Likewise, and the mean similarity."""
    metric = MultiScaleSsim()
    seconds = 0.0
    others = batches(count // 2, resolution, 1, batch)
    for (_, a), (_, b) in zip(batches(count // 2, resolution, 0, batch), others, strict=True):
        started = time.perf_counter()
        metric.update(a, b)
        seconds += time.perf_counter() - started
    return seconds, float(metric.compute())


def reference_swd(count: int, resolution: int) -> tuple[float, float]:
    real, fake = (whole(count, resolution, seed).numpy() for seed in (1, 0))
    started = time.perf_counter()
    result = float(np.mean(reference.sliced_wasserstein(real, fake, seed=0)))
    return time.perf_counter() - started, result


def reference_ms_ssim(count: int, resolution: int) -> tuple[float, float]:
    a, b = (whole(count // 2, resolution, seed).numpy() for seed in (0, 1))
    started = time.perf_counter()
    parts = [reference.ms_ssim(a[i : i + 64], b[i : i + 64], np.float32) for i in range(0, len(a), 64)]
    return time.perf_counter() - started, float(np.concatenate(parts).mean())


RUNS = {"swd": (run_swd, reference_swd), "ms_ssim": (run_ms_ssim, reference_ms_ssim)}


def peak_memory() -> float:
    """Most memory that this process has held so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--metric", choices=sorted(RUNS), required=True)
    parser.add_argument("--count", type=int, default=256, help="images (of each set)")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--batch", type=int, help="images that come at once; as the official code by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="peak memory of imago instead of times")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    count, resolution = arguments.count, arguments.resolution
    batch = arguments.batch or min(max(8192 // resolution, 4), 256)
    ours, theirs = RUNS[arguments.metric]
    title = f"{arguments.metric}, {count} images of {resolution}²"
    if arguments.memory:
        before = peak_memory()
        seconds, result = ours(count, resolution, batch)
        print(
            f"{title}: {result:.4g} in {seconds:.1f} s; at most {peak_memory():.2f} GiB, {before:.2f} before it began"
        )
        return
    times, reference_times = [], []
    for _ in range(arguments.rounds):
        seconds, result = ours(count, resolution, batch)
        times.append(seconds)
        reference_seconds, reference_result = theirs(count, resolution)
        reference_times.append(reference_seconds)
    ratios = [slow / fast for slow, fast in zip(reference_times, times, strict=True)]
    print(f"{title}: imago finds {result:.5g}, the reference {reference_result:.5g}")
    print("| imago, s | img/s | reference, s | img/s | reference / imago (min–max) |\n|---|---|---|---|---|")
    fast, slow = statistics.median(times), statistics.median(reference_times)
    print(
        f"| {fast:.3g} | {count / fast:,.0f} | {slow:.3g} | {count / slow:,.0f} "
        f"| {statistics.median(ratios):.3g} ({min(ratios):.3g}–{max(ratios):.3g}) |"
    )


if __name__ == "__main__":
    main()
