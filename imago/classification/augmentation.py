"""Small changes of training images that leave every attribute as it is."""

import torch
import torch.nn.functional as F
from torch import Tensor

from imago import randomness

_SHIFT = 1 / 16  # of the height: most that an image is moved, along each axis
_BRIGHTNESS = 0.1  # most that is added, of half the range
_CONTRAST = 0.15  # most by which differences are enlarged or reduced


def augment(images: Tensor, seed: int, position: int) -> Tensor:
    """Moves images by whole pixels (what comes in repeats the edge), and changes brightness and contrast.

    By whole pixels, because interpolation would blur eyes that are three pixels wide. Colours keep their ratio: skin,
    hair and eyes are labelled by them.

    Args:
        images: ``(N, C, H, W)`` in [-1, 1].
        seed: The run's seed.
        position: Of the first image in the run (images_seen). Image *i* depends on (seed, position + i) alone.

    Returns:
        ``(N, C, H, W)``, clipped to [-1, 1].
    """
    count, _, height, width = images.shape
    draws = randomness.uniform(seed, "augmentation", position, count, 4)
    most = max(1, round(height * _SHIFT))
    shifts = torch.from_numpy((draws[:, :2] * (2 * most + 1)).astype("int64"))  # 0 … 2 · most
    padded = F.pad(images, (most, most, most, most), mode="replicate")
    moved = torch.stack(
        [
            image[:, top : top + height, left : left + width]
            for image, (top, left) in zip(padded, shifts.tolist(), strict=True)
        ]
    ).contiguous(memory_format=torch.channels_last)
    factors = torch.from_numpy(2 * draws[:, 2:] - 1).to(images)[:, :, None, None, None]  # (N, 2, 1, 1, 1) in [-1, 1]
    return (moved * (1 + _CONTRAST * factors[:, 0]) + _BRIGHTNESS * factors[:, 1]).clamp(-1, 1)
