"""Which variant of a tile is shown: the mean of all, the best of each tile, or the best of the whole picture.

Scores are taken of outputs that were transformed back, so no variant wins by its own contrast. Sharpness and contrast
are compared as logarithms of their mean over the picture's tiles (a geometric mean): each tile counts alike,
and one busy tile does not decide for all. Half a byte's step is added to both before, so that flat tiles count nothing.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imago.errors import UserError
from imago.upres.execution import TileNetwork
from imago.upres.variants import Variant, luma

# (stack tiles (B, 3 + G, t, t), output tiles (B, 3, T, T)) → (B,), higher is better
Score: TypeAlias = Callable[[Tensor, Tensor], Tensor]
# The number of a variant for all tiles, or one for each, (rows, columns); None: the mean of all.
Choice: TypeAlias = int | NDArray[np.int64] | None

_STEP = 1 / 255  # half a byte's step, in the range [-1, 1]


def laplacian_score(stacks: Tensor, outputs: Tensor) -> Tensor:
    """Sharpness: log of the variance of the Laplacian of luma, ``(B,)``.

    The Laplacian is that of four neighbours, [[0, 1, 0], [1, -4, 1], [0, 1, 0]], at pixels that have all of them.
    """
    grey = luma(outputs)
    edges = grey[..., :-2, 1:-1] + grey[..., 2:, 1:-1] + grey[..., 1:-1, :-2] + grey[..., 1:-1, 2:]
    edges -= 4 * grey[..., 1:-1, 1:-1]  # (B, 1, T - 2, T - 2)
    return torch.log(edges.flatten(1).var(dim=1, correction=0) + _STEP**2)


def contrast_score(stacks: Tensor, outputs: Tensor) -> Tensor:
    """Contrast: log of the standard deviation of luma, ``(B,)``."""
    return torch.log(luma(outputs).flatten(1).std(dim=1, correction=0) + _STEP)


def patch_score(discriminator: nn.Module) -> Score:
    """The mean logit over the patches of a :class:`~imago.networks.patch_discriminator.PatchDiscriminator`.

    The discriminator is put into evaluation: in training, a tile's score would depend on those beside it.
    """
    discriminator.eval()

    def score(stacks: Tensor, outputs: Tensor) -> Tensor:
        return discriminator(outputs, stacks).mean(dim=1)

    return score


def find_score(name: str, discriminator: Score | None) -> Score:
    """The score of a name.

    Raises:
        UserError: The discriminator is asked for, but there is none.
    """
    if name == "discriminator":
        if discriminator is None:
            raise UserError(
                "score=discriminator: this stage has no discriminator; give a checkpoint (.ckpt or run directory), "
                "which holds one, or choose score=laplacian or score=contrast"
            )
        return discriminator
    return {"laplacian": laplacian_score, "contrast": contrast_score}[name]


class Variants:
    """A network, run on variants of tiles. Its methods are functions for
    :func:`~imago.upres.execution.in_batches`: (number of the first tile, stacks ``(B, 3 + G, t, t)``) → outputs
    ``(B, 3, T, T)``; running one again for the same tiles changes nothing.

    Args:
        network: What is run.
        variants: At least one.
        grid: Rows and columns of tiles.
        score: Needed for `best` and `judge`.

    Attributes:
        scores: float64 (tiles, variants), NaN where none was scored.
        choices: int64 (tiles,): what `best` took, and what `chosen` takes.
    """

    def __init__(
        self, network: TileNetwork, variants: Sequence[Variant], grid: tuple[int, int], score: Score | None = None
    ) -> None:
        self.network, self.variants, self.grid, self.score = network, tuple(variants), grid, score
        count = grid[0] * grid[1]
        self.scores = np.full((count, len(self.variants)), np.nan)
        self.choices = np.zeros(count, dtype=np.int64)

    def run(self, variant: int, stacks: Tensor) -> Tensor:
        """Outputs of one variant, transformed back."""
        change = self.variants[variant]
        return change.invert(self.network(change.apply(stacks)))

    def mean(self, first: int, stacks: Tensor) -> Tensor:
        """The mean of all variants."""
        total = self.run(0, stacks)
        for variant in range(1, len(self.variants)):
            total = total + self.run(variant, stacks)
        return total / len(self.variants) if len(self.variants) > 1 else total

    def best(self, first: int, stacks: Tensor) -> Tensor:
        """The best variant of each tile; the earlier one where two are equal."""
        best, highest = self._scored(0, first, stacks)
        taken = torch.zeros(len(stacks), dtype=torch.int64, device=stacks.device)
        for variant in range(1, len(self.variants)):
            outputs, scores = self._scored(variant, first, stacks)
            better = scores > highest
            best = torch.where(better[:, None, None, None], outputs, best)
            highest = torch.where(better, scores, highest)
            taken[better] = variant
        self.choices[first : first + len(stacks)] = taken.cpu().numpy()
        return best

    def judge(self, first: int, stacks: Tensor) -> int:
        """Scores all variants and shows nothing; returns the number of tiles."""
        for variant in range(len(self.variants)):
            self._scored(variant, first, stacks)
        return len(stacks)

    def choose(self, choice: int | NDArray[np.int64]) -> None:
        """Sets what `chosen` takes: one variant for all tiles, or one for each, ``(rows, columns)``.

        Raises:
            UserError: No such variant, or a choice made for another grid of tiles.
        """
        wanted = np.asarray(choice)
        if (
            wanted.dtype.kind not in "iu"
            or wanted.size == 0
            or not 0 <= wanted.min() <= wanted.max() < len(self.variants)
        ):
            raise UserError(f"variant={choice}: there are variants 0 to {len(self.variants) - 1}")
        if wanted.ndim and wanted.shape != self.grid:
            raise UserError(f"the choice of variants was made for {wanted.shape} tiles, and here there are {self.grid}")
        self.choices[:] = wanted.reshape(-1)

    def chosen(self, first: int, stacks: Tensor) -> Tensor:
        """The variant that was chosen for each tile."""
        choices = torch.from_numpy(self.choices[first : first + len(stacks)])
        numbers = choices.unique().tolist()
        if len(numbers) == 1:
            return self.run(numbers[0], stacks)
        outputs: Tensor | None = None
        for number in numbers:
            places = (choices == number).nonzero()[:, 0].to(stacks.device)
            part = self.run(number, stacks[places])
            if outputs is None:
                outputs = part.new_empty(len(stacks), *part.shape[1:])
            outputs[places] = part
        assert outputs is not None
        return outputs

    def _scored(self, variant: int, first: int, stacks: Tensor) -> tuple[Tensor, Tensor]:
        assert self.score is not None
        outputs = self.run(variant, stacks)
        with torch.no_grad():
            scores = self.score(stacks, outputs)
        if tuple(scores.shape) != (len(stacks),):
            raise UserError(f"a score must give one value per tile, ({len(stacks)},), not {tuple(scores.shape)}")
        scores = scores.float().nan_to_num(nan=-torch.inf)
        self.scores[first : first + len(stacks), variant] = scores.cpu().numpy()
        return outputs, scores
