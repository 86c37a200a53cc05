"""The image metrics of Karras et al. 2018 in plain NumPy and SciPy: what imago's are checked and timed against.

Written from a description of the arithmetic of the official code, and no faster than that: SciPy's convolutions,
a sort per set of directions, Fourier convolutions for MS-SSIM. In float64 throughout where the input is.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

Array = NDArray[np.floating]

BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])[None, None] / 256
SCALE_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


def blocky_images(count: int, resolution: int, seed: int) -> NDArray[np.uint8]:
    """Noisy blocks of 8×8 pixels ``(count, 3, resolution, resolution)``: the official code's numbers are for these."""
    rng = np.random.RandomState(seed)
    blocks = rng.randint(0, 256, (count, 3, resolution // 8, resolution // 8)).astype(np.float64)
    noise = rng.randint(-20, 21, (count, 3, resolution, resolution))
    return np.clip(np.kron(blocks, np.ones((1, 1, 8, 8))) + noise, 0, 255).astype(np.uint8)


# --- sliced Wasserstein distance --------------------------------------------------------------------------------------


def reduce(images: Array) -> Array:
    return ndimage.convolve(images, BINOMIAL, mode="mirror")[:, :, ::2, ::2]


def enlarge(images: Array, height: int, width: int) -> Array:
    zeros = np.zeros((*images.shape[:2], height, width), images.dtype)
    zeros[:, :, ::2, ::2] = images
    return ndimage.convolve(zeros, 4 * BINOMIAL, mode="mirror")


def laplacian_pyramid(images: Array, levels: int) -> list[Array]:
    pyramid = [images]
    for _ in range(levels - 1):
        pyramid.append(reduce(pyramid[-1]))
    for i in range(levels - 1):
        pyramid[i] = pyramid[i] - enlarge(pyramid[i + 1], *pyramid[i].shape[2:])
    return pyramid


def patches_at(level: Array, corners: NDArray[np.integer]) -> Array:
    """7×7 patches ``(N, P, C, 7, 7)`` whose first pixels are at ``(N, P, 2)`` (row, column)."""
    offsets = np.arange(7)
    rows = (corners[..., 0, None] + offsets)[:, :, None, :, None]
    columns = (corners[..., 1, None] + offsets)[:, :, None, None, :]
    image = np.arange(level.shape[0])[:, None, None, None, None]
    channel = np.arange(level.shape[1])[None, None, :, None, None]
    return level[image, channel, rows, columns]


def normalise(patches: Array) -> Array:
    """Mean 0 and variance 1 per channel ``(M, C, 7, 7)``, as descriptors ``(M, C · 49)``."""
    patches = patches - patches.mean(axis=(0, 2, 3), keepdims=True)
    return (patches / patches.std(axis=(0, 2, 3), keepdims=True)).reshape(len(patches), -1)


def sliced_distance(a: Array, b: Array, directions: Array) -> float:
    """Mean over unit directions ``(K, D)`` of the 1-Wasserstein distance between projections of (M, D) points."""
    projected = [np.sort(points @ directions.T, axis=0) for points in (a, b)]
    return float(np.abs(projected[0] - projected[1]).mean())


def random_directions(rng: np.random.RandomState, count: int, size: int, dtype: np.dtype) -> Array:
    directions = rng.randn(size, count)
    return (directions / np.linalg.norm(directions, axis=0)).T.astype(dtype)


def descriptors(images: NDArray[np.uint8], levels: int, rng: np.random.RandomState, batch: int = 64) -> list[Array]:
    """Normalised descriptors per level, 128 patches an image, as float32 ``(128 · N, C · 49)``."""
    collected: list[list[Array]] = [[] for _ in range(levels)]
    for start in range(0, len(images), batch):
        part = images[start : start + batch].astype(np.float32)
        for level, found in zip(laplacian_pyramid(part, levels), collected, strict=True):
            corners = rng.randint(0, np.array(level.shape[2:]) - 6, (len(part), 128, 2))
            found.append(patches_at(level, corners).reshape(-1, level.shape[1], 7, 7))
    return [normalise(np.concatenate(found)) for found in collected]


def sliced_wasserstein(real: NDArray[np.uint8], fake: NDArray[np.uint8], seed: int) -> list[float]:
    """Per level down to 16, finest first, × 10³: 4 times 128 directions."""
    rng = np.random.RandomState(seed)
    levels = int(np.log2(real.shape[2] // 16)) + 1
    distances = []
    for a, b in zip(descriptors(real, levels, rng), descriptors(fake, levels, rng), strict=True):
        repeats = [sliced_distance(a, b, random_directions(rng, 128, a.shape[1], a.dtype)) for _ in range(4)]
        distances.append(1e3 * float(np.mean(repeats)))
    return distances


# --- MS-SSIM ----------------------------------------------------------------------------------------------------------


def ssim(a: Array, b: Array) -> tuple[Array, Array]:
    """SSIM and its contrast–structure part, means per pair: ``(N,)`` each."""
    size = min(11, *a.shape[2:])
    profile = np.exp(-((np.arange(size) - (size - 1) / 2) ** 2) / (2 * (1.5 * size / 11) ** 2))
    window = np.outer(profile, profile)[None, None] / profile.sum() ** 2

    def blur(x: Array) -> Array:
        return signal.fftconvolve(x, window, mode="valid")

    mean_a, mean_b = blur(a), blur(b)
    variances = blur(a * a) - mean_a**2 + blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    contrast_structure = (2 * covariance + c2) / (variances + c2)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * contrast_structure).mean(axis=(1, 2, 3)), contrast_structure.mean(axis=(1, 2, 3))


def ms_ssim(a: NDArray[np.uint8], b: NDArray[np.uint8], dtype: type = np.float64) -> Array:
    """One value per pair: ``(N,)``."""
    x, y = a.astype(dtype), b.astype(dtype)
    product = np.ones(len(x))
    for scale, weight in enumerate(SCALE_WEIGHTS):
        value, contrast_structure = ssim(x, y)
        product *= np.clip(contrast_structure if scale < 4 else value, 0, None) ** weight
        box = np.full((1, 1, 2, 2), 0.25)
        x, y = (ndimage.convolve(image, box, mode="reflect")[:, :, ::2, ::2] for image in (x, y))
    return product
