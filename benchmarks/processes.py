"""Two processes beside one, and what their all-reduce costs.

    python benchmarks/processes.py --resolutions 8 16 32 64 --out processes.md

Four processes stand ready, and one or two of them work at a time: one process with one thread, one with two, and two
processes (gloo over the loopback) with a thread each, that take halves of the same global batch. The last two do it
twice, the second time without their all-reduce: what is left of the loss then is due to the machine (shared caches and
memory, other work on the second core) and to smaller shares of the batch. What runs is imago's training step with the
callbacks that belong to the model, as in :mod:`training_step`. A speed-up is the ratio of two measurements of one
round, because other work on the machine slows all of them. It does not slow them alike, however: one thread finds a
free core where two threads or processes have to share, so that beside other work every speed-up is too low.

Then the all-reduce alone: the seconds it takes, over bytes, and the line latency + bytes / bandwidth through them.
"""

import argparse
import contextlib
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
import torch.distributed
from rich.console import Console
from rich.table import Table
from training_step import ImagoStep, batch_size_at, describe

from imago.growth import GrowthSchedule
from imago.losses import WganGp
from lightning_modules.pggan import PGGAN

SMALL: dict[str, Any] = {"latent_size": 128, "fmap_base": 768, "fmap_max": 64}  # model=pggan_small
REDUCED_BYTES = tuple(4096 * 4**i for i in range(8))  # 4 KiB to 64 MiB
ONE, ONE_OF_TWO_THREADS, TWO, TWO_ALONE = "1 process", "1 process, 2 threads", "2 processes", "without all-reduce"
VARIANTS = (ONE, TWO, TWO_ALONE, ONE_OF_TWO_THREADS)


class Worker:
    """What a process does that is told to: training steps on its share of the batch, or all-reduces.

    Args:
        rank: Its number.
        processes: How many work together.
    """

    def __init__(self, rank: int, processes: int) -> None:
        self.rank, self.processes = rank, processes
        self.steps: dict[str, ImagoStep] = {}

    def begin(self, resolution: int, batch_size: int, sizes: dict[str, Any]) -> None:
        """Builds networks afresh: some for steps with an exchange of gradients, others for steps without."""
        self.steps = {}
        for name in (TWO, TWO_ALONE)[: self.processes]:
            schedule = GrowthSchedule(resolution, resolution, batch_size=batch_size)
            module = PGGAN(WganGp(), schedule, **sizes)
            step = ImagoStep(resolution, batch_size, "fp32", torch.device("cpu"), module=module)
            trainer, share = cast(Any, step.trainer), batch_size // self.processes
            trainer.world_size, trainer.global_rank = self.processes, self.rank
            step.images = step.images[:, self.rank * share : (self.rank + 1) * share]
            self.steps[name] = step

    def train(self, name: str, steps: int) -> float:
        """Seconds that training steps take, from when all processes are ready."""
        step = self.steps[TWO_ALONE if name == TWO_ALONE else TWO]
        target = "lightning_modules.adversarial.average_over_processes"
        alone: Any = mock.patch(target) if name == TWO_ALONE else contextlib.nullcontext()
        self._meet()
        began = time.perf_counter()
        with alone:
            for _ in range(steps):
                step()
        return time.perf_counter() - began

    def weights(self) -> list[float]:
        """Sums of the weights that were trained with an exchange of gradients; exact, so that they can be compared."""
        return [float(p.detach().double().sum()) for p in self.steps[TWO].module.parameters()]

    def all_reduce(self, count: int, repeats: int) -> float:
        """Median seconds of an all-reduce of ``count`` bytes."""
        values, seconds = torch.zeros(count // 4), []
        for _ in range(repeats + 1):
            self._meet()
            began = time.perf_counter()
            torch.distributed.all_reduce(values)
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds[1:])

    def _meet(self) -> None:
        if self.processes > 1:
            torch.distributed.barrier()


