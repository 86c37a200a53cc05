"""What Lightning adds to a training step: imago's step in ``Trainer.fit`` beside the same arithmetic in a bare loop.

    python benchmarks/lightning_overhead.py --threads 1 --resolutions 8 16 32 64 --out overhead.md

A real ``Trainer.fit`` trains PGGAN with the callbacks that belong to the model. Every so many steps it hands over to
:class:`BareLoop` for as many steps, within one process and on the same stream of batches, so that other work on the
machine slows both alike; each time under Lightning is divided by the mean of its two neighbours. The bare loop does
what changes a weight and nothing else: no statistics for the log, no check that gradients are finite. At the end the
weights of both are compared.

The default networks are those of ``model=pggan_small``. What Lightning adds is the same for wider ones, whose steps
take longer: a share of these steps is an upper bound for theirs.
"""

import argparse
import copy
import logging
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader
from training_step import CLOCKS, batch_size_at, describe

from datamodules.packed import BatchStream
from imago import randomness
from imago.data import PackedDataset
from imago.growth import GrowthSchedule
from imago.latents import draw_latents
from imago.losses import WganGp
from imago.networks import ProgressiveDiscriminator, ProgressiveGenerator
from imago.networks.layers import fade_reals
from lightning_modules.pggan import PGGAN

SMALL: dict[str, Any] = {"latent_size": 128, "fmap_base": 768, "fmap_max": 64}  # model=pggan_small
HALF_LIFE = 2000.0  # of the averaged generator, images


