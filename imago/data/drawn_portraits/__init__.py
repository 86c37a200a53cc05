"""Drawn portraits: faces rendered at any size from sampled attributes, with labels and exact landmarks.

They make the quickstart and the tests independent of downloads. Labels use the vocabulary of the Curtó & Zarza faces,
landmarks the 68 points of iBUG (Sagonas et al. 2013), and dlib's detector accepts the faces as faces.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imago.data.drawn_portraits.accessories import draw_glasses, draw_hat
from imago.data.drawn_portraits.attributes import VOCABULARY, PortraitAttributes, sample_attributes
from imago.data.drawn_portraits.canvas import Canvas
from imago.data.drawn_portraits.face import draw_face
from imago.data.drawn_portraits.geometry import Projection, frontal_landmarks, head_outline, landmarks_in_picture
from imago.data.drawn_portraits.hair import draw_facial_hair, draw_hair_behind, draw_hair_in_front
from imago.data.drawn_portraits.scene import draw_background, draw_body

RENDERER_VERSION = 1
"""Raised whenever the same attributes would be drawn differently."""

SMALLEST, LARGEST = 16, 4096


def _oversampling(size: int) -> int:
    """How many canvas pixels make one picture pixel along each axis: small pictures share a canvas of about 256."""
    return max(2, -(-256 // size))


def draw_portrait(attributes: PortraitAttributes, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Draws a portrait.

    The same attributes give the same face at every size; time and memory grow with the number of pixels.

    Args:
        attributes: Who is drawn, see :func:`sample_attributes`.
        size: Side of the picture in pixels, 16 … 4096.

    Returns:
        The picture, ``(size, size, 3)`` uint8 RGB, and the landmarks, ``(68, 2)`` float32 (x, y) in pixels with pixel
        centres at integers, iBUG order.

    Raises:
        ValueError: The size is out of range.
    """
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"a drawn portrait is {SMALLEST} to {LARGEST} pixels wide, got {size}")
    shape = attributes.shape
    oversampling = _oversampling(size)
    canvas = Canvas(size * oversampling, Projection(attributes.pose, shape.nose_tip))
    landmarks = frontal_landmarks(shape)

    draw_background(canvas, attributes)
    draw_hair_behind(canvas, attributes)
    draw_body(canvas, attributes)
    head = draw_face(canvas, attributes, landmarks, head_outline(shape, landmarks))
    draw_facial_hair(canvas, attributes, landmarks, head)
    draw_hair_in_front(canvas, attributes, head)
    draw_glasses(canvas, attributes, head)
    draw_hat(canvas, attributes, head)

    picture = canvas.image.reduce(oversampling) if oversampling > 1 else canvas.image
    return np.array(picture), landmarks_in_picture(attributes, size)


__all__ = [
    "LARGEST",
    "RENDERER_VERSION",
    "SMALLEST",
    "VOCABULARY",
    "PortraitAttributes",
    "draw_portrait",
    "sample_attributes",
]