def serve(connection: Connection, rank: int, processes: int, threads: int, rendezvous: str) -> None:
    """The life of a process: calls of :class:`Worker`'s methods, until there is nothing more to do."""
    torch.set_num_threads(threads)
    if processes > 1:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.distributed.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=processes)
    worker = Worker(rank, processes)
    while (call := connection.recv()) is not None:
        name, arguments = call
        connection.send(getattr(worker, name)(*arguments))
    if processes > 1:
        torch.distributed.destroy_process_group()


class Team:
    """Processes that work together, to be used as a context manager.

    Args:
        processes: How many.
        threads: Of each.
    """

    def __init__(self, processes: int, threads: int) -> None:
        self.processes, self.threads = processes, threads
        self.members: list[tuple[BaseProcess, Connection]] = []

    def __enter__(self) -> "Team":
        context = multiprocessing.get_context("spawn")
        self.folder = tempfile.TemporaryDirectory()
        rendezvous = os.path.join(self.folder.name, "rendezvous")
        for rank in range(self.processes):
            ours, theirs = context.Pipe()
            arguments = (theirs, rank, self.processes, self.threads, rendezvous)
            process = context.Process(target=serve, args=arguments, daemon=True)
            process.start()
            theirs.close()  # or the death of the process would not be noticed
            self.members.append((process, ours))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, connection in self.members:
            if kind is None:
                connection.send(None)
                process.join(30)
            process.terminate()
            process.join()
        self.folder.cleanup()

    def call(self, name: str, *arguments: Any) -> list[Any]:
        """Calls a method of all workers at the same time; what they return, by rank."""
        for _, connection in self.members:
            connection.send((name, arguments))
        return [connection.recv() for _, connection in self.members]


@dataclass
class Result:
    """Speeds at one resolution.

    Attributes:
        images_per_second: Of one process with one thread, median.
        speedups: Of the other variants, over that in the same round: median, lowest and highest.
    """

    resolution: int
    batch_size: int
    images_per_second: float
    speedups: dict[str, tuple[float, float, float]]


def measure(teams: dict[str, Team], resolution: int, rounds: int, seconds: float, sizes: dict[str, Any]) -> Result:
    """Times all variants at one resolution, in turns.

    Args:
        teams: For each of :data:`VARIANTS`, who does it.
        resolution: Height of the images.
        rounds: How often each is timed.
        seconds: About how long, for one process.
        sizes: Of the networks.

    Raises:
        AssertionError: Processes that exchange gradients ended with different weights.
    """
    batch = batch_size_at(resolution)
    for team in {id(team): team for team in teams.values()}.values():
        team.call("begin", resolution, batch, sizes)
    for name, team in teams.items():  # warm-up
        team.call("train", name, 1)
    steps = max(1, round(seconds / teams[ONE].call("train", ONE, 1)[0]))
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    order = list(VARIANTS)
    for _ in range(rounds):
        for name in order:
            times[name].append(max(teams[name].call("train", name, steps)) / steps)
        order.reverse()
    one, other = teams[TWO].call("weights")
    assert one == other, "the processes have different weights"
    speedups = {}
    for name in VARIANTS[1:]:
        ratios = [alone / together for alone, together in zip(times[ONE], times[name], strict=True)]
        speedups[name] = (statistics.median(ratios), min(ratios), max(ratios))
    return Result(resolution, batch, batch / statistics.median(times[ONE]), speedups)