class Noise(PackedDataset):
    """Random pictures in memory, read as those of a packed data set are.

    Args:
        resolution: Largest height.
        count: How many.
    """

    def __init__(self, resolution: int, count: int = 256) -> None:
        self.channels = 3
        self.pixels = np.random.default_rng(0).integers(0, 256, (count, resolution, resolution, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.pixels)

    def extent(self, resolution: int) -> tuple[int, int]:
        return resolution, resolution

    def is_compressed(self, resolution: int) -> bool:
        return False

    def images(self, indices: Any, resolution: int, mirrored: Any = None, out: Any = None) -> NDArray[np.uint8]:
        np.take(self.pixels[:, :resolution, :resolution], indices, axis=0, out=out)
        if mirrored is not None:
            out[mirrored] = out[mirrored, :, ::-1]
        return out


def loader(schedule: GrowthSchedule) -> DataLoader[dict[str, Any]]:
    """Batches as ``PackedDataModule`` loads them, from the first on."""
    return DataLoader(BatchStream(Noise(schedule.resolution), schedule, seed=0), batch_size=None)


class BareLoop:
    """PGGAN with WGAN-GP as a plain loop: networks and loss are imago's, the rest is written out.

    Args:
        schedule: Resolution, batch size and learning rate.
        sizes: ``latent_size``, ``fmap_base`` and ``fmap_max``.
        dtype: Of the weights.
    """

    def __init__(self, schedule: GrowthSchedule, sizes: dict[str, Any], dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        widths = {key: value for key, value in sizes.items() if key != "latent_size"}
        self.generator = ProgressiveGenerator(schedule.resolution, **sizes)
        self.discriminator = ProgressiveDiscriminator(schedule.resolution, **widths, mbstd_group=schedule.mbstd_group)
        for network in (self.generator, self.discriminator):
            network.to(dtype)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.optimizers = [
            torch.optim.Adam(network.parameters(), lr=schedule.at(0).learning_rate, betas=(0.0, 0.99), fused=True)
            for network in (self.discriminator, self.generator)
        ]
        self.loss, self.schedule, self.dtype = WganGp(), schedule, dtype
        self.batches = iter(loader(schedule))
        self.seen = 0

    def step(self) -> None:
        """One discriminator step, one generator step, one step of the average."""
        stage, seen = self.schedule.at(self.seen), self.seen
        size, height, alpha = stage.batch_size, stage.resolution, stage.alpha
        discriminator_step, generator_step = self.optimizers

        def fakes(purpose: str) -> Tensor:
            latents = torch.from_numpy(draw_latents(0, seen, size, self.generator.latent_size, purpose)).to(self.dtype)
            return self.generator(latents, resolution=height, alpha=alpha).contiguous(memory_format=torch.channels_last)

        def scores(images: Tensor) -> Tensor:
            return self.discriminator(images, alpha=alpha, group_size=stage.group_size)

        def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
            optimizer.param_groups[0]["lr"] = stage.learning_rate
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        self.discriminator.requires_grad_(True)
        reals = next(self.batches)["images"][0].to(self.dtype).contiguous(memory_format=torch.channels_last)
        reals = fade_reals(reals / 127.5 - 1, alpha)
        share = torch.from_numpy(randomness.uniform(0, "interpolation", seen, size)[:, 0]).to(self.dtype)
        with torch.no_grad():
            shown = fakes("latents/discriminator/0")
        update(discriminator_step, self.loss.discriminator_loss(scores, reals, [shown], share)["loss"])
        self.discriminator.requires_grad_(False)
        update(generator_step, self.loss.generator_loss(scores, fakes("latents/generator"))["loss"])

        weights = self.generator.active_parameters(height, alpha)
        with torch.no_grad():
            old: list[Tensor] = [*self.average.active_parameters(height, alpha)]
            torch._foreach_lerp_(old, [*weights], 1 - 0.5 ** (size / HALF_LIFE))
        self.seen += size
        if self.schedule.at(self.seen).phase != stage.phase:
            for optimizer in self.optimizers:
                optimizer.state.clear()


class TakingTurns(pl.Callback):
    """Times Lightning's steps, and between them as many of the bare loop.

    Args:
        bare: The bare loop.
        turns: How often Lightning's turn is timed.
        seconds: About how long a turn is.
        clock: What tells the time.
        steps: Of a turn; None: as many as take ``seconds``.
    """

    def __init__(
        self, bare: BareLoop, turns: int, seconds: float, clock: Callable[[], float], steps: int | None = None
    ) -> None:
        self.bare, self.turns, self.seconds, self.clock, self.steps = bare, turns, seconds, clock, steps
        self.lightning: list[float] = []  # seconds of each turn
        self.alone: list[float] = []  # of the bare loop: before the first turn, between turns, after the last
        self._taken = 0
        self._resumed = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        module: PGGAN = pl_module  # type: ignore[assignment]
        now = self.clock()
        self._taken += 1
        if not self.alone:  # the first step was the warm-up
            self._bare_turn(1)
            seconds = self._bare_turn(1)
            self.steps = self.steps or max(1, round(self.seconds / max(seconds, 1e-6)))
            self.alone.append(self._bare_turn(self.steps))
            self._begin()
        elif len(self.lightning) < self.turns and self._taken == self.steps:
            self.lightning.append(now - self._resumed)
            self.alone.append(self._bare_turn(self.steps))
            self._begin()
        # The bare loop has taken a few more steps: for the comparison of weights, Lightning catches up.
        trainer.should_stop = len(self.lightning) == self.turns and module.images_seen == self.bare.seen

    def _bare_turn(self, steps: int) -> float:
        began = self.clock()
        for _ in range(steps):
            self.bare.step()
        return self.clock() - began

    def _begin(self) -> None:
        self._taken = 0
        self._resumed = self.clock()


@dataclass
class Overhead:
    """What was found at one resolution.

    Attributes:
        bare: Median seconds per step of the bare loop.
        lightning: Of imago's step under Lightning.
        ratio: Median of the latter divided by its neighbours, with its extremes.
        difference: Largest difference between a weight of one and that of the other in the end.
    """

    resolution: int
    batch_size: int
    bare: float
    lightning: float
    ratio: float
    lowest: float
    highest: float
    difference: float


def measure(
    schedule: GrowthSchedule,
    rounds: int,
    seconds: float = 1.0,
    clock: str = "wall",
    sizes: dict[str, Any] = SMALL,
    dtype: torch.dtype = torch.float32,
    steps: int | None = None,
) -> Overhead:
    """Trains both in turns.

    Args:
        schedule: What is trained; its growth is followed.
        rounds: Turns of either.
        seconds: About how long a turn is.
        clock: One of ``CLOCKS``.
        sizes: Of the networks; see :class:`BareLoop`.
        dtype: float32 or float64.
        steps: Of a turn, instead of ``seconds``.
    """
    bare = BareLoop(schedule, sizes, dtype)
    module = PGGAN(WganGp(), schedule, **sizes, ema_half_life=HALF_LIFE)
    turns = TakingTurns(bare, rounds, seconds, CLOCKS[clock], steps)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="cpu",
            precision="64-true" if dtype == torch.float64 else "32-true",
            max_epochs=-1,
            max_steps=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[turns],
        )
        trainer.fit(module, loader(schedule))
    assert bare.seen == module.images_seen
    pairs = [(module.generator, bare.generator), (module.discriminator, bare.discriminator)]
    pairs.append((module.generator_ema, bare.average))
    difference = max(largest_difference(ours, theirs) for ours, theirs in pairs)
    ratios = [
        2 * taken / (before + after)
        for taken, before, after in zip(turns.lightning, turns.alone, turns.alone[1:], strict=False)
    ]
    assert turns.steps is not None
    stage = schedule.at(0)
    return Overhead(
        stage.resolution,
        stage.batch_size,
        statistics.median(turns.alone) / turns.steps,
        statistics.median(turns.lightning) / turns.steps,
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        difference,
    )


def largest_difference(one: nn.Module, other: nn.Module) -> float:
    """Between parameters of the same place."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a.detach() - b.detach()).abs().max()) for a, b in pairs)


def markdown(about: dict[str, Any], results: list[Overhead]) -> str:
    """The figures as a Markdown table under a line that says where they come from."""
    lines = [", ".join(f"{key} {value}" for key, value in about.items()), ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    return "\n".join(lines + ["| " + " | ".join(_row(result)) + " |" for result in results]) + "\n"


COLUMNS = (
    "Resolution",
    "Batch",
    "bare loop, ms/step",
    "Lightning, ms/step",
    "Lightning ÷ bare (min–max)",
    "largest difference of a weight",
)


def _row(result: Overhead) -> list[str]:
    return [
        f"{result.resolution}²",
        str(result.batch_size),
        f"{1e3 * result.bare:.1f}",
        f"{1e3 * result.lightning:.1f}",
        f"{result.ratio:.3f} ({result.lowest:.3f}–{result.highest:.3f})",
        f"{result.difference:.1g}",
    ]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What Lightning adds to imago's training step.")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--rounds", type=int, default=15, help="turns of either (default: 15)")
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long a turn is (default: 1)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="elapsed or processor time (default: wall)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    for name, value in SMALL.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help=f"default: {value}")
    parser.add_argument("--out", type=Path, help="also write the figures to a .md file")
    arguments = parser.parse_args(argv)
    if arguments.out is not None and arguments.out.suffix != ".md":
        parser.error(f"--out {arguments.out}: must end in .md")
    for resolution in arguments.resolutions:
        if resolution < 4 or resolution & (resolution - 1):
            parser.error(f"--resolutions {resolution}: must be a power of two from 4 up")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    console, results = Console(), []
    about = {**describe(torch.device("cpu")), "clock": arguments.clock}
    about |= {name: getattr(arguments, name) for name in SMALL}
    table = Table(*COLUMNS)
    for resolution in arguments.resolutions:
        schedule = GrowthSchedule(resolution, resolution, batch_size=batch_size_at(resolution))
        sizes = {name: getattr(arguments, name) for name in SMALL}
        result = measure(schedule, arguments.rounds, arguments.seconds, arguments.clock, sizes)
        results.append(result)
        console.print("  ".join(_row(result)), highlight=False)
        if not result.difference < 1e-3:  # a few roundings of a sign, each of which moves a weight by 2 · lr
            raise SystemExit(f"the two do not train the same weights: {result.difference} apart")
        table.add_row(*_row(result))
    console.print(table)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(markdown(about, results))
        console.print(f"wrote {arguments.out}", highlight=False)


if __name__ == "__main__":
    main()
