"""Where things are on a drawn face: the 68 landmarks, the outline of the head, and the projection to the picture.

Everything is laid out in the *face frame* of a frontal head: origin between the eyes, x to the right of the picture,
y down, unit the distance of the eye centres. A point has a depth on the head (:func:`depth`), so turning the head
moves the nose further than the jaw; drawn shapes and landmarks pass through the same projection and stay together.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imago.data.drawn_portraits.attributes import FaceShape, PortraitAttributes, Pose

Points = NDArray[np.float64]
"""``(N, 2)`` points (x, y)."""

# iBUG's jaw points are evenly spaced along the arc from ear to chin (Sagonas et al. 2013).
_JAW_X = np.array([1, 0.975, 0.92, 0.855, 0.75, 0.615, 0.435, 0.235, 0])
_JAW_Y = np.array([0, 0.163, 0.326, 0.483, 0.629, 0.764, 0.888, 0.978, 1])
_JAW_OUT = np.array([0, 0.1, 0.4, 0.8, 1.1, 1.1, 0.9, 0.4, 0])  # which points a broad jaw moves
EAR_TOP = -0.08  # y of the first and last jaw points


def points(*pairs: tuple[float, float]) -> Points:
    """``(N, 2)`` from pairs (x, y)."""
    return np.array(pairs, dtype=np.float64)


def mirrored(right: Points) -> Points:
    """The same points on the other side of the face, in the reverse order."""
    return right[::-1] * [-1, 1]


def shifted(face: Points, x: float, y: float) -> Points:
    """The same points moved by (x, y)."""
    return face + np.array([x, y])


def smooth(control: ArrayLike, closed: bool = True, steps: int = 8) -> Points:
    """A Catmull–Rom curve through the control points, *steps* points to each span."""
    p = np.asarray(control, dtype=np.float64)
    padded = np.concatenate([p[-1:], p, p[:2]] if closed else [p[:1], p, p[-1:]])
    spans = np.stack([padded[:-3], padded[1:-2], padded[2:-1], padded[3:]], 1)  # (spans, 4, 2)
    curve = (_catmull_rom_weights(steps) @ spans).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


@lru_cache
def _catmull_rom_weights(steps: int) -> NDArray[np.float64]:
    """Weights of the four control points around a span at *steps* places along it: ``(steps, 4)``."""
    t = np.arange(steps) / steps
    weights = [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    return 0.5 * np.stack(weights, 1)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, count: int = 40, tilt: float = 0.0) -> Points:
    """Points on an ellipse, its first axis turned by *tilt* radians."""
    angle = np.linspace(0, 2 * math.pi, count, endpoint=False)
    u, v = radius_x * np.cos(angle), radius_y * np.sin(angle)
    return np.stack([x + u * math.cos(tilt) - v * math.sin(tilt), y + u * math.sin(tilt) + v * math.cos(tilt)], 1)


def frontal_landmarks(shape: FaceShape) -> Points:
    """The 68 landmarks of a frontal face in the face frame, iBUG order: ``(68, 2)``."""
    right_jaw_x = shape.width * _JAW_X * (1 + (shape.jaw - 0.7) * _JAW_OUT)
    right_jaw = np.stack([right_jaw_x, EAR_TOP + (shape.chin - EAR_TOP) * _JAW_Y], 1)  # ear to chin
    jaw = np.concatenate([right_jaw * [-1, 1], right_jaw[-2::-1]])

    left_brow = points((-0.93, 0.14), (-0.78, 0.03), (-0.57, 0), (-0.36, 0.02), (-0.18, 0.06))
    left_brow[:, 1] += shape.brow + shape.brow_angle * np.linspace(1, -1, 5)

    bridge = np.stack([np.zeros(4), np.array([0, 0.27, 0.53, 0.78]) * shape.nose_tip], 1)
    nose = np.stack(
        [np.array([-1, -0.52, 0, 0.52, 1]) * shape.nose_width, shape.nose_tip + np.array([0, 0.04, 0.07, 0.04, 0])], 1
    )

    half, height = shape.eye_width / 2, shape.eye_height
    left_eye = points(
        (-half, 0.01 - shape.eye_slant),
        (-0.38 * half, -0.55 * height),
        (0.38 * half, -0.55 * height),
        (half, 0.02),
        (0.38 * half, 0.42 * height),
        (-0.38 * half, 0.42 * height),
    ) - [0.5, 0]
    right_eye = (left_eye * [-1, 1])[[3, 2, 1, 0, 5, 4]]
    return np.concatenate([jaw, left_brow, mirrored(left_brow), bridge, nose, left_eye, right_eye, _mouth(shape)])


def _mouth(shape: FaceShape) -> Points:
    width, y, upper, lower = shape.mouth_width, shape.mouth, shape.upper_lip, shape.lower_lip
    corner, gap = y - shape.corners, shape.mouth_open
    # A smile pulls the middle of the lips tight: the line between corner and middle follows a parabola.
    lift = shape.corners * 0.36
    outer_top = points(
        (-width, corner),
        (-0.6 * width, y - 0.7 * upper - lift),
        (-0.24 * width, y - upper),
        (0, y - 0.8 * upper),
        (0.24 * width, y - upper),
        (0.6 * width, y - 0.7 * upper - lift),
        (width, corner),
    )
    outer_bottom = points(
        (0.62 * width, y + gap + 0.62 * lower - lift),
        (0.28 * width, y + gap + 0.94 * lower),
        (0, y + gap + lower),
        (-0.28 * width, y + gap + 0.94 * lower),
        (-0.62 * width, y + gap + 0.62 * lower - lift),
    )
    inner_top = points(
        (-0.86 * width, y - 0.8 * shape.corners),
        (-0.26 * width, y),
        (0, y + 0.01),
        (0.26 * width, y),
        (0.86 * width, y - 0.8 * shape.corners),
    )
    inner_bottom = points(
        (0.26 * width, y + 0.012 + 0.9 * gap), (0, y + 0.012 + gap), (-0.26 * width, y + 0.012 + 0.9 * gap)
    )
    return np.concatenate([outer_top, outer_bottom, inner_top, inner_bottom])


def head_outline(shape: FaceShape, landmarks: Points) -> Points:
    """The outline of the bare head in the face frame: jaw from the landmarks, skull above."""
    angle = np.linspace(0, math.pi, 21)[1:-1]
    # An exponent below one squares the dome a little, as skulls are.
    skull = np.stack(
        [
            shape.width * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.85,
            EAR_TOP + (shape.crown - EAR_TOP) * np.sin(angle) ** 0.85,
        ],
        1,
    )
    return np.concatenate([smooth(landmarks[:17], closed=False), skull])


def depth(x: NDArray[np.floating], y: NDArray[np.floating], nose_tip: float) -> NDArray[np.floating]:
    """Depth of the head's surface towards the viewer, zero between the eyes; any shape."""
    ball = np.sqrt(np.maximum(1 - (x / 1.2) ** 2 - ((y - 0.35) / 1.8) ** 2, 0.03))
    nose = 0.3 * np.exp(-((x / 0.16) ** 2) - ((y - nose_tip + 0.1) / 0.22) ** 2)
    return ball - 0.98 + nose


