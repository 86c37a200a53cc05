"""Pictures through a network in tiles: tiles per second and peak memory, beside the bare network on the same tiles.

    python benchmarks/tiling.py --filters 64 --size 96 --batch 8
    python benchmarks/tiling.py --filters 64 --size 512 --stride 16 --batch 8 --memory
    python benchmarks/tiling.py --filters 64 --size 512 --device cuda --precision bfloat16 --batch 32

The floor is the J-net alone on batches of tiles that lie ready, its results thrown away. The other rows add to it:
``tiles`` reads, blends and rounds into bytes; ``colour`` corrects low frequencies too; ``flip`` runs each tile twice
and takes the mean; ``best`` runs it twice and takes the sharper one. Rows take turns, and each time is the median of
the rounds; a run of a network counts as a tile. What the tiler adds is measured within a run, as the share of its time
that is not spent in the network, since the network's own time varies by more. Memory is that above the model: with
--memory each row has a process of its own (resident, the picture of --size² and the result in memory-mapped files), on
a GPU what PyTorch allocated.
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imago.networks.jnet import JNet
from imago.upres import Stage, TilingOptions, upres_stack
from imago.upres.execution import PRECISIONS
from imago.upres.pixels import Stack
from imago.upres.tiles import Grid, grid_over

ROWS: dict[str, dict[str, Any]] = {
    "floor": {},
    "tiles": {"colour": 0.0},
    "colour": {},
    "flip": {"variants": ("plain", "flip")},
    "best": {"variants": ("plain", "flip"), "combine": "best", "choice": "per_tile"},
}


class Clocked:
    """A network that counts the seconds spent in it."""

    def __init__(self, network: torch.nn.Module, device: str) -> None:
        self.network, self.device, self.seconds = network, device, 0.0

    def __call__(self, stacks: Tensor) -> Tensor:
        synchronize(self.device)
        started = time.perf_counter()
        result: Tensor = self.network(stacks)
        synchronize(self.device)
        self.seconds += time.perf_counter() - started
        return result


class Setting:
    """A network and a picture, with its guide, in memory-mapped files."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments = arguments
        torch.manual_seed(0)
        network = JNet(filters=arguments.filters, max_channels=arguments.max_channels).to(arguments.device).eval()
        self.parameters = sum(p.numel() for p in network.parameters())
        self.network = Clocked(network, arguments.device)
        self.stage = Stage(self.network, device=arguments.device)
        size = arguments.size
        self.low = self._file(folder / "low.npy", np.uint8, size)
        self.guide = self._file(folder / "guide.npy", np.float16, size)
        self.out = self._file(folder / "out.npy", np.uint8, size * self.stage.factor)
        self.low[:] = np.random.default_rng(0).integers(0, 256, self.low.shape, dtype=np.uint8)

    @staticmethod
    def _file(path: Path, kind: type, size: int) -> np.ndarray:
        return np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(3, size, size))

    def grid(self) -> Grid:
        return grid_over(self.low.shape, self.stage.tile, self.options("tiles").stride_of(self.stage.tile))

    def options(self, row: str) -> TilingOptions:
        given = self.arguments
        return TilingOptions(stride=given.stride, batch=given.batch, precision=given.precision, **ROWS[row])

    def floor(self) -> Callable[[], int]:
        """The network alone, on one batch of tiles again and again."""
        grid, given = self.grid(), self.arguments
        stack = Stack(self.low, self.guide)
        tiles = grid.load(stack, 0, min(given.batch, grid.count), given.device)
        half = PRECISIONS[given.precision]

        def run() -> int:
            with torch.no_grad(), torch.autocast(torch.device(given.device).type, half, enabled=half is not None):
                for first in range(0, grid.count, given.batch):
                    result: Tensor = self.stage.network(tiles[: grid.count - first])
                    del result
            return grid.count

        return run

    def row(self, name: str) -> Callable[[], int]:
        """Something to be timed; it returns how many tiles went through the network."""
        if name == "floor":
            return self.floor()
        options, stack = self.options(name), Stack(self.low, self.guide)

        def run() -> int:
            report = upres_stack(self.stage, stack, options, self.out).report
            if report.halvings:
                print(f"{name}: memory ran out; {report.batch} tiles at a time")
            return report.tiles * len(options.variants)

        return run

    def timed(self, run: Callable[[], int]) -> tuple[float, int, float]:
        """Seconds, tiles, and the percentage of the time that was not spent in the network."""
        self.network.seconds = 0.0
        synchronize(self.arguments.device)
        started = time.perf_counter()
        tiles = run()
        synchronize(self.arguments.device)
        seconds = time.perf_counter() - started
        return seconds, tiles, 100 * (1 - self.network.seconds / seconds)


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def held(device: str) -> float:
    """The most memory held so far, in GiB."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**30
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss begins with what the process held that has started this one
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def peak(arguments: argparse.Namespace, name: str) -> float:
    """The most memory that a row holds above the model, in GiB; to be called in a new process."""
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(arguments, Path(folder))
        before = held(arguments.device)
        setting.row(name)()
        return held(arguments.device) - before


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--filters", type=int, default=64, help="of the J-net")
    parser.add_argument("--max-channels", type=int, default=512, help="of the J-net")
    parser.add_argument("--size", type=int, default=96, help="side of the picture, enlarged 8 times")
    parser.add_argument("--stride", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", choices=sorted(PRECISIONS), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=["floor", "tiles", "colour", "flip", "best"])
    parser.add_argument("--memory", action="store_true", help="peak memory instead of times")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(arguments, Path(folder))
        large = arguments.size * setting.stage.factor
        print(
            f"{large}² from {arguments.size}², {setting.grid().count} tiles of {setting.stage.tile}² at stride "
            f"{arguments.stride}, {arguments.batch} at a time; J-net of {setting.parameters / 1e6:.2f} M parameters, "
            f"{arguments.precision}"
        )
        if arguments.memory:
            print("| | peak above the model, GiB |\n|---|---|")
            for name in arguments.rows:
                with multiprocessing.get_context("spawn").Pool(1) as process:
                    print(f"| {name} | {process.apply(peak, (arguments, name)):.2f} |", flush=True)
            return
        runs = {name: setting.row(name) for name in dict.fromkeys(["floor", *arguments.rows])}
        runs["floor"]()
        results: dict[str, list[tuple[float, int, float]]] = {name: [] for name in runs}
        for _ in range(arguments.rounds):
            for name, run in runs.items():
                results[name].append(setting.timed(run))
    print("| | s | tiles/s | ms per tile | outside the network, % of the time (min–max) |\n|---|---|---|---|---|")
    for name, result in results.items():
        seconds = statistics.median(taken for taken, _, _ in result)
        tiles = result[0][1]
        added = [outside for _, _, outside in result]
        share = f"{statistics.median(added):.1f} ({min(added):.1f}–{max(added):.1f})"
        print(f"| {name} | {seconds:.3g} | {tiles / seconds:.3g} | {1000 * seconds / tiles:.3g} | {share} |")


if __name__ == "__main__":
    main()
