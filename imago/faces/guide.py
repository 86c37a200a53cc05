"""The semantic guide: a face's features as filled areas, drawn from its landmarks (Tyka 2017).

The up-resolution network sees a small crop of a face. The guide, drawn from landmarks of the whole face, tells it what
it is looking at: the post encodes facial features "simply as colors in RGB", or each "in its own channel".

The post gives neither shapes nor colours. Here the features are those of the 68 points, and the colours corners of the
RGB cube, than which seven points (with black, for nothing) cannot lie farther apart; neighbours have the most distant
ones. A feature and its mirror image have one colour, so that the guide of a mirrored picture is the mirrored guide.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imago.errors import UserError
from imago.faces.raster import coverage

GuideStyle: TypeAlias = Literal["rgb", "channels", "none"]
GUIDE_STYLES: tuple[GuideStyle, ...] = ("rgb", "channels", "none")

FEATURES: dict[str, tuple[float, float, float]] = {
    "face": (0.0, 0.0, 1.0),
    "brows": (1.0, 1.0, 1.0),
    "nose": (0.0, 1.0, 0.0),
    "eyes": (1.0, 1.0, 0.0),
    "lips": (1.0, 0.0, 0.0),
    "mouth": (0.0, 1.0, 1.0),
}
"""The features in the order in which they are drawn, the later ones on top, with their colours in RGB."""

_FOREHEAD = 2 / 3  # of the jaw's depth below the ears: how far the face reaches above them
_BROW_WIDTH = 0.07  # of the distance between the eyes, up and down from the brow's points
# The index, in a mirrored face, of each of the 68 points: jaw, brows, nose, eyes and lips change sides.
MIRRORED = np.concatenate(
    [
        [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)],
        [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40],
        [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65],
    ]
)


def guide_channels(style: GuideStyle) -> int:
    """Channels of a guide: 3 of RGB, or one per feature; 0 without a guide.

    Raises:
        UserError: An unknown style.
    """
    if style not in GUIDE_STYLES:
        raise UserError(f"a guide must be one of {', '.join(GUIDE_STYLES)}, not {style!r}")
    return {"rgb": 3, "channels": len(FEATURES), "none": 0}[style]


def mirror_landmarks(landmarks: NDArray[np.floating], width: int) -> NDArray[np.float64]:
    """The landmarks of a picture that is mirrored left to right.

    Args:
        landmarks: ``(..., 68, 2)``, in pixels, pixel centres at integers.
        width: Of the picture, in pixels.
    """
    points = np.asarray(landmarks, dtype=np.float64)[..., MIRRORED, :]
    return np.stack([width - 1 - points[..., 0], points[..., 1]], axis=-1)


def draw_guide(
    faces: Sequence[NDArray[np.floating]],
    extent: tuple[int, int],
    style: GuideStyle = "rgb",
    supersample: int = 4,
) -> Tensor:
    """Draws the guide of a picture.

    The shares of pixels that the features cover are exact from left to right and means over ``supersample`` lines from
    top to bottom: what drawing at many times the size and averaging areas would give.

    Args:
        faces: The landmarks of each face, ``(68, 2)``, in pixels of the picture, pixel centres at integers. A face
            with a NaN is not drawn. Larger faces are drawn over smaller ones.
        extent: (height, width) of the picture.
        style: ``rgb``: features as colours; ``channels``: one channel per feature, in the order of ``FEATURES``, each
            with all of its area; ``none``: no channels.
        supersample: Lines per pixel.

    Returns:
        float32 ``(G, H, W)`` in [0, 1]; 0 where there is no face.

    Raises:
        ValueError: Landmarks of another shape.
    """
    height, width = extent
    guide = np.zeros((guide_channels(style), height, width))
    if style == "none":
        return torch.from_numpy(guide).float()
    known = [np.asarray(face, dtype=np.float64) for face in faces]
    if any(face.shape != (68, 2) for face in known):
        raise ValueError(f"landmarks must be (68, 2), not {[face.shape for face in known]}")
    known = [face for face in known if np.isfinite(face).all()]
    for face in sorted(known, key=lambda points: float(np.prod(np.ptp(points, axis=0)))):
        for i, (name, polygons) in enumerate(_outlines(face).items()):
            covered = np.zeros((height, width))
            for polygon in polygons:
                covered = np.maximum(covered, coverage(polygon, extent, supersample))
            if style == "rgb":
                guide += (np.array(FEATURES[name])[:, None, None] - guide) * covered
            else:
                guide[i] = np.maximum(guide[i], covered)
    return torch.from_numpy(guide).float()


def _outlines(points: NDArray[np.float64]) -> dict[str, list[NDArray[np.float64]]]:
    """Polygons (K, 2) of each feature, in the order of ``FEATURES``."""
    jaw, ears = points[:17], points[[0, 16]]
    along = _unit(ears[1] - ears[0])
    beyond = jaw[15:0:-1] - ears[0]
    below = beyond - (beyond @ along)[:, None] * along  # from the line between the ears down to the jaw
    forehead = jaw[15:0:-1] - (1 + _FOREHEAD) * below
    eyes = points[36:42], points[42:48]
    apart = eyes[1].mean(axis=0) - eyes[0].mean(axis=0)
    thickness = _BROW_WIDTH * np.array([-apart[1], apart[0]])
    brows = [np.concatenate([brow + thickness, brow[::-1] - thickness]) for brow in (points[17:22], points[22:27])]
    return {
        "face": [np.concatenate([jaw, forehead])],
        "brows": brows,
        "nose": [points[[27, 31, 32, 33, 34, 35]]],
        "eyes": list(eyes),
        "lips": [points[48:60]],
        "mouth": [points[60:68]],
    }


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    length = float(np.hypot(*vector))
    return vector / length if length > 0 else np.array([1.0, 0.0])
