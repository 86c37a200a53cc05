"""Images per second of one training step at each resolution, beside a plain reference step.

    python benchmarks/training_step.py --resolutions 4 8 16 32 64 --rounds 5 --out step.md
    python benchmarks/training_step.py --memory

What is timed is :meth:`PGGAN.training_step` itself with the callbacks that belong to the model, in float32 and under
the bfloat16 autocast that Lightning's ``bf16-mixed`` uses; a small stand-in takes the trainer's place. The reference is
:mod:`reference_step`, always in float32. All variants take turns in every round and a speed-up is the ratio of two
neighbouring measurements, because other work on the machine slows all of them alike. Where that is not enough,
``--clock cpu --threads 1`` counts processor time: two threads that share their cores with others mostly wait for each
other.
"""

import argparse
import contextlib
import datetime
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytorch_lightning as pl
import torch
from reference_step import Reference, reference_step
from rich.console import Console
from rich.table import Table

from imago.growth import GrowthSchedule
from imago.losses import WganGp
from lightning_modules.adversarial import AdversarialModule
from lightning_modules.pggan import PGGAN

BATCH_SIZES = {4: 16, 64: 8, 128: 4, 1024: 3}  # of the largest resolution that is not above
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
RESOLUTIONS = (4, 8, 16, 32, 64, 128, 256)


class ImagoStep:
    """imago's step, with what Lightning does around it.

    Args:
        resolution: Height of the images; the networks are grown to it.
        batch_size: Images per step.
        precision: ``fp32`` or ``bf16`` (mixed).
        device: Where to train.
        fmap_max: At most this many feature maps; 512 in the paper.
        module: Another model than PGGAN.
    """

    def __init__(
        self,
        resolution: int,
        batch_size: int,
        precision: str,
        device: torch.device,
        fmap_max: int = 512,
        module: AdversarialModule | None = None,
    ):
        schedule = GrowthSchedule(resolution, start_resolution=resolution, batch_size=batch_size)
        module = module or PGGAN(WganGp(), schedule, latent_size=fmap_max, fmap_max=fmap_max)
        self.module = module.to(device)
        self.callbacks = self.module.configure_callbacks()
        self.precision = precision
        self.device = device
        trainer = SimpleNamespace(
            world_size=1,
            global_rank=0,
            optimizers=self.module.configure_optimizers(),
            strategy=SimpleNamespace(backward=lambda loss, optimizer, *args, **kwargs: loss.backward(*args, **kwargs)),
        )
        self.module.trainer = self.trainer = cast(pl.Trainer, trainer)
        self.images = torch.randint(
            0, 256, (1, batch_size, 3, resolution, resolution), dtype=torch.uint8, device=device
        )

    def __call__(self) -> None:
        batch = {"images": self.images, "images_seen": self.module.images_seen}
        self._call("on_train_batch_start", batch, 0)
        with self._autocast():
            self.module.training_step(batch, 0)
        self._call("on_train_batch_end", None, batch, 0)

    def _call(self, hook: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self.trainer, self.module, *args)

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=PRECISIONS[self.precision])


