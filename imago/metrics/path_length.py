"""Perceptual path length (Karras et al. 2019, section 4.1): how abruptly images change along paths in latent space.

A path between two random latents is cut at a random place, and the perceptual distance of the images a small step ε
apart is measured; divided by ε², because the distance is quadratic in small differences. Lower is smoother. The 1% of
lowest and of highest values are left out, as in the authors' code. Numbers compare only for the same latent space,
crop, resolution and distance.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from imago import randomness
from imago.errors import UserError

Generator = Callable[[Tensor], Tensor]
Distance = Callable[[Tensor, Tensor], Tensor]

SAMPLES = 100_000  # that the paper estimates with
PATHS = ("full", "end")

_LARGEST = 256  # pixels: larger images are shrunk for the distance, as the metric was made for such ones
_LOWEST, _HIGHEST = 1, 99  # percentiles between which values count


class PerceptualPathLength(Metric):
    """Path length over batches and processes: each takes its share of the numbered samples.

    Args:
        generator: Turns float32 latents ``(n, size)`` on the CPU into images ``(n, C, H, W)`` in [-1, 1], on any
            device, C = 1 or 3; never rounded to bytes, which would drown the differences.
        latent_size: Components of a latent.
        distance: Of two sets of images ``(n, 3, h, w)`` in [-1, 1], pair by pair: ``(n,)``, as
            :class:`imago.metrics.lpips.Lpips`.
        path: "full": cut anywhere, uniformly (the paper's l_Z); "end": at the start, so images are of random latents,
            not of those between them.
        epsilon: Step, in (0, 1], as a share of the path.
        seed: Of the latents.
        face_crop: Whether to compare faces only, rows 3/8 to 7/8 and columns 2/8 to 6/8, as the paper does for FFHQ.
        **kwargs: See :class:`torchmetrics.Metric`.

    Raises:
        UserError: An unknown path, or a step out of range.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    lengths: list[Tensor]

    def __init__(
        self,
        generator: Generator,
        latent_size: int,
        distance: Distance,
        path: str = "full",
        epsilon: float = 1e-4,
        seed: int = 0,
        face_crop: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if path not in PATHS:
            raise UserError(f"path={path!r}: must be {' or '.join(PATHS)}")
        if not 0 < epsilon <= 1:
            raise UserError(f"epsilon={epsilon}: must be a share of the path, above 0 and at most 1")
        self._generator, self._distance = [generator], [distance]  # in lists: no modules of the metric
        self.latent_size, self.path, self.epsilon = latent_size, path, epsilon
        self.seed, self.face_crop = seed, face_crop
        self.set_dtype(torch.float64)  # also of what a process without samples contributes
        self.add_state("lengths", [], dist_reduce_fx="cat")

    @torch.no_grad()
    def update(self, start: int, count: int) -> None:
        """Measures the samples number ``start`` to ``start + count - 1``, in one batch.

        Raises:
            UserError: The generator does not make images in floating point, or they are not finite.
        """
        latents = torch.from_numpy(step_latents(self.seed, start, count, self.latent_size, self.path, self.epsilon))
        images = for_distance(self._generator[0](latents.flatten(0, 1)), self.face_crop)
        first, second = images.unflatten(0, (2, count))
        lengths = self._distance[0](first, second).double() / self.epsilon**2
        if not bool(torch.isfinite(lengths).all()):
            raise UserError(f"path length: NaN or infinity among samples {start} to {start + count - 1}")
        self.lengths.append(lengths.to(self.device))

    def compute(self) -> float:
        """The path length over all samples measured.

        Raises:
            UserError: There are none.
        """
        if isinstance(self.lengths, list) and not self.lengths:
            raise UserError("no sample was measured: the path length is not known")
        return trimmed_mean(dim_zero_cat(self.lengths).cpu().numpy())


def perceptual_path_length(
    generator: Generator,
    latent_size: int,
    distance: Distance,
    samples: int = SAMPLES,
    batch: int = 16,
    **options: Any,
) -> float:
    """Perceptual path length of a generator.

    Args:
        generator: See :class:`PerceptualPathLength`, as for the following and for `options`.
        latent_size: Components of a latent.
        distance: Of two sets of images.
        samples: How many steps are measured; the first n of any number are the same.
        batch: Samples at once: twice as many images. Changes nothing but rounding.
        **options: `path`, `epsilon`, `seed`, `face_crop`.

    Raises:
        UserError: Fewer than one sample, or see :class:`PerceptualPathLength`.
    """
    if samples < 1 or batch < 1:
        raise UserError(f"{samples=}, {batch=}: both must be at least 1")
    metric = PerceptualPathLength(generator, latent_size, distance, sync_on_compute=False, **options)
    for start in range(0, samples, batch):
        metric.update(start, min(batch, samples - start))
    return metric.compute()


def step_latents(seed: int, start: int, count: int, size: int, path: str, epsilon: float) -> NDArray[np.float32]:
    """Both ends of a small step on a great circle between two random latents.

    Args:
        seed: The seed.
        start: Number of the first step.
        count: How many steps.
        size: Components of a latent.
        path: "full" or "end".
        epsilon: Length of the step, as a share of the way between the two latents.

    Returns:
        ``(2, count, size)``, each vector of length √size; what belongs to step *i* depends only on (seed, size, path,
        epsilon, start + i).
    """
    a = randomness.normal(seed, "path_length/from", start, count, size)
    b = randomness.normal(seed, "path_length/to", start, count, size)
    t = np.zeros((count, 1)) if path == "end" else randomness.uniform(seed, "path_length/place", start, count)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    across = b - (a * b).sum(axis=1, keepdims=True) * a
    sine = np.linalg.norm(across, axis=1, keepdims=True)
    angle = np.arctan2(sine, (a * b).sum(axis=1, keepdims=True))
    across /= np.maximum(sine, 1e-12)
    places = np.stack([t, t + epsilon]) * angle  # (2, count, 1)
    return (math.sqrt(size) * (np.cos(places) * a + np.sin(places) * across)).astype(np.float32)


def for_distance(images: Tensor, face_crop: bool = False) -> Tensor:
    """Images as the distance sees them.

    Args:
        images: Floating point ``(N, C, H, W)`` with C = 1 or 3.
        face_crop: Whether to keep rows 3/8 to 7/8 and columns 2/8 to 6/8 only.

    Returns:
        ``(N, 3, h, w)``: cropped, and where the whole images are 512 pixels high or more, shrunk by the whole factor
        that brings them to 256 (area means).

    Raises:
        UserError: Other images.
    """
    if images.ndim != 4 or not images.is_floating_point() or images.shape[1] not in (1, 3):
        found = f"{str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}"
        raise UserError(f"path length needs images in floating point (N, 1 or 3, H, W) in [-1, 1], not {found}")
    factor = max(1, images.shape[2] // _LARGEST)
    if face_crop:
        rows, columns = images.shape[2] // 8, images.shape[3] // 8
        images = images[:, :, 3 * rows : 7 * rows, 2 * columns : 6 * columns]
    if factor > 1:
        images = torch.nn.functional.avg_pool2d(images, factor)
    return images.expand(-1, 3, -1, -1)


def trimmed_mean(values: NDArray[np.floating]) -> float:
    """The mean of the values from the 1st to the 99th percentile, both taken outwards to the next value."""
    lowest = np.percentile(values, _LOWEST, method="lower")
    highest = np.percentile(values, _HIGHEST, method="higher")
    return float(values[(values >= lowest) & (values <= highest)].mean())
