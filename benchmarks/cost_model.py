"""What a run of PGGAN costs on many processes, by arithmetic: what each sends, reads and waits for.

    python benchmarks/cost_model.py --processes 1 8 64 1000 --growth official_8gpu
    python benchmarks/cost_model.py --processes 2 --batch 16 --seconds-per-image 32=0.05 --latency 1e-4 --bandwidth 1e9

Counts are exact: parameters are those of the networks, batches those of conf/growth. Seconds are a model: a step is the
time of a process's share of the batch, then one all-reduce for each network that steps, with nothing in between that
hides it, as imago's step waits for the gradients before it goes on (:mod:`imago.distributed`). Seconds per image,
latency and bandwidth have to be measured: ``benchmarks/processes.py`` does so for two processes. The defaults are
assumptions about GPUs that docs/scaling.md names the sources of.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate

from conf import schemas
from imago.growth import GrowthSchedule
from imago.metrics.descriptors import PATCH
from imago.metrics.laplacian import level_sizes
from imago.networks import ProgressiveDiscriminator, ProgressiveGenerator

PRESETS = ("paper", "official_1gpu", "official_2gpu", "official_4gpu", "official_8gpu", "none", "quickstart")
FLOAT = 4  # bytes
ZIP_FROM = 256  # heights from here on are stored as PNGs
# What travels with the gradients: WGAN-GP's six terms of the discriminator's loss and one of the generator's, and twice
# the two votes on stopping.
DISCRIMINATOR_SCALARS, GENERATOR_SCALARS = 6 + 2, 1 + 2
# Seconds per training image on one A100 of StyleGAN 2 at these heights (NVlabs/stylegan3, docs/configs.md).
ASSUMED_SECONDS = {128: 0.00679, 256: 0.01253, 512: 0.04106, 1024: 0.09039}


@dataclass(frozen=True)
class Machine:
    """What has been measured, or is assumed.

    Attributes:
        seconds: Per image and height: a process's time for one image in a training step.
        latency: Seconds of one message from a process to the next.
        bandwidth: Bytes per second that each process sends.
        algorithm: ``ring``, or ``tree``: fewer messages one after the other, as NCCL takes between many machines.
        png_share: Size of a stored PNG over that of its pixels.
    """

    seconds: Mapping[int, float]
    latency: float
    bandwidth: float
    algorithm: str = "tree"
    png_share: float = 0.36


class Networks:
    """Both networks of PGGAN, without memory for weights.

    Args:
        resolution: Final height.
        sizes: ``latent_size``, ``fmap_base``, ``fmap_max``.
    """

    def __init__(self, resolution: int, **sizes: int) -> None:
        widths: dict[str, Any] = {key: value for key, value in sizes.items() if key != "latent_size"}
        latent_size = sizes.get("latent_size", 512)
        with torch.device("meta"):
            self.generator = ProgressiveGenerator(resolution, latent_size=latent_size, **widths)
            self.discriminator = ProgressiveDiscriminator(resolution, **widths)

    def active(self, resolution: int, alpha: float = 1.0) -> tuple[int, int]:
        """Parameters of the generator and of the discriminator that a step trains."""
        generator, discriminator = (
            sum(p.numel() for p in network.active_parameters(resolution, alpha))
            for network in (self.generator, self.discriminator)
        )
        return generator, discriminator

    def reduced_bytes(self, resolution: int, alpha: float = 1.0) -> tuple[int, int]:
        """Bytes of the two all-reduces of a step: after the generator's and after the discriminator's backward pass."""
        generator, discriminator = self.active(resolution, alpha)
        return FLOAT * (generator + GENERATOR_SCALARS), FLOAT * (discriminator + DISCRIMINATOR_SCALARS)

    def checkpoint_bytes(self, resolution: int, alpha: float = 1.0) -> int:
        """Numbers in a checkpoint: both networks and the average, whole; two moments of each parameter that trains."""
        whole = [sum(p.numel() for p in network.parameters()) for network in (self.generator, self.discriminator)]
        return FLOAT * (2 * whole[0] + whole[1] + 2 * sum(self.active(resolution, alpha)))


def wire_bytes(count: float, processes: int) -> float:
    """Bytes that each process sends in a ring all-reduce of ``count`` bytes: 2(W − 1)/W of them.

    A reduce-scatter and an all-gather send (W − 1)/W each (Thakur et al. 2005, section 4.5).
    """
    return 2 * (processes - 1) / processes * count


def all_reduce_seconds(count: float, processes: int, machine: Machine) -> float:
    """Seconds of an all-reduce of ``count`` bytes: messages one after the other, and the bytes that each sends."""
    if processes == 1:
        return 0.0
    rounds = 2 * (processes - 1) if machine.algorithm == "ring" else 2 * math.ceil(math.log2(processes))
    return rounds * machine.latency + wire_bytes(count, processes) / machine.bandwidth


def data_bytes(resolution: int, images: float, png_share: float) -> float:
    """Bytes that are read for so many images: of an array, or of PNGs."""
    return images * 3 * resolution**2 * (png_share if resolution >= ZIP_FROM else 1.0)


def most_processes(schedule: GrowthSchedule) -> dict[int, int]:
    """For each height, the number of minibatch-stddev groups in a batch: the most processes that can share it."""
    return {r: batch // min(schedule.mbstd_group, batch) for r, batch in schedule.batch_sizes.items()}


def fitting_processes(schedule: GrowthSchedule) -> list[int]:
    """Numbers of processes among which every batch of the schedule divides into whole groups."""
    common = math.gcd(*most_processes(schedule).values())
    return [count for count in range(1, common + 1) if common % count == 0]


def metric_bytes(resolution: int, processes: int, swd_images: int, feature_images: int, size: int) -> dict[str, float]:
    """Bytes that each process receives in one evaluation.

    Args:
        resolution: Height of the images.
        processes: How many share the work.
        swd_images: Of each set; 128 descriptors an image and level, of both sets, gathered level by level.
        feature_images: Whose features are gathered.
        size: Components of a feature.
    """
    of_others = (processes - 1) / processes
    descriptors = 2 * len(level_sizes(resolution, resolution)) * swd_images * 128 * 3 * PATCH**2 * FLOAT
    return {
        "swd": of_others * descriptors,
        "features": of_others * feature_images * size * FLOAT,
        "ms_ssim": 2 * 8 * (processes - 1),  # two float64 sums of each process
    }


@dataclass(frozen=True)
class Step:
    """A training step of one process among others.

    Attributes:
        batch_size: Of all processes together.
        compute: Seconds of its share; None: not known at this height.
        exchange: Seconds of both all-reduces.
        sent: Bytes that it sends.
        read: Bytes of images that it reads.
    """

    batch_size: int
    enlarged: bool
    compute: float | None
    exchange: float
    sent: float
    read: float

    @property
    def efficiency(self) -> float | None:
        """Share of the time that is not spent on all-reduces."""
        return None if self.compute is None else self.compute / (self.compute + self.exchange)

    @property
    def images_per_second(self) -> float | None:
        """Of all processes together."""
        return None if self.compute is None else self.batch_size / (self.compute + self.exchange)


def step(networks: Networks, schedule: GrowthSchedule, resolution: int, processes: int, machine: Machine) -> Step:
    """A step at a height; where its batch does not divide among the processes, with a batch of one group for each."""
    batch = schedule.batch_sizes[resolution]
    group = min(schedule.mbstd_group, batch)
    enlarged = batch % (processes * group) != 0
    if enlarged:
        batch = processes * group
    share = batch // processes
    counts = networks.reduced_bytes(resolution)
    seconds = machine.seconds.get(resolution)
    return Step(
        batch,
        enlarged,
        None if seconds is None else share * seconds,
        sum(all_reduce_seconds(count, processes, machine) for count in counts),
        sum(wire_bytes(count, processes) for count in counts),
        data_bytes(resolution, share, machine.png_share),
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def preset(name: str, resolution: int, batch: int | None = None) -> GrowthSchedule:
    """The schedule of ``growth=name``, with another batch size if one is given."""
    GlobalHydra.instance().clear()
    schemas.register()
    more = [] if batch is None else [f"growth.batch_size={batch}"]
    with initialize_config_module("conf", version_base="1.3"):
        growth = compose("train", overrides=[f"growth={name}", f"resolution={resolution}", *more]).growth
        start = growth.start_resolution or 4
        return instantiate(growth, resolution=resolution, start_resolution=start, _convert_="all")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *rows])


def amount(count: float) -> str:
    """Bytes in decimal units, to three digits."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def limits_table(resolution: int) -> str:
    """Most processes per preset and height, and those that every batch divides among."""
    rows = []
    for name in PRESETS:
        schedule = preset(name, resolution)
        at = most_processes(schedule)
        cells = [str(at[r]) if r in at else "" for r in _heights(resolution)]
        rows.append([f"`{name}`", *cells, ", ".join(map(str, fitting_processes(schedule)))])
    return table(["growth", *(f"{r}²" for r in _heights(resolution)), "the whole run"], rows)