class ReferenceStep:
    """The reference step on random reals; arguments as for :class:`ImagoStep`."""

    def __init__(self, resolution: int, batch_size: int, device: torch.device, fmap_max: int = 512):
        levels = range(1, resolution.bit_length() - 1)
        widths = [min(8192 // 2**level, fmap_max) for level in levels]
        self.models = Reference(widths, latent_size=fmap_max, device=device)
        self.real = torch.rand(batch_size, 3, resolution, resolution, device=device) * 2 - 1

    def __call__(self) -> None:
        reference_step(self.models, self.real)


@dataclass
class Result:
    """One variant at one resolution.

    Attributes:
        images_per_second: Median over the rounds.
        speedup: Median over the rounds of the ratio to the reference in the same round, with its extremes; None where
            the reference was not run.
    """

    resolution: int
    batch_size: int
    variant: str
    images_per_second: float
    speedup: float | None
    slowest: float | None
    fastest: float | None


def batch_size_at(resolution: int) -> int:
    """Images per step at a resolution."""
    return BATCH_SIZES[max(height for height in BATCH_SIZES if height <= resolution)]


def time_per_step(
    step: Callable[[], None], device: torch.device, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Mean seconds per step over as many steps as take about ``seconds``, one at least."""
    _synchronize(device)
    start, steps = clock(), 0
    while True:
        step()
        steps += 1
        _synchronize(device)
        elapsed = clock() - start
        if elapsed + elapsed / steps / 2 > seconds:
            return elapsed / steps


def measure(
    resolution: int,
    precisions: list[str],
    rounds: int,
    device: torch.device,
    seconds: float = 2.0,
    fmap_max: int = 512,
    clock: str = "wall",
) -> list[Result]:
    """Times all variants at one resolution, in turns.

    Args:
        resolution: Height of the images.
        precisions: Of imago's step; keys of :data:`PRECISIONS`.
        rounds: How often each variant is timed.
        device: Where to run.
        seconds: Least time of a measurement, roughly.
        fmap_max: At most this many feature maps.
        clock: One of :data:`CLOCKS`.
    """
    batch = batch_size_at(resolution)
    steps: dict[str, Callable[[], None]] = {
        f"imago {precision}": ImagoStep(resolution, batch, precision, device, fmap_max) for precision in precisions
    }
    steps["reference fp32"] = ReferenceStep(resolution, batch, device, fmap_max)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():  # warm-up: allocator, primitives, optimizer state
        step()
    order = list(steps)
    for _ in range(rounds):
        for name in order:
            times[name].append(time_per_step(steps[name], device, seconds, CLOCKS[clock]))
        order.reverse()  # nobody always runs in the same neighbour's wake
    results = []
    for name, own in times.items():
        ratios = [theirs / mine for mine, theirs in zip(own, times["reference fp32"], strict=True)]
        speed = batch / statistics.median(own)
        results.append(Result(resolution, batch, name, speed, statistics.median(ratios), min(ratios), max(ratios)))
    return results


def peak_memory(resolution: int, batch_size: int, precision: str, device: torch.device, fmap_max: int = 512) -> float:
    """GiB in use at the highest point of a process that takes one step: resident on CPU, allocated on CUDA."""
    ImagoStep(resolution, batch_size, precision, device, fmap_max)()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def describe(device: torch.device) -> dict[str, str | int]:
    """Where and with what the figures were taken."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit,
    }


def markdown(about: dict[str, str | int], results: list[Result], memory: dict[str, Any] | None = None) -> str:
    """The figures as a Markdown table under a line that says where they come from."""
    lines = [", ".join(f"{key} {value}" for key, value in about.items()), ""]
    if results:
        lines += ["| Resolution | Batch | Step | img/s | × reference (min–max) |", "|---|---|---|---|---|"]
        lines += ["| " + " | ".join(_row(result)) + " |" for result in results]
    if memory is not None:
        lines += ["", _memory_line(memory)]
    return "\n".join(lines) + "\n"


def _row(result: Result) -> list[str]:
    ratio = f"{result.speedup:.2f} ({result.slowest:.2f}–{result.fastest:.2f})"
    own = "reference" in result.variant
    speed = f"{result.images_per_second:.3g}"
    return [f"{result.resolution}²", str(result.batch_size), result.variant, speed, "1" if own else ratio]


def _memory_line(memory: dict[str, Any]) -> str:
    return (
        f"Peak memory of one step at {memory['resolution']}² with batch {memory['batch_size']} "
        f"({memory['precision']}): {memory['peak_gib']:.1f} GiB"
    )


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory_in_fresh_process(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs this script once more for the memory alone: a process's peak includes all that it did before."""
    command = [sys.executable, __file__, "--memory-child", "--device", arguments.device]
    command += ["--resolutions", str(max(arguments.resolutions)), "--precisions", arguments.precisions[0]]
    command += ["--fmap-max", str(arguments.fmap_max), "--threads", str(torch.get_num_threads())]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(finished.stdout)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Images per second of one training step, beside a plain reference.")
    parser.add_argument("--resolutions", type=int, nargs="+", help=f"default: {' '.join(map(str, RESOLUTIONS))}")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help="of imago's step (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each step (default: 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="least time per measurement (default: 2)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="elapsed or processor time (default: wall)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--fmap-max", type=int, default=512, help="most feature maps, and latent size (default: 512)")
    parser.add_argument("--memory", action="store_true", help="peak memory of one step at 1024² instead of speed")
    parser.add_argument("--memory-child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="also write the figures to a .md or .json file")
    arguments = parser.parse_args(argv)
    memory_wanted = arguments.memory or arguments.memory_child
    arguments.resolutions = arguments.resolutions or ([1024] if memory_wanted else list(RESOLUTIONS))
    arguments.precisions = arguments.precisions or (["fp32"] if memory_wanted else list(PRECISIONS))
    if arguments.out is not None and arguments.out.suffix not in (".md", ".json"):
        parser.error(f"--out {arguments.out}: must end in .md or .json")
    for resolution in arguments.resolutions:
        if resolution < 4 or resolution & (resolution - 1):
            parser.error(f"--resolutions {resolution}: must be a power of two from 4 up")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    if device.type == "cuda" and arguments.clock == "cpu":
        parser.error("--clock cpu: would miss the work of the GPU; must be wall on CUDA")
    if device.type == "cuda":  # the same arithmetic on both sides
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True

    if arguments.memory_child:
        resolution, precision = arguments.resolutions[0], arguments.precisions[0]
        batch = batch_size_at(resolution)
        peak = peak_memory(resolution, batch, precision, device, arguments.fmap_max)
        print(json.dumps({"resolution": resolution, "batch_size": batch, "precision": precision, "peak_gib": peak}))
        return

    console, results, memory = Console(), [], None
    about = {**describe(device), "clock": arguments.clock}
    console.print(", ".join(f"{key} {value}" for key, value in about.items()), highlight=False, soft_wrap=True)
    if arguments.memory:
        memory = _memory_in_fresh_process(arguments)
        console.print(_memory_line(memory), highlight=False)
    else:
        for resolution in arguments.resolutions:
            measured = measure(
                resolution,
                arguments.precisions,
                arguments.rounds,
                device,
                arguments.seconds,
                arguments.fmap_max,
                arguments.clock,
            )
            results += measured
            for result in measured:  # at once: a long run that is cut short has still said something
                console.print("  ".join(_row(result)), highlight=False)
        table = Table("Resolution", "Batch", "Step", "img/s", "× reference (min–max)")
        for result in results:
            table.add_row(*_row(result))
        console.print(table)
    if arguments.out is not None:
        if arguments.out.suffix == ".md":
            text = markdown(about, results, memory)
        else:
            text = json.dumps({**about, "results": [asdict(r) for r in results], "memory": memory}, indent=1) + "\n"
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text)
        console.print(f"wrote {arguments.out}", highlight=False)


if __name__ == "__main__":
    main()
