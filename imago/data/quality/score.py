"""The score of a picture and the columns that a data set is selected by."""

import math

import numpy as np
from numpy.typing import NDArray

from imago.data.near_duplicates import perceptual_hash
from imago.data.quality.spectrum import judge_spectrum, power_spectrum
from imago.data.quality.traces import blockiness, noise_level
from imago.errors import UserError
from imago.faces.landmarks import Face

SMALLEST_SIDE = 64  # pixels

COLUMNS = (
    "quality",
    "sharpness",
    "breadth",
    "asymmetry",
    "noise",
    "blockiness",
    "brightness",
    "clipped",
    "face_size",
    "confidence",
    "perceptual_hash",
)

# Chosen on half of a sample of CelebA-HQ so that blur, noise, screens and JPEG of any strength lower the score, and so
# that in good pictures no penalty outweighs the breadth (its standard deviation there is 0.1).
_NOISE_WEIGHT = 0.05  # per doubling of (1 + the standard deviation in grey levels)
_BLOCK_WEIGHT = 1.2
_ASYMMETRY_WEIGHT = 0.1
_USUAL_ASYMMETRY = 0.7  # of a portrait; less is not better


def score_image(image: NDArray[np.uint8], face: Face | None = None) -> dict[str, float | str]:
    """Everything that :data:`COLUMNS` names.

    - ``quality``: the combined score, larger is better, 0.4 to 0.9 for portraits at 1024², below 0 for a printed
      picture: breadth − 0.05 · log2(1 + noise) − 1.2 · blockiness − 0.1 · max(0, asymmetry − 0.7). Compare pictures
      of one size only: shrinking a picture makes it sharper.
    - ``sharpness``, ``breadth``, ``asymmetry``: see :class:`imago.data.quality.spectrum.Spectrum`.
    - ``noise``: standard deviation in grey levels, see :func:`imago.data.quality.traces.noise_level`.
    - ``blockiness``: see :func:`imago.data.quality.traces.blockiness`.
    - ``brightness``: mean luma, 0 … 255.
    - ``clipped``: share of the pixels with a luma of 0–2 or 253–255.
    - ``face_size``: side of the face's box (root of its area) over that of the picture; NaN without a face.
    - ``confidence``: the detector's score; NaN where none ran.
    - ``perceptual_hash``: 16 hexadecimal digits, see :func:`imago.data.near_duplicates.perceptual_hash`.

    What it cannot know: fine detail is what skin and hair have of it. Of equally sharp faces, wrinkled and bearded ones
    score higher than smooth ones, and a soft focus that was meant counts as blur: a high cut makes a data set older
    and more male. Look at sheets of the best and the worst (:mod:`imago.data.contact_sheet`).

    The tiles near the centre count more in the spectrum, so the picture should be an aligned face. About 50 ms at
    1024² on one core.

    Args:
        image: uint8 ``(H, W, C)``, H and W at least 64. Transparency is ignored.
        face: The face in it, where known; coordinates are those of `image`.

    Raises:
        UserError: The picture is too small.
    """
    if min(image.shape[:2]) < SMALLEST_SIDE:
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise UserError(f"quality can be judged from {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels on, not at {size}")
    grey = luma(image)
    noise = noise_level(grey)
    spectrum = judge_spectrum(power_spectrum(grey), noise)
    blocks = blockiness(grey)
    quality = (
        spectrum.breadth
        - _NOISE_WEIGHT * math.log2(1 + noise)
        - _BLOCK_WEIGHT * blocks
        - _ASYMMETRY_WEIGHT * max(0.0, spectrum.asymmetry - _USUAL_ASYMMETRY)
    )
    return {
        "quality": quality,
        "sharpness": spectrum.sharpness,
        "breadth": spectrum.breadth,
        "asymmetry": spectrum.asymmetry,
        "noise": noise,
        "blockiness": blocks,
        "brightness": float(grey.mean()),
        "clipped": float(((grey < 2.5) | (grey > 252.5)).mean()),
        "face_size": math.sqrt(face.area / grey.size) if face is not None else math.nan,
        "confidence": face.score if face is not None else math.nan,
        "perceptual_hash": perceptual_hash(image),
    }


def luma(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """ITU-R 601-2 luma, 0 … 255, of uint8 ``(H, W, C)`` with C = 1, 3 or 4."""
    if image.shape[2] == 1:
        return image[..., 0].astype(np.float32)
    return image[..., :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
