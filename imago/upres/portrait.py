"""Cutting a face out of a photo as the stages saw faces in training, and putting the enlarged one back."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from imago.errors import UserError
from imago.faces.alignment import CropTransform, OrientedRectangle, align, crop_rectangle
from imago.faces.landmarks import as_celeba_annotates, five_points
from imago.upres.chain import shrunk_to
from imago.upres.pixels import from_unit, to_unit

FRAMINGS = ("celeba_hq", "ffhq")

_ALIGNED = 512  # pixels: the face is cut out at least about so large before it is shrunk
_SUPERSAMPLED = 4  # samples along each pixel of that, as prepare.py takes
_ROWS = 1 << 20  # pixels that are warped at a time


@dataclass(frozen=True)
class Portrait:
    """A face cut out of a photo.

    Attributes:
        picture: float32 ``(3, size, size)`` in [-1, 1].
        landmarks: float64 ``(68, 2)`` in its pixels.
        transform: Between pixels of the photo and of `picture`.
    """

    picture: Tensor
    landmarks: NDArray[np.float64]
    transform: CropTransform


def cut_portrait(
    photo: NDArray[np.uint8], landmarks: NDArray[np.floating], size: int = 128, framing: str = "celeba_hq"
) -> Portrait:
    """Cuts a face out, upright and framed as prepare.py frames faces, and shrinks it by means over areas.

    Args:
        photo: uint8 ``(H, W, 3)``.
        landmarks: ``(68, 2)``, in pixels of the photo.
        size: Extent of the result.
        framing: "celeba_hq" or "ffhq", see :class:`imago.data.sources.aligned.AlignedFaces`.

    Raises:
        UserError: The landmarks are no face's, or another framing.
    """
    large = size * max(1, _ALIGNED // size)
    rectangle = portrait_rectangle(landmarks, framing)
    try:
        pixels, transform = align(photo, rectangle, large, _SUPERSAMPLED * large)
    except ValueError as error:
        raise UserError(f"the face that was found cannot be cut out: {error}") from error
    known = [transform.to_crop(np.asarray(landmarks, dtype=np.float64))]
    (small,), picture = shrunk_to((size, size), to_unit(torch.from_numpy(pixels).permute(2, 0, 1)), known)
    return Portrait(picture, small, CropTransform(rectangle, size))


def portrait_rectangle(landmarks: NDArray[np.floating], framing: str = "celeba_hq") -> OrientedRectangle:
    """The part of a photo that becomes the portrait.

    Args:
        landmarks: ``(68, 2)``, in pixels of the photo.
        framing: "celeba_hq" or "ffhq".

    Raises:
        UserError: The landmarks are no face's, or another framing.
    """
    if framing not in FRAMINGS:
        raise UserError(f"framing={framing}: must be one of {', '.join(FRAMINGS)}")
    points = five_points(landmarks)
    if framing == "celeba_hq":
        points = as_celeba_annotates(points)
    try:
        return crop_rectangle(points[0], points[1], points[3], points[4])
    except ValueError as error:
        raise UserError(f"the face that was found cannot be cut out: {error}") from error


def paste_back(
    photo: NDArray[Any],
    portrait: NDArray[Any],
    transform: CropTransform,
    largest: int = 16384,
    feather: float = 0.1,
) -> NDArray[Any]:
    """Enlarges a photo until the face in it is as large as the enlarged portrait, and blends that in.

    Args:
        photo: uint8 or uint16 ``(H, W, C)`` with C = 1 (grey), 3 (RGB) or 4 (RGBA).
        portrait: The same type, ``(3, S, S)``.
        transform: How the portrait was cut out; its `size` does not count.
        largest: Longest side that the result may have.
        feather: Width of the soft edge of the portrait, as a share of its side.

    Returns:
        ``(H', W', C)``; no smaller than the photo.
    """
    height, width = photo.shape[:2]
    extent = portrait.shape[1]
    rectangle = transform.rectangle
    scale = max(1.0, min(extent / rectangle.side, largest / max(height, width)))
    high = max(1, round(height * scale)), max(1, round(width * scale))
    result = _enlarged(photo, high)
    steps = np.array([high[1] / width, high[0] / height])  # pixels of the result per pixel of the photo, in x and y
    face = to_unit(portrait)
    side = max(1, math.ceil(rectangle.side * float(steps.max())))
    if side < extent:  # else pixels would be skipped
        face = shrunk_to((side, side), face)[1]
    corners = (rectangle.corners() + 0.5) * steps  # edges of the picture at 0 and its extent
    left, top = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)), [high[1], high[0]]).astype(int).tolist()
    rows = max(1, _ROWS // max(1, right - left))
    for first in range(top, bottom, rows):
        last = min(first + rows, bottom)
        y, x = np.mgrid[first:last, left:right].astype(np.float64)
        place = np.stack([x + 0.5, y + 0.5], axis=-1) / steps - 0.5  # in pixels of the photo
        within = (CropTransform(rectangle, 1).to_crop(place) + 0.5).astype(np.float32)  # 0 … 1 from edge to edge
        share = torch.from_numpy(_window(within, feather))
        grid = torch.from_numpy(2 * within - 1)[None]
        warped = grid_sample(face[None], grid, mode="bicubic", padding_mode="border", align_corners=False)[0]
        part = result[first:last, left:right]
        colours = part.shape[2] - (part.shape[2] + 1) % 2  # without transparency
        if colours == 1:
            warped = warped.mean(dim=0, keepdim=True)
        below = to_unit(np.ascontiguousarray(part[..., :colours])).permute(2, 0, 1)
        blended = from_unit(below + (warped - below) * share, torch.from_numpy(part[:0]).dtype)
        part[..., :colours] = blended.permute(1, 2, 0).numpy()
    return result


def _window(within: NDArray[np.float32], feather: float) -> NDArray[np.float32]:
    """The share of the portrait: 0 at and beyond its edges, a raised cosine up to 1 in its middle."""
    inside = np.minimum(within, 1 - within).min(axis=-1)
    ramp = np.clip(inside / feather, 0, 1) if feather > 0 else (inside >= 0).astype(np.float32)
    return np.asarray(np.sin(np.pi / 2 * ramp) ** 2, dtype=np.float32)


def _enlarged(photo: NDArray[Any], extent: tuple[int, int]) -> NDArray[Any]:
    """A photo ``(H, W, C)`` brought to (height, width) by Lanczos's filter, its type kept."""
    result = np.empty((*extent, photo.shape[2]), photo.dtype)
    highest = np.iinfo(photo.dtype).max
    size = extent[1], extent[0]
    for channel in range(photo.shape[2]):
        plane = Image.fromarray(photo[..., channel].astype(np.float32) if highest > 255 else photo[..., channel])
        large = np.asarray(plane.resize(size, Image.Resampling.LANCZOS))
        result[..., channel] = large if highest == 255 else np.rint(large).clip(0, highest)
    return result
