"""How good an up-resolution network is, on pictures whose large version is known.

A real picture is shrunk as in training and enlarged again, all of it, tile by tile, as ``upres.py`` does it. What comes
out is held against the picture that was shrunk, and beside what Lanczos' filter makes of the same input.

No number tells everything. A sharp network has a larger error per pixel than a blurred one: detail that is not in the
input can be plausible, not right. Sharpness and the sliced Wasserstein distance see whether detail is there and like
that of real pictures; PSNR and the distance between faces whether it is still the same picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from imago.evaluation.measure import Row
from imago.images import to_uint8
from imago.metrics.sliced_wasserstein import sliced_wasserstein
from imago.upres.chain import portrait_steps, run_steps, shrunk_to
from imago.upres.degradation import Degradation, degrade
from imago.upres.options import TilingOptions
from imago.upres.pairs import PairMaker
from imago.upres.seams import seam_energy
from imago.upres.stacking import stack_picture
from imago.upres.stages import Stage, upres_stack
from imago.upres.tiles import grid_over
from imago.upres.variants import luma

_PATCHES = 4096  # of each set and level, for the sliced Wasserstein distance, whatever the number of pictures
_LEVELS = 3  # the finest ones: what an eightfold enlargement adds


@dataclass(frozen=True)
class Example:
    """A real picture and what is to be made large again.

    Attributes:
        truth: uint8 ``(3, H, W)``.
        face: The same shrunk to the extent at which a face enters the stage, float32 ``(3, h, w)`` in [-1, 1].
        landmarks: ``(68, 2)`` in pixels of `face`; None: no face is known.
    """

    truth: Tensor
    face: Tensor
    landmarks: NDArray[np.float64] | None


# Takes an example to a picture of its truth's extent, float32 (3, H, W) in [-1, 1].
Method: TypeAlias = Callable[[Example], Tensor]


class PairDistance(Protocol):
    """A distance of pairs of pictures, both uint8 ``(N, 3, H, W)``: ``(N,)``."""

    def __call__(self, first: Tensor, second: Tensor) -> Tensor: ...


def examples(pairs: PairMaker, count: int, degradation: Degradation | None = None) -> Iterator[Example]:
    """Pictures that were kept out of training, or of all, where none are.

    Args:
        pairs: Where they come from.
        count: How many, at most.
        degradation: What is done to the shrunk pictures; None: nothing. Drawn by their numbers.
    """
    held_out = pairs.held_out_count
    for index in range(min(count, held_out or len(pairs))):
        truth, landmarks = pairs.held_out_picture(index) if held_out else pairs.picture(index)
        face = pairs.shrunk(truth)
        if degradation is not None:
            face = degrade(face[None], degradation, pairs.seed, index)[0]
        yield Example(truth, face, landmarks)


def by_network(stage: Stage, options: TilingOptions | None = None) -> Method:
    """What a stage makes of an example, in tiles, as upres.py does it."""

    def enlarge(example: Example) -> Tensor:
        steps = portrait_steps([stage], (example.face.shape[1], example.face.shape[2]), example.truth.shape[1])
        faces = [] if example.landmarks is None else [example.landmarks]
        picture: Tensor = run_steps(steps, example.face, faces, options).pictures[-1]
        return picture

    return enlarge


def on_shifted_tiles(stage: Stage, example: Example, options: TilingOptions | None = None) -> Tensor:
    """What :func:`by_network` makes with all tiles half a stride further up and left.

    The same content from the same network, without borders where the other has some: what it is to be compared with
    to see seams.
    """
    options = options or TilingOptions()
    shift = options.stride_of(stage.tile) // 2
    (step,) = portrait_steps([stage], (example.face.shape[1], example.face.shape[2]), example.truth.shape[1])
    known = [] if example.landmarks is None else [example.landmarks]
    known, face = shrunk_to(step.seen, example.face, known)
    stack = stack_picture(face, known, step.low, stage.guide_style)
    padded = F.pad(stack[None], (shift, 0, shift, 0), mode="reflect")[0]
    picture: Tensor = upres_stack(stage, padded, options).picture
    return picture[:, shift * stage.factor :, shift * stage.factor :]


def seams(stage: Stage, picture: Tensor, shifted: Tensor, options: TilingOptions | None = None) -> float:
    """The seam energy of a result (see :mod:`imago.upres.seams`), divided by that of the one on shifted tiles."""
    options = options or TilingOptions()
    stride = options.stride_of(stage.tile)
    low = picture.shape[1] // stage.factor, picture.shape[2] // stage.factor
    grid = grid_over((3, *low), stage.tile, stride)
    return seam_energy(picture, grid, stage.factor, max(1, stride // 2 - 1), control=shifted)


def by_lanczos(low_size: int) -> Method:
    """What Lanczos' filter makes of the picture that the network reads.

    Args:
        low_size: Height of that; see :class:`Stage`.
    """

    def enlarge(example: Example) -> Tensor:
        height, width = example.truth.shape[1:]
        low = shrunk_to((low_size, round(low_size * width / height)), example.face)[1]
        planes = [
            np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.LANCZOS))
            for plane in low.numpy()
        ]
        return torch.from_numpy(np.stack(planes)).clamp(-1, 1)

    return enlarge


def low_resolution_l1(picture: Tensor, face: Tensor, extent: tuple[int, int]) -> float:
    """Mean absolute difference of a result and its input, both by means over areas at the extent that networks read.

    Args:
        picture: ``(3, H, W)`` in [-1, 1].
        face: ``(3, h, w)`` in [-1, 1].
        extent: (height, width).

    Returns:
        In steps of 8-bit values.
    """
    small = [shrunk_to(extent, one)[1] for one in (picture, face)]
    return float((small[0] - small[1]).abs().mean() * 127.5)


def psnr(picture: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two pictures of bytes, over all channels."""
    error = float(F.mse_loss(picture.double(), truth.double()))
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def laplacian_variance(picture: Tensor) -> float:
    """Variance of the Laplacian of luma, of values in [-1, 1]: how much fine detail there is."""
    grey = luma(picture[None])
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return float(F.conv2d(grey, kernel).double().var(correction=0))


