"""Colours that agree with the input: the low frequencies of the result are those of the picture it was made from.

Networks shift colours (ESRGAN #42; Real-ESRGAN #285, #558), each tile in its own way. As proposed in Tencent Real-SR
#6, the difference between the input and the result's box means is blurred, enlarged and added to the result: detail
stays, and where the result agrees already, nothing is added. The blur (σ of some low pixels) keeps the noise and the
JPEG blocks of the input out.

Rows stream through: what is held is the reach of the blur, in rows, so that memory is bounded and the result is
rounded once.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from imago.errors import UserError
from imago.upres.pixels import Emit, Stack


def gaussian(sigma: float) -> Tensor:
    """Weights of offsets -r … r with r = ⌈3σ⌉: float64 ``(2 r + 1,)``, summing to one."""
    radius = math.ceil(3 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    return weights / weights.sum()


class ColourCorrection:
    """Corrects rows on their way out.

    Args:
        low: The input ``(3 or more, h, w)``, colours first, in [-1, 1].
        factor: How much larger the result is.
        sigma: Of the blur, in low pixels.
        strength: Of the correction: 0 leaves the rows as they are, 1 corrects all.
        emit: Takes the corrected rows, in order.

    Raises:
        UserError: A σ that is not positive.
    """

    def __init__(self, low: Stack, factor: int, sigma: float, strength: float, emit: Emit) -> None:
        if not (math.isfinite(sigma) and sigma > 0):
            raise UserError(f"the blur of the colour correction must be positive, not {sigma}")
        self.low, self.factor, self.strength, self.emit = low, factor, strength, emit
        self.height, self.width = low.shape[1:]
        self.kernel = gaussian(sigma)
        self.radius = len(self.kernel) // 2
        self.differences: list[Tensor] = []  # rows (3, w), blurred along x, from number `kept` on
        self.kept = 0
        self.waiting: list[Tensor] = []  # rows of the result, `factor` of them (3, factor, factor · w) to each low row
        self.done = 0  # low rows handed on

    def __call__(self, first: int, rows: Tensor) -> None:
        """Takes rows of the result, float32 ``(3, n, factor · w)``, in order; n is a multiple of the factor.

        Whatever the last row of the picture still held back is emitted with it.
        """
        number, start = rows.shape[1] // self.factor, first // self.factor
        assert rows.shape[1] == number * self.factor
        assert start == self.done + len(self.waiting)
        means = rows.reshape(3, number, self.factor, self.width, self.factor).mean(dim=(2, 4))  # (3, n, w)
        low = self.low.read(slice(start, start + number), slice(0, self.width), rows.device)[:3]
        self.differences += self._blurred_across(low - means).unbind(1)
        self.waiting += rows.clone().split(self.factor, dim=1)
        complete = start + number == self.height
        # Enlarging row j needs the blurred rows j - 1 to j + 1, and these the differences of `radius` more.
        ready = self.height if complete else start + number - self.radius - 1
        if ready > self.done:
            self._hand_on(ready)

    def _hand_on(self, end: int) -> None:
        """Emits low rows `done` to `end`, corrected."""
        start, before, after = self.done, max(self.done - 1, 0), min(end + 1, self.height)
        blurred = self._blurred_down(before, after)  # (3, after - before, w)
        correction = interpolate(blurred[None], scale_factor=self.factor, mode="bilinear", align_corners=False)[0]
        skip = (start - before) * self.factor
        for index in range(end - start):
            rows = self.waiting[index]
            rows += self.strength * correction[:, skip + index * self.factor : skip + (index + 1) * self.factor]
            self.emit((start + index) * self.factor, rows)
        del self.waiting[: end - start]
        self.done = end
        drop = max(end - 1 - self.radius, 0) - self.kept
        if drop > 0:
            del self.differences[:drop]
            self.kept += drop

    def _blurred_across(self, differences: Tensor) -> Tensor:
        """Along x, the outermost pixels repeated: (3, n, w) → (3, n, w)."""
        padded = torch.nn.functional.pad(differences, (self.radius, self.radius), mode="replicate")
        windows = padded.unfold(2, len(self.kernel), 1)  # (3, n, w, 2 r + 1)
        return windows @ self.kernel.to(differences)

    def _blurred_down(self, first: int, last: int) -> Tensor:
        """Along y, rows `first` to `last`, the outermost rows repeated: (3, last - first, w)."""
        places = torch.arange(first, last)[:, None] + torch.arange(-self.radius, self.radius + 1)
        places = places.clamp(0, self.height - 1) - self.kept  # (n, 2 r + 1)
        weights = torch.zeros(last - first, len(self.differences), dtype=torch.float64)
        weights.scatter_add_(1, places, self.kernel.expand(last - first, -1))
        held = torch.stack(self.differences, dim=1)  # (3, held, w)
        return torch.einsum("nk,ckw->cnw", weights.to(held), held)


def correct_colours(picture: Tensor, low: Tensor, sigma: float = 4.0, strength: float = 1.0) -> Tensor:
    """Corrects a whole picture at once.

    Args:
        picture: ``(3, f · h, f · w)`` in [-1, 1].
        low: What it was made from: ``(3, h, w)`` in [-1, 1].
        sigma: Of the blur, in low pixels.
        strength: 0 to 1.

    Returns:
        float32, the extent of the picture; not cut to [-1, 1].

    Raises:
        UserError: Extents that are no multiple of each other, or a σ that is not positive.
    """
    factor = picture.shape[-1] // low.shape[-1]
    if picture.shape != (3, factor * low.shape[1], factor * low.shape[2]) or low.shape[0] != 3:
        raise UserError(f"a picture of {tuple(picture.shape)} was not made from one of {tuple(low.shape)}")
    result = torch.empty(picture.shape)

    def emit(first: int, rows: Tensor) -> None:
        result[:, first : first + rows.shape[1]] = rows

    ColourCorrection(Stack(low), factor, sigma, strength, emit)(0, picture.float())
    return result
