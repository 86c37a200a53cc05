"""Cutting a face out of a photo, upright and always framed alike (Karras et al. 2018, appendix C and figure 8).

Coordinates are pixels with pixel centres at integers, x to the right, y down, as everywhere in imago. The picture
itself therefore reaches from −½ to W − ½; what Pillow calls a coordinate is ours plus ½.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.errors import UserError
from imago.faces.padding import extend

Point = NDArray[np.floating]
Enhance = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

_MARGIN = 0.1  # of the rectangle's side, kept around it in every step
_SMALLEST_MARGIN = 3  # pixels
_JPEG_BLOCK = 8  # pixels


@dataclass(frozen=True)
class OrientedRectangle:
    """The square of a photo that becomes the aligned picture.

    Attributes:
        centre: ``(2,)``, in pixels of the photo.
        side: In pixels of the photo.
        x_axis: Unit vector ``(2,)``, to the right in the aligned picture.
        y_axis: Unit vector ``(2,)``, up in the aligned picture, as in the paper's formulas.
    """

    centre: NDArray[np.float64]
    side: float
    x_axis: NDArray[np.float64]
    y_axis: NDArray[np.float64]

    def corners(self) -> NDArray[np.float64]:
        """``(4, 2)``: top left, bottom left, bottom right, top right of the aligned picture, in pixels of the photo."""
        right, up = self.x_axis * self.side / 2, self.y_axis * self.side / 2
        return np.stack([self.centre + x * right + y * up for x, y in ((-1, 1), (-1, -1), (1, -1), (1, 1))])

    def scaled(self, factor: float) -> "OrientedRectangle":
        """The same rectangle in the photo enlarged by `factor`."""
        centre = (self.centre + 0.5) * factor - 0.5
        return OrientedRectangle(centre, self.side * factor, self.x_axis, self.y_axis)


@dataclass(frozen=True)
class CropTransform:
    """Maps points between a photo and the picture of `size` pixels aligned from it; pixel centres at integers."""

    rectangle: OrientedRectangle
    size: int

    def to_crop(self, points: Point) -> NDArray[np.float64]:
        """Pixels of the photo → pixels of the aligned picture, ``(..., 2)``."""
        r = self.rectangle
        offset = np.asarray(points, dtype=np.float64) - r.centre
        across = np.stack([offset @ r.x_axis, -(offset @ r.y_axis)], axis=-1) / r.side  # −½ … ½ within the rectangle
        return (across + 0.5) * self.size - 0.5

    def to_photo(self, points: Point) -> NDArray[np.float64]:
        """Pixels of the aligned picture → pixels of the photo, ``(..., 2)``."""
        r = self.rectangle
        across = ((np.asarray(points, dtype=np.float64) + 0.5) / self.size - 0.5) * r.side
        return r.centre + across[..., :1] * r.x_axis - across[..., 1:] * r.y_axis


class Aligned(NamedTuple):
    """An aligned face and where its pixels come from.

    Attributes:
        image: uint8 ``(size, size, 3)``.
        transform: Between pixels of the photo and of `image`.
    """

    image: NDArray[np.uint8]
    transform: CropTransform


def crop_rectangle(eye0: Point, eye1: Point, mouth0: Point, mouth1: Point) -> OrientedRectangle:
    """The crop rectangle of Karras et al. 2018, appendix C.

    Rotate90 turns a quarter to the left as seen in the picture: (x, y) → (y, −x) where y points down. For an upright
    face y' points up and Rotate90(y') to the left, so x' − Rotate90(y') points to the right: eyes and the line from
    mouth to eyes have a say in the direction, the latter keeps a face in profile upright. y points up.

    Args:
        eye0: ``(2,)``, the eye on the left of the upright face, in pixels.
        eye1: The other eye.
        mouth0: The corner of the mouth on the left.
        mouth1: The other corner.

    Raises:
        ValueError: The points do not determine a rectangle: they are not finite, coincide, or the face is mirrored.
    """
    e0, e1, m0, m1 = (np.asarray(point, dtype=np.float64) for point in (eye0, eye1, mouth0, mouth1))
    eyes, mouth = (e0 + e1) / 2, (m0 + m1) / 2
    x = e1 - e0
    y = eyes - mouth
    centre = eyes - 0.1 * y
    side = max(4.0 * float(np.hypot(*x)), 3.6 * float(np.hypot(*y)))
    direction = x - _rotate90(y)
    length = float(np.hypot(*direction))
    if not np.isfinite(side) or length <= 1e-6 * side or side <= 0:
        raise ValueError("the landmarks do not determine a crop: eyes and mouth coincide or are mirrored")
    x_axis = direction / length
    return OrientedRectangle(centre, side, x_axis, _rotate90(x_axis))


def align(
    image: NDArray[np.uint8],
    rectangle: OrientedRectangle,
    size: int = 1024,
    supersample: int = 4096,
    enhance: Enhance | None = None,
) -> Aligned:
    """Cuts the rectangle out of a photo, as figure 8 of Karras et al. 2018 shows it.

    1. The rectangle is cut out with a margin (appendix C does this last; the result is the same, and quicker).
    2. `enhance` is applied: the place of the paper's two networks, which remove JPEG artefacts and enlarge four times.
       They were never published. Without it nothing is removed, and a rectangle smaller than `size` is enlarged by a
       power of two with Lanczos, as the official tool does before it adds the differences that stand for the networks:
       the geometry is reproduced, the detail that the networks invented is not.
    3. A rectangle of at least four times `size` is shrunk to between two and three times (Lanczos), so that step 5
       never skips pixels.
    4. Where the rectangle reaches beyond the photo, it is continued by its mirror image, blurred and fading
       (:func:`imago.faces.padding.extend`).
    5. The rectangle is resampled bilinearly to `supersample`² pixels, and each block of these averaged to one of size².

    Args:
        image: The photo, uint8 ``(H, W, 3)`` or grey ``(H, W, 1)``.
        rectangle: In pixels of the photo.
        size: Side of the result, in pixels.
        supersample: Side in between, a multiple of `size`.
        enhance: uint8 ``(H, W, 3)`` → uint8 ``(kH, kW, 3)`` for some whole k ≥ 1, the same for every photo.

    Raises:
        UserError: `supersample` is not a multiple of `size`, the photo has transparency, or `enhance` gave something
            else.
        ValueError: The rectangle lies outside the photo.
    """
    if size < 1 or supersample < size or supersample % size:
        raise UserError(f"supersample={supersample}: must be a multiple of size={size}")
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise UserError(f"photos to align must be grey or RGB, got shape {image.shape}: read them with channels=3")
    photo = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    pixels, quad = _cut(photo, rectangle.corners() + 0.5, rectangle.side, _JPEG_BLOCK if enhance else 1)
    side = rectangle.side
    if enhance is not None:
        pixels, factor = _enhanced(pixels, enhance)
        quad, side = quad * factor, side * factor

    picture = Image.fromarray(pixels)
    shrink = int(side / size * 0.5)
    enlarge = 1 if side >= size else 2 ** int(np.ceil(np.log2(size / side)))
    if shrink > 1 or enlarge > 1:
        scale = enlarge / max(shrink, 1)
        new = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        quad = quad * (np.array(new) / picture.size)  # the rounding of the sides is not to shift the face
        picture, side = picture.resize(new, Image.Resampling.LANCZOS), side * scale

    pixels, quad = extend(np.asarray(picture), quad, side, _margin(side))
    return Aligned(_resampled(pixels, quad, size, supersample), CropTransform(rectangle, size))


def _resampled(pixels: NDArray[np.uint8], quad: NDArray[np.float64], size: int, supersample: int) -> NDArray[np.uint8]:
    """Bilinear sampling of a quad (Pillow's coordinates), then block means; rounded once, at the end.

    With bytes in between, Pillow would cut off the fractions and darken the picture by up to half a grey level.
    """
    data = quad.ravel().tolist()
    result = np.empty((size, size, 3), dtype=np.uint8)
    for channel in range(3):
        plane = Image.fromarray(pixels[..., channel].astype(np.float32))
        fine = plane.transform((supersample, supersample), Image.Transform.QUAD, data, Image.Resampling.BILINEAR)
        result[..., channel] = np.rint(np.asarray(fine.reduce(supersample // size))).clip(0, 255)
    return result


def _rotate90(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([vector[1], -vector[0]])


def _margin(side: float) -> int:
    return max(round(side * _MARGIN), _SMALLEST_MARGIN)


def _cut(
    photo: NDArray[np.uint8], quad: NDArray[np.float64], side: float, multiple: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The part of the photo around the quad; it starts at a multiple, so that the grid of JPEG's blocks stays in place.

    The quad is in Pillow's coordinates, ``(4, 2)``.
    """
    margin = _margin(side)
    limits = np.array([photo.shape[1], photo.shape[0]])
    low = np.maximum(np.floor(quad.min(axis=0)).astype(int) - margin, 0) // multiple * multiple
    high = np.minimum(np.ceil(quad.max(axis=0)).astype(int) + margin, limits)
    if (high - low < 1).any():
        raise ValueError("the face lies outside the photo")
    return photo[low[1] : high[1], low[0] : high[0]], quad - low


def _enhanced(pixels: NDArray[np.uint8], enhance: Enhance) -> tuple[NDArray[np.uint8], int]:
    result = np.asarray(enhance(np.ascontiguousarray(pixels)))
    factor = result.shape[0] // pixels.shape[0] if result.ndim == 3 else 0
    expected = (pixels.shape[0] * factor, pixels.shape[1] * factor, 3)
    if result.dtype != np.uint8 or factor < 1 or result.shape != expected:
        raise UserError(
            f"enhance must turn uint8 {pixels.shape} into uint8 (k·H, k·W, 3) for a whole k, "
            f"it gave {result.dtype} {result.shape}"
        )
    return result, factor
