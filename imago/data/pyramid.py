"""From an image of any size to the levels of a pack."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.data.sources.source import Item
from imago.errors import UserError

CROPS = ("center", "stretch")


def level_heights(resolution: int, base: tuple[int, int]) -> list[int]:
    """Heights of the levels, ascending: base height · 2^k up to `resolution`.

    Raises:
        UserError: `base` is not positive, or `resolution` is not one of these heights.
    """
    if min(base) < 1:
        raise UserError(f"base={base}: must be two positive numbers, height and width of the smallest level")
    heights = [base[0]]
    while heights[-1] < resolution:
        heights.append(2 * heights[-1])
    if heights[-1] != resolution:
        nearest = " or ".join(str(height) for height in heights[-2:])
        raise UserError(f"resolution={resolution}: must be {base[0]} doubled some number of times; nearest: {nearest}")
    return heights


def crop_box(height: int, width: int, base: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest centred box of the aspect `base` (H, W), in whole pixels: (left, top, right, bottom)."""
    crop_height, crop_width = height, width
    if width * base[0] > height * base[1]:
        crop_width = max(1, round(height * base[1] / base[0]))
    else:
        crop_height = max(1, round(width * base[0] / base[1]))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def resize(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resizes with the exact area mean where both sides shrink by one power of two, with Lanczos otherwise.

    The mean makes a source that is already larger by a power of two give the same images as a larger pack would;
    Lanczos (widened when it shrinks, so free of aliases) keeps photos of any other size sharper than an area filter.
    """
    factor = image.height // height
    if (image.height, image.width) == (height * factor, width * factor) and factor & (factor - 1) == 0:
        return image.reduce(factor) if factor > 1 else image
    return image.resize((width, height), Image.Resampling.LANCZOS)


def fit(
    item: Item, height: int, width: int, channels: int, crop: str
) -> tuple[NDArray[np.uint8], NDArray[np.float32], bool]:
    """Crops and resizes one item to the largest level.

    Args:
        item: The item.
        height: Of the largest level.
        width: Of the largest level.
        channels: Channels wanted. Grey and RGB are converted into each other; alpha may be added, never dropped.
        crop: "center" cuts the longer direction to the aspect, "stretch" changes the aspect.

    Returns:
        uint8 ``(height, width, channels)``; float32 landmarks ``(68, 2)``, NaN where the item has none; whether the
        item had to be enlarged.

    Raises:
        UserError: The item has an alpha channel and `channels` has none.
    """
    image = item.image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise TypeError(f"{item.name}: a source must give uint8 (H, W, 1, 3 or 4), got {image.dtype} {image.shape}")
    if image.shape[2] == 4 and channels < 4:
        raise UserError(
            f"the source gives images with transparency, channels={channels} drops it: read it on a background"
        )
    box = (0, 0, image.shape[1], image.shape[0])
    if crop == "center":
        box = crop_box(image.shape[0], image.shape[1], (height, width))
    left, top, right, bottom = box
    cropped = image[top:bottom, left:right]
    pixels = cropped if cropped.shape == (height, width, channels) else _resized(cropped, height, width, channels)

    landmarks = np.full((68, 2), np.nan, dtype=np.float32)
    if item.landmarks is not None:
        scale = np.array([width / (right - left), height / (bottom - top)])
        landmarks[:] = (np.asarray(item.landmarks, dtype=np.float64) - (left, top) + 0.5) * scale - 0.5
    return pixels, landmarks, right - left < width or bottom - top < height


def _resized(image: NDArray[np.uint8], height: int, width: int, channels: int) -> NDArray[np.uint8]:
    picture = Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    if picture.mode != mode:
        picture = picture.convert(mode)
    return np.asarray(resize(picture, height, width)).reshape(height, width, channels)


def pyramid(images: NDArray[np.uint8], levels: int) -> list[NDArray[np.uint8]]:
    """The images and their successive 2×2 box filterings, smallest first.

    As in the tool of Karras et al. 2018, unrounded means are carried down and each level is rounded once (halves to
    even): a level is the rounded mean of the pixels of the largest one, and no level is brighter than another.

    Args:
        images: uint8 ``(N, H, W, C)``.
        levels: How many, ≥ 1; H and W are multiples of 2^(levels − 1).
    """
    result = [images]
    sums = images  # of 4^k pixels: exact in 16 bits down to k = 4, in 32 bits down to k = 12
    for k in range(1, levels):
        dtype = np.uint16 if k < 5 else np.uint32
        rows = np.add(sums[:, 0::2], sums[:, 1::2], dtype=dtype)  # (N, H/2, W, C)
        sums = np.empty((*rows.shape[:2], rows.shape[2] // 2, rows.shape[3]), dtype)  # (N, H/2, W/2, C)
        for c in range(rows.shape[3]):  # one after the other, or NumPy's innermost loop is three numbers long
            np.add(rows[:, :, 0::2, c], rows[:, :, 1::2, c], out=sums[..., c])
        rounded = (sums >> (2 * k)) & 1  # halves go up where the whole part is odd
        rounded += dtype((1 << (2 * k - 1)) - 1)
        rounded += sums
        rounded >>= 2 * k
        result.append(rounded.astype(np.uint8))
    return result[::-1]