class Projection:
    """From the face frame to the *view frame* (head turned, same units) and on to the picture.

    Args:
        pose: Position and direction of the head.
        nose_tip: Height of the nose's tip, for the depth of the surface.
    """

    def __init__(self, pose: Pose, nose_tip: float) -> None:
        self.pose = pose
        self.nose_tip = nose_tip
        cosine, sine = math.cos(pose.roll), math.sin(pose.roll)
        self._roll = np.array([[cosine, -sine], [sine, cosine]])

    def to_view(self, face: Points) -> Points:
        """Turns points on the head: ``(N, 2)`` → ``(N, 2)``."""
        x, y = face[:, 0], face[:, 1]
        z = depth(x, y, self.nose_tip)
        yaw, pitch = self.pose.yaw, self.pose.pitch
        turned_z = z * math.cos(yaw) - x * math.sin(yaw)
        return np.stack(
            [
                x * math.cos(yaw) + z * math.sin(yaw),
                y * math.cos(pitch) + turned_z * math.sin(pitch),
            ],
            1,
        )

    def from_view(
        self, x: NDArray[np.floating], y: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """The point of the face frame seen at (x, y) of the view frame, by fixed-point iteration."""
        yaw, pitch = self.pose.yaw, self.pose.pitch
        face_x, face_y = x, y
        for _ in range(4):
            z = depth(face_x, face_y, self.nose_tip)
            turned_z = z * math.cos(yaw) - face_x * math.sin(yaw)
            face_x = (x - z * math.sin(yaw)) / math.cos(yaw)
            face_y = (y - turned_z * math.sin(pitch)) / math.cos(pitch)
        return face_x, face_y

    def view_to_picture(self, view: Points, side: float) -> Points:
        """Continuous picture coordinates (pixel *i* covers [i, i + 1)) of view-frame points."""
        return view @ self._roll.T * (self.pose.scale * side) + np.array(self.pose.centre) * side

    def picture_to_view_affine(self, side: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Matrix (2, 2) and offset (2,) that bring continuous picture coordinates to the view frame."""
        matrix = self._roll.T / (self.pose.scale * side)
        return matrix, -matrix @ (np.array(self.pose.centre) * side)

    def to_picture(self, face: Points, side: float) -> Points:
        """Continuous picture coordinates of points of the face frame."""
        return self.view_to_picture(self.to_view(face), side)


def landmarks_in_picture(attributes: PortraitAttributes, size: int) -> NDArray[np.float32]:
    """The 68 landmarks in pixels, pixel centres at integers: ``(68, 2)`` float32 (x, y), iBUG order."""
    projection = Projection(attributes.pose, attributes.shape.nose_tip)
    face = frontal_landmarks(attributes.shape)
    return (projection.to_picture(face, size) - 0.5).astype(np.float32)