def fit(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """The line latency + bytes / bandwidth whose relative errors have the least squares.

    Args:
        sizes: Bytes, two different ones at least.
        seconds: What they take.

    Returns:
        Seconds, and bytes per second.
    """
    times = np.asarray(seconds)
    rows = np.stack([1 / times, np.asarray(sizes) / times], axis=1)
    latency, slope = np.linalg.lstsq(rows, np.ones(len(times)), rcond=None)[0]
    return float(latency), float(1 / slope)


def all_reduces(team: Team, sizes: Sequence[int], repeats: int) -> list[float]:
    """Seconds of an all-reduce of each of so many bytes: medians of ``repeats``, of the slower process."""
    return [max(team.call("all_reduce", count, repeats)) for count in sizes]


def _speedup(values: tuple[float, float, float], of: float = 1.0) -> str:
    middle, lowest, highest = (value / of for value in values)
    return f"{middle:.2f} ({lowest:.2f}–{highest:.2f})"


def _row(result: Result) -> list[str]:
    speedups = result.speedups
    return [
        f"{result.resolution}²",
        str(result.batch_size),
        f"{result.images_per_second:.3g}",
        _speedup(speedups[ONE_OF_TWO_THREADS]),
        _speedup(speedups[TWO]),
        _speedup(speedups[TWO], 2),
        _speedup(speedups[TWO_ALONE]),
    ]


COLUMNS = (
    "Resolution",
    "Batch",
    "1 process, img/s",
    "1 process, 2 threads: ×",
    "2 processes: ×",
    "efficiency",
    "without all-reduce: ×",
)


def markdown(about: dict[str, Any], results: list[Result], sizes: Sequence[int], seconds: Sequence[float]) -> str:
    """The figures as Markdown tables under a line that says where they come from."""
    lines = [", ".join(f"{key} {value}" for key, value in about.items())]
    if results:
        lines += ["", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
        lines += ["| " + " | ".join(_row(result)) + " |" for result in results]
    lines += ["", "| bytes | all-reduce, ms | line, ms |", "|---|---|---|"]
    latency, bandwidth = fit(sizes, seconds)
    for count, taken in zip(sizes, seconds, strict=True):
        lines.append(f"| {count:,} | {1e3 * taken:.3g} | {1e3 * (latency + count / bandwidth):.3g} |")
    return "\n".join([*lines, "", line(latency, bandwidth)]) + "\n"


def line(latency: float, bandwidth: float) -> str:
    """The fitted line in words; with two processes, each sends as many bytes as there are."""
    return f"all-reduce over 2 processes: {1e6 * latency:.0f} µs + bytes / {bandwidth / 1e9:.2f} GB/s"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Two processes beside one, and what their all-reduce costs.")
    parser.add_argument("--resolutions", type=int, nargs="*", default=[8, 16, 32, 64])
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each variant (default: 7)")
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long one process works (default: 2)")
    parser.add_argument("--repeats", type=int, default=21, help="all-reduces of each size (default: 21)")
    for name, value in SMALL.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help=f"default: {value}")
    parser.add_argument("--out", type=Path, help="also write the figures to a .md file")
    arguments = parser.parse_args(argv)
    if arguments.out is not None and arguments.out.suffix != ".md":
        parser.error(f"--out {arguments.out}: must end in .md")
    sizes = {name: getattr(arguments, name) for name in SMALL}
    console, results, table = Console(), [], Table(*COLUMNS)
    with Team(1, 1) as one, Team(1, 2) as threads, Team(2, 1) as two:
        teams = {ONE: one, ONE_OF_TWO_THREADS: threads, TWO: two, TWO_ALONE: two}
        for resolution in arguments.resolutions:
            results.append(measure(teams, resolution, arguments.rounds, arguments.seconds, sizes))
            table.add_row(*_row(results[-1]))
            console.print("  ".join(_row(results[-1])), highlight=False)
        seconds = all_reduces(two, REDUCED_BYTES, arguments.repeats)
    about = {**describe(torch.device("cpu")), "threads": "1 a process", **sizes}
    console.print(table)
    console.print(line(*fit(REDUCED_BYTES, seconds)), highlight=False)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(markdown(about, results, REDUCED_BYTES, seconds))
        console.print(f"wrote {arguments.out}", highlight=False)


if __name__ == "__main__":
    main()
