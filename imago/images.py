"""Pictures: between network output and bytes, on disk, in grids."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from imago.atomic import atomic_path
from imago.errors import UserError

# What Pillow writes under each ending. WebP without loss: a generator's pictures are what is to be judged.
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".webp": {"format": "WEBP", "lossless": True},
}
IMAGE_ENDINGS = tuple(SAVE_OPTIONS)

_EXIF_IMAGE_DESCRIPTION = 0x010E


def to_uint8(images: Tensor) -> Tensor:
    """Network output to bytes: -1 → 0, 1 → 255, rounded to the nearest, clipped (as the official PGGAN code).

    Args:
        images: Floating point, any shape, about [-1, 1].

    Returns:
        The same shape, uint8.
    """
    return (images.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def to_rgb(picture: Tensor) -> Tensor:
    """Any picture as RGB, for films: grey is repeated, transparency shows white.

    Args:
        picture: uint8 ``(C, H, W)`` with C = 1, 3 or 4.

    Returns:
        uint8 ``(3, H, W)``.
    """
    if len(picture) == 4:
        opacity = picture[3:].float() / 255
        return (picture[:3] * opacity + 255 * (1 - opacity)).round().to(torch.uint8)
    return picture.expand(3, -1, -1)


def save_image(
    path: str | Path, image: Tensor | NDArray[np.uint8], metadata: Mapping[str, object] | None = None
) -> Path:
    """Write a picture in the format of the path's ending: ``.png``, ``.jpg``, ``.jpeg`` or ``.webp``.

    The file appears whole or not at all, and its folder is made if need be. PNG and WebP keep every value; JPEG is
    written at quality 95 without chroma subsampling.

    Args:
        path: The file; PNG if it has no ending (``.png`` is then added).
        image: uint8 ``(C, H, W)``, ``(H, W, C)`` or ``(H, W)`` with C = 1 (grey), 3 (RGB) or 4 (RGBA). Where both ends
            could be channels, a tensor is read as ``(C, H, W)`` and an array as ``(H, W, C)``.
        metadata: How the picture was made, kept inside it: one text chunk per entry in a PNG, JSON in the EXIF field
            ImageDescription otherwise.

    Returns:
        The path written.

    Raises:
        UserError: If the ending is unknown or JPEG is asked to hold transparency.
        ValueError: If the image is not uint8 or has none of these shapes.
    """
    path = Path(path)
    if not path.suffix:
        path = path.with_name(f"{path.name}.png")
    options = SAVE_OPTIONS.get(path.suffix.lower())
    if options is None:
        raise UserError(f"cannot write a picture as {path.name}: the ending must be one of {', '.join(IMAGE_ENDINGS)}")
    pixels = _height_width_channels(image)
    if options["format"] == "JPEG" and pixels.shape[2] == 4:
        raise UserError(f"cannot write {path.name}: JPEG holds no transparency; use .png or .webp")
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    with atomic_path(path) as temporary:
        picture.save(temporary, **options, **_embedded(metadata, str(options["format"])))
    return path


def image_grid(images: Tensor, columns: int | None = None, padding: int = 0) -> Tensor:
    """Lay pictures out row by row, the first at the top left.

    Args:
        images: uint8 ``(N, C, H, W)`` with N ≥ 1.
        columns: Pictures in a row; by default the smallest square that holds all of them.
        padding: Black pixels between neighbours (none around the grid).

    Returns:
        uint8 ``(C, rows · H + (rows - 1) · padding, columns · W + (columns - 1) · padding)``; places left over at the
        end are black.

    Raises:
        ValueError: If there is no picture, or columns < 1, or padding < 0.
    """
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"a grid needs pictures (N, C, H, W) with N ≥ 1, not a tensor of shape {tuple(images.shape)}")
    if columns is None:
        columns = math.ceil(math.sqrt(len(images)))
    if columns < 1 or padding < 0:
        raise ValueError(f"a grid needs columns ≥ 1 and padding ≥ 0, not {columns} and {padding}")
    count, channels, height, width = images.shape
    rows = math.ceil(count / columns)
    # Each cell carries its padding on the right and below, cut off again at the edge of the grid.
    cells = images.new_zeros(rows * columns, channels, height + padding, width + padding)
    cells[:count, :, :height, :width] = images
    grid = cells.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4)  # (C, rows, H + padding, columns, W + padding)
    grid = grid.reshape(channels, rows * (height + padding), columns * (width + padding))
    return grid[:, : grid.shape[1] - padding, : grid.shape[2] - padding]


def grid_shape(resolution: int) -> tuple[int, int]:
    """Columns and rows of a grid that about fills a 1920×1080 screen, within 3×2 and 32×32 (as the official code)."""
    return min(max(1920 // resolution, 3), 32), min(max(1080 // resolution, 2), 32)


def upscale_nearest(image: Tensor, factor: int) -> Tensor:
    """Repeat every pixel ``factor`` times in both directions, to look at small pictures.

    Args:
        image: ``(..., H, W)``, any type.
        factor: ≥ 1.

    Returns:
        ``(..., factor · H, factor · W)``, the same type.

    Raises:
        ValueError: If the factor is less than 1.
    """
    if factor < 1:
        raise ValueError(f"the upscaling factor must be at least 1, not {factor}")
    return image.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def _height_width_channels(image: Tensor | NDArray[np.uint8]) -> NDArray[np.uint8]:
    pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if pixels.dtype != np.uint8:
        raise ValueError(f"a picture must be uint8 to be written, not {pixels.dtype}; see imago.images.to_uint8")
    if pixels.ndim == 2:
        return np.ascontiguousarray(pixels[:, :, None])
    first, last = (pixels.ndim == 3 and pixels.shape[end] in (1, 3, 4) for end in (0, 2))
    if not (first or last) or pixels.size == 0:
        raise ValueError(f"a picture must be (C, H, W) or (H, W, C) with C = 1, 3 or 4, not {pixels.shape}")
    if first and (isinstance(image, Tensor) or not last):
        pixels = pixels.transpose(1, 2, 0)
    return np.ascontiguousarray(pixels)


def _embedded(metadata: Mapping[str, object] | None, file_format: str) -> dict[str, Any]:
    """Pillow's saving options that put the metadata into the file."""
    if not metadata:
        return {}
    if file_format == "PNG":
        chunks = PngInfo()
        for key, value in metadata.items():
            chunks.add_itxt(key, str(value))  # iTXt is the one that holds any Unicode; readers show it like tEXt
        return {"pnginfo": chunks}
    exif = Image.Exif()
    exif[_EXIF_IMAGE_DESCRIPTION] = json.dumps({key: str(value) for key, value in metadata.items()})  # EXIF is ASCII
    return {"exif": exif}