class Meter:
    """Collects what is measured of one method, picture by picture.

    Args:
        low_size: Height of what networks read, where a result is compared with its input.
        face_distance: Between embeddings of faces; None: not measured.
        lpips: Perceptual distance; None: not measured.
    """

    def __init__(
        self,
        low_size: int,
        face_distance: PairDistance | None = None,
        lpips: PairDistance | None = None,
    ) -> None:
        self.low_size = low_size
        self.distances = {"face_distance": face_distance, "lpips": lpips}
        self.values: dict[str, list[float]] = {}
        self.pictures: list[Tensor] = []
        self.truths: list[Tensor] = []

    def add(self, picture: Tensor, example: Example, seams: float = 1.0) -> None:
        """Measures a result and keeps it as bytes for the distance of sets.

        Args:
            picture: float32 ``(3, H, W)`` in [-1, 1].
            example: What it was made of.
            seams: See :func:`seams`; 1 of what has no tiles.
        """
        truth = example.truth.float() / 127.5 - 1
        rounded = to_uint8(picture)
        extent = self.low_size, round(self.low_size * picture.shape[2] / picture.shape[1])
        self._note("low_resolution_l1", low_resolution_l1(picture, example.face, extent))
        self._note("psnr", psnr(rounded, example.truth))
        self._note("sharpness", laplacian_variance(picture) / max(laplacian_variance(truth), 1e-12))
        self._note("seams", seams)
        for name, distance in self.distances.items():
            if distance is not None:
                self._note(name, float(distance(rounded[None], example.truth[None])[0]))
        self.pictures.append(rounded)
        self.truths.append(example.truth)

    def _note(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    def rows(self, seed: int = 0) -> list[Row]:
        """The means over all pictures with their standard errors, and the distance of the two sets.

        Args:
            seed: Of the sliced Wasserstein distance's patches and directions.
        """
        count = len(self.pictures)
        rows = []
        for name, values in self.values.items():
            numbers = np.array(values)
            finite = count > 1 and bool(np.isfinite(numbers).all())
            error = float(numbers.std(ddof=1) / np.sqrt(count)) if finite else None
            better = {"psnr": True, "sharpness": None, "seams": None}.get(name, False)
            rows.append(Row(name, float(numbers.mean()), count, _PROTOCOLS[name], error, higher_is_better=better))
        fake, real = torch.stack(self.pictures), torch.stack(self.truths)
        patches = max(1, _PATCHES // count)
        distances = sliced_wasserstein(real, fake, seed, patches, smallest=_smallest(real.shape[2:]))
        protocol = f"{patches} patches of 7 × 7 of each picture and level, × 10³"
        return rows + [Row(f"swd/{level}", value, count, protocol) for level, value in distances.items()]


_PROTOCOLS = {
    "low_resolution_l1": "mean difference to the input at low resolution, in 8-bit steps (± standard error)",
    "psnr": "to the real picture, dB (± standard error)",
    "sharpness": "variance of the Laplacian, divided by the real picture's (± standard error)",
    "seams": "change across borders of tiles against elsewhere, divided by that on shifted tiles (± standard error)",
    "face_distance": "of dlib's face embeddings of the result and the real picture (± standard error)",
    "lpips": "to the real picture (± standard error)",
}


def _smallest(extent: Sequence[int]) -> int:
    """Shorter side of the coarsest level that is compared."""
    return int(min(extent)) >> (_LEVELS - 1)
