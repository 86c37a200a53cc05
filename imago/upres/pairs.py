"""Pairs for training an up-resolution network: a low-resolution crop with its guide, and the crop it is of.

A picture of ``resolution`` is shrunk to ``face_size``, the extent that a first stage makes faces at, and degraded; its
guide is stacked on it and both are shrunk to ``low_size``. A random crop of that and the crop of the picture at the
same place, ``resolution / low_size`` times as large, are a pair: 32² and 256² of 96² and 768² (Tyka 2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from imago.data.packed import PackedDataset
from imago.data.sampler import flips, sample_indices
from imago.errors import UserError
from imago.faces.guide import GuideStyle, mirror_landmarks
from imago.randomness import uniform
from imago.upres.degradation import Degradation, degrade
from imago.upres.stacking import resample, stack_picture


@dataclass(frozen=True)
class PairGeometry:
    """How large everything is.

    Attributes:
        resolution: Height of the pictures.
        base: (height, width) of the aspect.
        face_size: Height that they are shrunk to before the guide is stacked on them.
        low_size: Height that the stack is shrunk to.
        crop: Extent of the crops of the stack.
        guide: Style of the guide.

    Raises:
        UserError: Numbers that do not fit each other.
    """

    resolution: int
    base: tuple[int, int] = (4, 4)
    face_size: int = 128
    low_size: int = 96
    crop: int = 32
    guide: GuideStyle = "rgb"

    def __post_init__(self) -> None:
        factor = upres_factor(self.resolution, self.low_size)
        for name, height in (("low_size", self.low_size), ("face_size", self.face_size)):
            if height * self.base[1] % self.base[0] or height > self.resolution:
                raise UserError(
                    f"model.{name}={height}: must be at most the resolution {self.resolution}, and make whole pixels "
                    f"of the aspect {self.base[0]}:{self.base[1]}"
                )
        height, width = self.extent(self.low_size)
        if not 1 <= self.crop <= min(height, width):
            raise UserError(
                f"model.crop={self.crop} does not fit into the low-resolution pictures of {height} × {width}: take at "
                f"most {min(height, width)}"
            )
        assert factor >= 2

    @property
    def factor(self) -> int:
        """How much larger the pictures are than the stack."""
        return self.resolution // self.low_size

    def extent(self, height: int) -> tuple[int, int]:
        """(height, width) of pictures so high."""
        return height, height * self.base[1] // self.base[0]


def upres_factor(resolution: int, low_size: int) -> int:
    """How much larger a picture is than its low-resolution version.

    Raises:
        UserError: Not a power of two, or less than 2.
    """
    factor, rest = divmod(resolution, max(1, low_size))
    if rest or factor < 2 or factor & (factor - 1):
        fitting = [resolution >> k for k in range(1, 5) if resolution % (1 << k) == 0]
        raise UserError(
            f"resolution={resolution} is not model.low_size={low_size} times 2, 4, 8 or 16; model.low_size may be "
            f"{', '.join(map(str, fitting)) or 'nothing for that resolution'}"
        )
    return factor


@dataclass
class PairMaker:
    """Makes the pairs of a run: what a pair holds is a function of the seed and its position.

    Attributes:
        datasets: The packs, one after the other.
        landmarks: Of each pack, ``(N, 68, 2)`` in pixels of its largest level, NaN where no face is known; or None.
        geometry: How large everything is.
        seed: Keys all draws.
        mirror: Flip half of the pictures left to right.
        guide_dropout: Share of the pairs whose guide is empty, as that of a picture without a face is.
        degradation: Of the low-resolution side.
        held_out: The last so many pictures of each pack are not trained on.
    """

    datasets: Sequence[PackedDataset]
    landmarks: Sequence[NDArray[np.float32] | None]
    geometry: PairGeometry
    seed: int = 0
    mirror: bool = True
    guide_dropout: float = 0.1
    degradation: Degradation = field(default_factory=Degradation)
    held_out: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.guide_dropout <= 1:
            raise UserError(f"data.guide_dropout must lie in [0, 1], not {self.guide_dropout}")
        if self.held_out < 0:
            raise UserError(f"data.held_out must not be negative, not {self.held_out}")
        for dataset in self.datasets:
            if dataset.count <= self.held_out:
                raise UserError(
                    f"{dataset.path}: data.held_out={self.held_out} of its {dataset.count} pictures leaves none to "
                    "train on"
                )
            if dataset.resolutions[-1] < self.geometry.resolution:
                raise UserError(
                    f"{dataset.path}: its pictures are {dataset.resolutions[-1]} pixels high, the run's "
                    f"{self.geometry.resolution}"
                )

    def __len__(self) -> int:
        return sum(dataset.count - self.held_out for dataset in self.datasets)

    def is_compressed(self, resolution: int) -> bool:
        """Whether pictures have to be decoded, as those of these sizes do: then pairs are made ahead by threads."""
        return True

    def pairs(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """The pairs at positions [first, first + count).

        Returns:
            uint8 ``(count, 3, factor · crop, factor · crop)`` and float32 ``(count, 3 + G, crop, crop)``.
        """
        g = self.geometry
        order = sample_indices(self.seed, len(self), first, count)
        mirrored = flips(self.seed, first, count) if self.mirror else np.zeros(count, dtype=bool)
        draws = uniform(self.seed, "crop", first, count, 3)
        pictures, marks = zip(
            *(self.picture(index, flip) for index, flip in zip(order.tolist(), mirrored.tolist(), strict=True)),
            strict=True,
        )
        faces = degrade(torch.stack([self.shrunk(picture) for picture in pictures]), self.degradation, self.seed, first)
        images, stacks = [], []
        height, width = g.extent(g.low_size)
        for picture, face, mark, (row, column, drop) in zip(pictures, faces, marks, draws.tolist(), strict=True):
            known = [] if mark is None or drop < self.guide_dropout else [mark]
            stack = stack_picture(face, known, (height, width), g.guide)
            y, x = int(row * (height - g.crop + 1)), int(column * (width - g.crop + 1))
            stacks.append(stack[:, y : y + g.crop, x : x + g.crop])
            top, left, side = y * g.factor, x * g.factor, g.crop * g.factor
            images.append(picture[:, top : top + side, left : left + side])
        return torch.stack(images), torch.stack(stacks)

    def picture(self, index: int, mirrored: bool = False) -> tuple[Tensor, NDArray[np.float64] | None]:
        """A picture that is trained on, and its landmarks.

        Args:
            index: In [0, len(self)).
            mirrored: Flip it left to right.

        Returns:
            uint8 ``(3, H, W)`` at the run's resolution; ``(68, 2)`` in pixels of the picture shrunk to ``face_size``,
            or None.
        """
        for number, dataset in enumerate(self.datasets):
            if index < dataset.count - self.held_out:
                return self._read(number, index, mirrored)
            index -= dataset.count - self.held_out
        raise IndexError(index)

    def held_out_picture(self, index: int) -> tuple[Tensor, NDArray[np.float64] | None]:
        """A picture that is kept out of training: they go round the packs; see :meth:`picture`."""
        number, place = index % len(self.datasets), index // len(self.datasets)
        if place >= self.held_out:
            raise IndexError(index)
        return self._read(number, self.datasets[number].count - self.held_out + place, False)

    @property
    def held_out_count(self) -> int:
        """How many pictures are kept out of training."""
        return self.held_out * len(self.datasets)

    def held_out_pairs(self, count: int) -> tuple[Tensor, Tensor]:
        """Crops of the pictures that are kept out of training, undegraded, or of all pictures where none is kept out.

        The first crop of each picture lies on its middle, later ones are drawn.

        Returns:
            As :meth:`pairs`.
        """
        g = self.geometry
        pool = self.held_out_count or len(self)
        draws = uniform(self.seed, "held-out crop", 0, count, 2)
        images, stacks = [], []
        height, width = g.extent(g.low_size)
        for i, (row, column) in enumerate(draws.tolist()):
            read = self.held_out_picture if self.held_out_count else self.picture
            picture, mark = read(i % pool)
            stack = stack_picture(self.shrunk(picture), [] if mark is None else [mark], (height, width), g.guide)
            row, column = (0.5, 0.5) if i < pool else (row, column)
            y, x = int(row * (height - g.crop + 1)), int(column * (width - g.crop + 1))
            side = g.crop * g.factor
            stacks.append(stack[:, y : y + g.crop, x : x + g.crop])
            images.append(picture[:, y * g.factor : y * g.factor + side, x * g.factor : x * g.factor + side])
        return torch.stack(images), torch.stack(stacks)

    def shrunk(self, picture: Tensor) -> Tensor:
        """A picture, uint8 (3, H, W), shrunk to ``face_size`` by means over areas: float32 in [-1, 1]."""
        height, width = self.geometry.extent(self.geometry.face_size)
        pixels = picture.float() / 127.5 - 1
        factor, rest = divmod(picture.shape[1], height)
        if rest == 0 and factor * width == picture.shape[2]:
            return F.avg_pool2d(pixels, factor)
        return resample(pixels, (height, width))

    def _read(self, number: int, index: int, mirrored: bool) -> tuple[Tensor, NDArray[np.float64] | None]:
        dataset, g = self.datasets[number], self.geometry
        level = min(height for height in dataset.resolutions if height >= g.resolution)
        flags = np.array([mirrored])
        pixels = dataset.images(np.array([index]), level, flags)[0].transpose(1, 2, 0)  # (H, W, C)
        height, width = g.extent(g.resolution)
        if pixels.shape[:2] != (height, width):
            pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
        marks = self.landmarks[number]
        if marks is None or not np.isfinite(marks[index]).all():
            return torch.from_numpy(np.array(pixels)).permute(2, 0, 1), None
        scale = g.face_size / dataset.resolutions[-1]
        points = (marks[index].astype(np.float64) + 0.5) * scale - 0.5
        if mirrored:
            points = mirror_landmarks(points, g.extent(g.face_size)[1])
        return torch.from_numpy(np.array(pixels)).permute(2, 0, 1), points
