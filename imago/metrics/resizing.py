"""Resizing before a feature extractor, in the ways that published numbers were made with.

How images are shrunk moves a Fréchet distance by more than a better generator does (Parmar et al. 2022, "On aliased
resizing and surprising subtleties in GAN evaluation"), so every extractor names its way in its protocol.
"""

import numpy as np
import torch
from torch import Tensor

from imago.errors import UserError
from imago.metrics.checks import check_images

WAYS = ("tf1", "clean", "box")


def resize(images: Tensor, size: int | tuple[int, int], how: str) -> Tensor:
    """Resizes images.

    Args:
        images: uint8 ``(N, 3, H, W)``; grey ones are repeated to RGB.
        size: Height and width of the result, or the side of a square, in pixels.
        how: "tf1": bilinear as in the TensorFlow 1 graph of the original Inception score and distance, with pixel
            corners at integers and no low-pass before shrinking. "clean": Pillow's bicubic with a low-pass, unrounded,
            as clean-fid does; overshoots [0, 255] a little at edges, as there. "box": the mean over the area of each
            new pixel; enlarging by whole factors repeats pixels.

    Returns:
        float32 ``(N, 3, h, w)`` in the range [0, 255], on the device of the images.

    Raises:
        UserError: Another way, no such size, or :func:`~imago.metrics.checks.check_images` refuses the images.
    """
    images = check_images(images)
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise UserError(f"cannot resize images to {height}×{width} pixels")
    if how == "tf1":
        return _tf1(images, height, width)
    if how == "clean":
        return _clean(images, height, width)
    if how == "box":
        return _area_means(_area_means(images.double(), 2, height), 3, width).float()
    raise UserError(f"resize={how!r}: must be one of {', '.join(WAYS)}")


def to_bytes(images: Tensor) -> Tensor:
    """Resized images for networks that take nothing else: uint8, rounded to nearest and cut to [0, 255]."""
    return images.round().clamp(0, 255).to(torch.uint8)


def _tf1(images: Tensor, height: int, width: int) -> Tensor:
    """Bilinear interpolation in the order and the precision (float32) in which TensorFlow 1 computes it."""
    top, bottom, down = _tf1_axis(images.shape[2], height, images.device)
    left, right, across = _tf1_axis(images.shape[3], width, images.device)
    pixels = images.float()
    upper, lower = pixels[:, :, top], pixels[:, :, bottom]  # (N, 3, h, W)
    upper = upper[..., left] + (upper[..., right] - upper[..., left]) * across
    lower = lower[..., left] + (lower[..., right] - lower[..., left]) * across
    return upper + (lower - upper) * down[:, None]


def _tf1_axis(before: int, after: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Of each new pixel: the two old ones around it, and how far it lies from the first to the second."""
    scale = np.float32(before) / np.float32(after)
    position = torch.from_numpy(np.arange(after, dtype=np.float32) * scale).to(device)
    first = position.floor().long().clamp(max=before - 1)
    return first, (first + 1).clamp(max=before - 1), position - first


def _clean(images: Tensor, height: int, width: int) -> Tensor:
    from PIL import Image

    resized = np.empty((len(images), 3, height, width), dtype=np.float32)
    for n, image in enumerate(images.cpu().numpy().astype(np.float32)):
        for c, channel in enumerate(image):
            # A two-dimensional float32 array is an image of mode "F", which Pillow does not round.
            resized[n, c] = np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BICUBIC))
    return torch.from_numpy(resized).to(images.device)


def _area_means(pixels: Tensor, dim: int, after: int) -> Tensor:
    """Means along one axis over the old pixels that each of `after` new ones covers, whole or in part.

    On a grid that is finer by `after`, an old pixel is `after` long and a new one as long as there were pixels before:
    all overlaps are integers, and their sums are exact in float64.
    """
    before = pixels.shape[dim]
    first = torch.arange(after) * before // after
    reach = int((((torch.arange(after) + 1) * before - 1) // after - first).max()) + 1
    shape = [-1 if d == dim else 1 for d in range(pixels.ndim)]
    total = torch.zeros((), dtype=pixels.dtype, device=pixels.device)
    for step in range(reach):
        index = first + step
        end = torch.minimum((index + 1) * after, (torch.arange(after) + 1) * before)
        overlap = (end - torch.maximum(index * after, torch.arange(after) * before)).clamp(min=0)
        taken = pixels.index_select(dim, index.clamp(max=before - 1).to(pixels.device))
        total = total + overlap.to(pixels).view(shape) * taken
    return total / before