def gradients_table(networks: Networks, resolution: int, png_share: float) -> str:
    """What a step exchanges and reads per height, whatever the number of processes."""
    rows = []
    for r in _heights(resolution):
        generator, discriminator = networks.active(r)
        image, saved = data_bytes(r, 1, png_share), networks.checkpoint_bytes(r)
        exchanged = sum(networks.reduced_bytes(r))
        rows.append([f"{r}²", f"{generator:,}", f"{discriminator:,}", *map(amount, (exchanged, image, saved))])
    columns = ["", "generator", "discriminator", "all-reduced per step", "read per image", "checkpoint"]
    return table(columns, rows)


def steps_table(networks: Networks, schedule: GrowthSchedule, processes: Sequence[int], machine: Machine) -> str:
    """A step on each number of processes, at the heights whose seconds are known."""
    rows = []
    for count in processes:
        for r in (r for r in schedule.resolutions if r in machine.seconds):
            s = step(networks, schedule, r, count, machine)
            assert s.compute is not None
            assert s.images_per_second is not None
            batch = f"**{s.batch_size:,}**" if s.enlarged else f"{s.batch_size:,}"
            times = [f"{1e3 * s.compute:.3g}", f"{1e3 * s.exchange:.3g}", f"{s.efficiency:.1%}"]
            read = s.read * count * s.images_per_second / s.batch_size
            cells = [amount(s.sent), *times, f"{s.images_per_second:,.3g}", f"{amount(read)}/s"]
            rows.append([str(count), f"{r}²", batch, str(s.batch_size // count), *cells])
    columns = ["processes", "", "batch", "images each", "sent each", "compute, ms", "all-reduce, ms"]
    return table([*columns, "efficiency", "img/s", "read by all"], rows)


def other_table(networks: Networks, resolution: int, processes: Sequence[int], metrics: Sequence[int]) -> str:
    """Evaluations and the start, on each number of processes."""
    rows = []
    saved = networks.checkpoint_bytes(resolution)
    for count in processes:
        received = metric_bytes(resolution, count, *metrics)
        together = count * sum(received.values())
        rows.append([str(count), *map(amount, (*received.values(), together, saved * count))])
    names = ["swd", "features", "ms_ssim"]
    return table(
        ["processes", *(f"{name}: each receives" for name in names), "all of them", "checkpoint: read by all"], rows
    )


def _heights(resolution: int) -> list[int]:
    return [4 << i for i in range(resolution.bit_length() - 2)]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What a run of PGGAN costs on many processes.")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 8, 64, 1000])
    parser.add_argument("--growth", choices=PRESETS, default="official_8gpu")
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--batch", type=int, help="at all heights, instead of the preset's")
    parser.add_argument(
        "--seconds-per-image", nargs="+", metavar="HEIGHT=SECONDS", help="default: StyleGAN 2 on an A100, from 128 on"
    )
    parser.add_argument("--latency", type=float, default=1e-5, help="seconds of a message (default: 1e-5)")
    parser.add_argument("--bandwidth", type=float, default=40e9, help="bytes/s of a process (default: 40e9)")
    parser.add_argument("--algorithm", choices=("ring", "tree"), default="tree")
    parser.add_argument("--png-share", type=float, default=0.36, help="PNG over pixels (default: 0.36)")
    parser.add_argument("--swd-images", type=int, default=16384)
    parser.add_argument("--feature-images", type=int, default=10000)
    parser.add_argument("--feature-size", type=int, default=2048, help="Inception: 2048 (default); face: 128")
    parser.add_argument("--latent-size", type=int, default=512)
    parser.add_argument("--fmap-base", type=int, default=8192)
    parser.add_argument("--fmap-max", type=int, default=512)
    parser.add_argument("--out", type=Path, help="also write the tables to a .md file")
    a = parser.parse_args(argv)
    if a.resolution < 16 or a.resolution & (a.resolution - 1):
        parser.error(f"--resolution {a.resolution}: must be a power of two from 16 up")
    if min(a.processes) < 1 or min(a.latency, a.bandwidth) <= 0:
        parser.error("--processes, --latency and --bandwidth must be above 0")
    if a.out is not None and a.out.suffix != ".md":
        parser.error(f"--out {a.out}: must end in .md")
    seconds = dict(ASSUMED_SECONDS)
    if a.seconds_per_image:
        try:
            seconds = {int(height): float(s) for height, s in (pair.split("=") for pair in a.seconds_per_image)}
        except ValueError:
            parser.error("--seconds-per-image: must be pairs such as 64=0.01")
    machine = Machine(seconds, a.latency, a.bandwidth, a.algorithm, a.png_share)
    networks = Networks(a.resolution, latent_size=a.latent_size, fmap_base=a.fmap_base, fmap_max=a.fmap_max)
    schedule = preset(a.growth, a.resolution, a.batch)
    metrics = (a.swd_images, a.feature_images, a.feature_size)
    titles = [
        ("Most processes", limits_table(a.resolution)),
        ("A step, whatever the number of processes", gradients_table(networks, a.resolution, a.png_share)),
        (f"A step of growth={a.growth}; **bold**: enlarged", steps_table(networks, schedule, a.processes, machine)),
        ("Evaluation and start", other_table(networks, a.resolution, a.processes, metrics)),
    ]
    text = "\n\n".join(f"{title}\n\n{content}" for title, content in titles) + "\n"
    print(text, end="")
    if a.out is not None:
        a.out.parent.mkdir(parents=True, exist_ok=True)
        a.out.write_text(text)
        print(f"wrote {a.out}")


if __name__ == "__main__":
    main()
