"""Running a network on batches of tiles, whatever memory and half precision do to it.

What people meet elsewhere: a tile that does not fit ends the run (Real-ESRGAN #184, #633), and half precision gives
black pictures (Real-ESRGAN #632, #330; GFPGAN #116). Here the batch halves and goes on, since the extent of a tile is
fixed by training, and a tile that is not finite is made again in float32.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from imago.errors import UserError, first_line

# (B, 3 + G, t, t) → (B, 3, f · t, f · t), float32 in [-1, 1] (guides in [0, 1])
Network: TypeAlias = Callable[[Tensor], Any]
Result = TypeVar("Result")

PRECISIONS: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


@dataclass
class TilingReport:
    """What happened on the way.

    Attributes:
        tiles: Tiles that went through; twice those of the grid where a first pass scored them.
        batch: Tiles at a time, in the end.
        halvings: How often the batch was halved because memory ran out.
        redone: Outputs that were not finite in half precision and were made again in float32.
        scores: Mean score of each variant, where they were scored.
    """

    tiles: int = 0
    batch: int = 0
    halvings: int = 0
    redone: int = 0
    scores: list[float] = field(default_factory=list)


class TileNetwork:
    """A network with a checked output, under autocast where that is wanted.

    Args:
        network: Takes ``(B, C, t, t)``, gives ``(B, 3, factor · t, factor · t)``.
        factor: How much larger its output is.
        device: The type of the device that it runs on ("cpu", "cuda").
        precision: "float32", "bfloat16" or "float16": what autocast computes in.
        report: Counts the outputs that were made again.

    Raises:
        UserError: Another precision.
    """

    def __init__(
        self, network: Network, factor: int, device: str = "cpu", precision: str = "float32", *, report: TilingReport
    ) -> None:
        if precision not in PRECISIONS:
            raise UserError(f"precision={precision!r}: must be one of {', '.join(PRECISIONS)}")
        self.network = network
        self.factor = factor
        self.device_type = torch.device(device).type
        self.half = PRECISIONS[precision]
        self.report = report

    def __call__(self, stacks: Tensor) -> Tensor:
        """Runs a batch.

        Returns:
            float32, all finite.

        Raises:
            UserError: Output of another shape, or not finite in float32.
        """
        outputs = self._run(stacks, self.half)
        finite = _finite(outputs)
        if finite.all():
            return outputs
        if self.half is not None:
            broken = ~finite
            again = self._run(stacks[broken], None)
            self.report.redone += len(again)
            outputs = outputs.clone()
            outputs[broken] = again
            finite = _finite(outputs)
        if not finite.all():
            raise UserError(
                f"the network gives values that are not finite for {int((~finite).sum())} of {len(finite)} tiles, in "
                "float32 also: its weights are broken, or it was trained for other inputs"
            )
        return outputs

    @torch.no_grad()
    def _run(self, stacks: Tensor, half: torch.dtype | None) -> Tensor:
        with torch.autocast(self.device_type, half, enabled=half is not None):
            outputs = self.network(stacks)
        expected = (len(stacks), 3, self.factor * stacks.shape[2], self.factor * stacks.shape[3])
        if tuple(outputs.shape) != expected:
            raise UserError(
                f"the network makes {tuple(outputs.shape)} of tiles {tuple(stacks.shape)} where {expected} was expected"
                f" at factor {self.factor}"
            )
        return outputs.float()


def in_batches(
    function: Callable[[int, Tensor], Result],
    load: Callable[[int, int], Tensor],
    count: int,
    batch: int,
    report: TilingReport,
) -> Iterator[tuple[int, Result]]:
    """Runs a function on numbered tiles, a batch at a time; the batch halves for good whenever memory runs out.

    Args:
        function: function(first, tiles): what to do with tiles ``(B, C, t, t)`` of numbers `first` and on. May be
            called again for the same tiles after it failed.
        load: load(first, number) → those tiles.
        count: How many tiles there are.
        batch: Tiles at a time, ≥ 1.
        report: `tiles`, `batch` and `halvings` are kept up to date.

    Yields:
        (first, what the function gave), in order, no tile left out.

    Raises:
        UserError: Memory does not suffice for a single tile.
    """
    assert batch >= 1
    report.batch = batch
    first = 0
    while first < count:
        number = min(report.batch, count - first)
        trouble = ""
        try:
            result = function(first, load(first, number))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            trouble = first_line(error)
        # Outside of the handler: what the failed call held is only free once its traceback is gone.
        if trouble:
            if number == 1:
                raise UserError(f"memory does not suffice for one tile at a time ({trouble}); take a smaller network")
            report.batch = number // 2
            report.halvings += 1
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        yield first, result
        del result  # before the next one is made
        first += number
        report.tiles += number


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, in Python, on a GPU, or in the allocator of the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)


def _finite(outputs: Tensor) -> Tensor:
    return outputs.isfinite().flatten(1).all(dim=1)  # (B,)
