"""A canvas for soft shapes given in the face frame.

Shapes are rasterised inside their bounding boxes only, and blurred at a reduced scale: the cost of a soft shadow does
not grow with its softness, and a 4096² portrait needs little more memory than its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from imago.data.drawn_portraits.geometry import Points, Projection

Box = tuple[int, int, int, int]

VIEW_LEFT, VIEW_TOP, VIEW_WIDTH, VIEW_HEIGHT = -1.9, -2.1, 3.8, 4.8
"""Window of the view frame that smooth fields (shading) cover."""
_FIELD_MARGIN = 48
_FIELD_STEP = 1 / 32  # in eye distances: finer than any shading on the face


@lru_cache
def field_grid() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """View-frame coordinates (x, y) of the samples of a smooth field: two arrays ``(154, 122)``."""
    x = VIEW_LEFT + _FIELD_STEP * (np.arange(round(VIEW_WIDTH / _FIELD_STEP), dtype=np.float32) + 0.5)
    y = VIEW_TOP + _FIELD_STEP * (np.arange(round(VIEW_HEIGHT / _FIELD_STEP), dtype=np.float32) + 0.5)
    return np.meshgrid(x, y)


def tinted(colour: ArrayLike, gain: float, towards: ArrayLike = (0, 0, 0), amount: float = 0.0) -> tuple[int, int, int]:
    """A colour scaled by *gain*, then mixed with *towards*; integers in [0, 255]."""
    mixed = np.asarray(colour, dtype=float) * gain * (1 - amount) + np.asarray(towards, dtype=float) * amount
    red, green, blue = np.clip(mixed, 0, 255).astype(int).tolist()
    return red, green, blue


@dataclass
class Stencil:
    """Coverage of a shape: an ``L`` image that lies at *box* of the canvas."""

    box: Box
    coverage: Image.Image

    def scaled(self, opacity: float) -> Stencil:
        if opacity >= 1:
            return self
        return Stencil(self.box, self.coverage.point([int(value * opacity + 0.5) for value in range(256)]))

    def at(self, pixels: Points) -> NDArray[np.uint8]:
        """Coverage, 0 … 255, at continuous canvas coordinates ``(N, 2)``: ``(N,)``."""
        place = np.floor(pixels).astype(int) - self.box[:2]
        size = np.array(self.coverage.size)
        inside = ((place >= 0) & (place < size)).all(1)
        column, row = np.clip(place, 0, size - 1).T
        return np.where(inside, np.asarray(self.coverage)[row, column], 0).astype(np.uint8)

    def within(self, other: Stencil) -> Stencil | None:
        """The part of this stencil that lies in another; None where they do not meet."""
        left, top = max(self.box[0], other.box[0]), max(self.box[1], other.box[1])
        right, bottom = min(self.box[2], other.box[2]), min(self.box[3], other.box[3])
        if left >= right or top >= bottom:
            return None
        here, there = (
            stencil.coverage.crop(
                (left - stencil.box[0], top - stencil.box[1], right - stencil.box[0], bottom - stencil.box[1])
            )
            for stencil in (self, other)
        )
        return Stencil((left, top, right, bottom), ImageChops.multiply(here, there))

    def without(self, other: Stencil) -> Stencil:
        """This stencil minus the coverage of another."""
        hole = Image.new("L", self.coverage.size)
        hole.paste(other.coverage, (other.box[0] - self.box[0], other.box[1] - self.box[1]))
        return Stencil(self.box, ImageChops.multiply(self.coverage, ImageChops.invert(hole)))


def ribbons(curves: NDArray[np.float64], widths: ArrayLike, taper: bool = True) -> NDArray[np.float64]:
    """Outlines of strokes along curves.

    Args:
        curves: ``(K, N, 2)``.
        widths: Full width of each stroke, ``(K,)`` or a number.
        taper: Whether strokes thin out at both ends.

    Returns:
        ``(K, 2N, 2)`` closed outlines.
    """
    direction = np.empty_like(curves)
    direction[:, 1:-1] = curves[:, 2:] - curves[:, :-2]
    direction[:, 0], direction[:, -1] = curves[:, 1] - curves[:, 0], curves[:, -1] - curves[:, -2]
    normal = direction[..., ::-1] * [-1.0, 1.0]
    normal /= np.sqrt((normal**2).sum(-1, keepdims=True)) + 1e-9
    along = np.sin(np.linspace(0.12, math.pi - 0.12, curves.shape[1])) ** 0.6 if taper else np.ones(curves.shape[1])
    half = (
        0.5 * np.broadcast_to(np.asarray(widths, dtype=float), curves.shape[:1])[:, None, None] * along[None, :, None]
    )
    return np.concatenate([curves + normal * half, (curves - normal * half)[:, ::-1]], 1)


class Canvas:
    """An RGB picture drawn in face-frame coordinates.

    Args:
        side: Side of the canvas in pixels (the picture's, times the supersampling).
        projection: Brings the face frame to the picture.
    """

    def __init__(self, side: int, projection: Projection) -> None:
        self.side = side
        self.projection = projection
        self.unit = projection.pose.scale * side  # pixels to the distance of the eyes
        self.image = Image.new("RGB", (side, side))

    def pixels(self, face: Points, flat: bool = False) -> Points:
        """Continuous canvas coordinates; *flat* points are in the view frame already (not on the head)."""
        if flat:
            return self.projection.view_to_picture(face, self.side)
        return self.projection.to_picture(face, self.side)

    def stencil(
        self, shapes: Points | Sequence[Points], blur: float = 0.0, flat: bool = False, opacity: float = 1.0
    ) -> Stencil | None:
        """Coverage of one or more closed outlines.

        Args:
            shapes: Outline ``(N, 2)``, or several.
            blur: Standard deviation of the soft edge, in eye distances.
            flat: See :meth:`pixels`.
            opacity: Coverage inside the outlines, 0 … 1.

        Returns:
            None where nothing falls on the canvas.
        """
        outlines = [shapes] if isinstance(shapes, np.ndarray) else list(shapes)
        corners = self.pixels(np.concatenate(outlines), flat)
        sigma = blur * self.unit
        box = self._box(corners, 2.5 * sigma + 1)
        if box is None:
            return None
        width, height = box[2] - box[0], box[3] - box[1]
        shrink = max(1.0, sigma / 2)
        small = (max(1, round(width / shrink)), max(1, round(height / shrink)))
        scale = np.array(small) / (width, height)
        coverage = Image.new("L", small)
        draw = ImageDraw.Draw(coverage)
        corners = (corners - box[:2]) * scale - 0.5  # ImageDraw puts pixel centres at integers
        ends = np.cumsum([len(outline) for outline in outlines]).tolist()
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            draw.polygon(corners[start:end].ravel().tolist(), fill=int(255 * min(opacity, 1.0) + 0.5))
        if sigma > 0.3:
            coverage = coverage.filter(ImageFilter.GaussianBlur(sigma * float(scale.mean())))
        if small != (width, height):
            coverage = coverage.resize((width, height), Image.Resampling.BILINEAR)
        return Stencil(box, coverage)

    def fill(
        self,
        shapes: Points | Sequence[Points],
        colour: tuple[int, int, int],
        opacity: float = 1.0,
        blur: float = 0.0,
        within: Stencil | None = None,
        flat: bool = False,
    ) -> None:
        """Paints closed outlines in one colour."""
        stencil = self.stencil(shapes, blur, flat, opacity)
        if stencil is not None and within is not None:
            stencil = stencil.within(within)
        if stencil is not None:
            self.image.paste(colour, stencil.box, stencil.coverage)

    def stroke(
        self,
        curves: Points | Sequence[Points],
        width: float,
        colour: tuple[int, int, int],
        opacity: float = 1.0,
        blur: float = 0.0,
        within: Stencil | None = None,
        taper: bool = True,
        flat: bool = False,
    ) -> None:
        """Paints strokes along open curves."""
        lines = [curves] if isinstance(curves, np.ndarray) else list(curves)
        # Thinner than a canvas pixel, a stroke would break into dots: keep a pixel and let it fade instead.
        pixel = 1.2 / self.unit
        widest = max(width, pixel)
        if len({len(line) for line in lines}) == 1:
            shapes = list(ribbons(np.stack(lines), widest, taper))
        else:
            shapes = [ribbons(line[None], widest, taper)[0] for line in lines]
        self.fill(shapes, colour, opacity * min(1.0, width / pixel), blur, within, flat)

    def paint_strands(
        self, stencil: Stencil, colour: tuple[int, int, int], strands: Points3, widths: ArrayLike, colours: ArrayLike
    ) -> None:
        """Fills a stencil with a colour and, on it, strands: curves ``(K, N, 2)`` with colours ``(K, 3)``."""
        box = stencil.box
        layer = Image.new("RGB", stencil.coverage.size, colour)
        draw = ImageDraw.Draw(layer)
        if len(strands):
            outlines = ribbons(strands, np.maximum(np.asarray(widths), 1.2 / self.unit))
            flat_points = self.pixels(outlines.reshape(-1, 2)) - box[:2] - 0.5
            paints = np.clip(np.asarray(colours), 0, 255).astype(int).tolist()
            for outline, paint in zip(flat_points.reshape(len(strands), -1).tolist(), paints, strict=True):
                draw.polygon(outline, fill=tuple(paint))
        self.image.paste(layer, box, stencil.coverage)

    def paint_field(self, field: NDArray[np.uint8], stencil: Stencil) -> None:
        """Paints a smooth colour field ``(154, 122, 3)`` (see :func:`field_grid`) through a stencil."""
        self.image.paste(self._stretched(field, stencil.box), stencil.box, stencil.coverage)

    def shade(
        self, gain: NDArray[np.floating], stencil: Stencil, light: tuple[int, int, int] = (255, 250, 240)
    ) -> None:
        """Darkens (gain < 1) or lightens (gain > 1) what is painted, by a smooth field ``(154, 122)``."""
        levels = np.clip(255 * (gain - 1), -255, 255)
        both = np.zeros((*gain.shape, 3), np.uint8)  # two bands would be taken for luminance and alpha
        both[..., 0] = np.maximum(-levels, 0) + 0.5
        both[..., 1] = np.maximum(levels, 0) + 0.5
        dark, bright, _ = self._stretched(both, stencil.box).split()
        self.image.paste((8, 5, 6), stencil.box, ImageChops.multiply(dark, stencil.coverage))
        self.image.paste(light, stencil.box, ImageChops.multiply(bright, stencil.coverage))

    def _stretched(self, field: NDArray[np.uint8], box: Box) -> Image.Image:
        matrix, offset = self.projection.picture_to_view_affine(self.side)
        matrix = matrix / _FIELD_STEP
        around = (_FIELD_MARGIN, _FIELD_MARGIN)
        padded = Image.fromarray(np.pad(field, (around, around, (0, 0)), "edge"))  # a field goes on as it ends
        start = (
            (matrix @ np.array(box[:2], dtype=float)) + (offset - [VIEW_LEFT, VIEW_TOP]) / _FIELD_STEP + _FIELD_MARGIN
        )
        coefficients = (*matrix[0].tolist(), float(start[0]), *matrix[1].tolist(), float(start[1]))
        size = (box[2] - box[0], box[3] - box[1])
        kernel = Image.Resampling.BICUBIC if self.unit * _FIELD_STEP > 3 else Image.Resampling.BILINEAR
        return padded.transform(size, Image.Transform.AFFINE, coefficients, kernel)

    def _box(self, outline: Points, margin: float) -> Box | None:
        left, top = np.floor(outline.min(0) - margin).astype(int).tolist()
        right, bottom = np.ceil(outline.max(0) + margin).astype(int).tolist()
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, self.side), min(bottom, self.side)
        return (left, top, right, bottom) if left < right and top < bottom else None


Points3 = NDArray[np.float64]
"""``(K, N, 2)`` curves."""
