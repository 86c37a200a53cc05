"""Faces in a photo and their landmarks, in the order of the iBUG 68-point scheme.

The 68 points, by index: 0–16 the jaw from the ear on the left of the picture to the other, 17–21 and 22–26 the brows,
27–30 the bridge of the nose down to its tip, 31–35 its base, 36–41 and 42–47 the eyes, 48–59 the outer lips, 60–67 the
inner ones; where a part has a left and a right, the one on the left of the picture comes first.
"""

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.errors import MissingDependencyError, UserError
from imago.faces.dlib_models import find_model

ScoredBox = tuple[tuple[float, float, float, float], float]  # (left, top, right, bottom) in pixels, inclusive; score

CHOICES = ("largest", "all", "none")

_PREDICTOR_FILE = "shape_predictor_68_face_landmarks.dat"
_SMALL_PHOTO = 300  # pixels of the shorter side, below which the face is likely to need the photo doubled
_BORDER = 0.3  # of the longer side
_NOSE_TIP, _MOUTH_CORNERS = 30, (48, 54)
_CELEBA_EYES = 0.033  # of the distance from mouth to eyes, that annotated eyes are higher than the middle of six points


@dataclass(frozen=True)
class Face:
    """One face in a picture. Coordinates are pixels, x to the right, y down, pixel centres at integers.

    Attributes:
        left: Of the box around the face.
        top: Of the box.
        right: Of the box, inclusive.
        bottom: Of the box, inclusive.
        score: How sure the detector is, larger is surer (dlib: 0 is its threshold, clear faces reach 1 to 3); NaN where
            no detector ran.
        landmarks: float64 ``(68, 2)``, or ``(5, 2)`` where only :func:`five_points` are known.
    """

    left: float
    top: float
    right: float
    bottom: float
    score: float
    landmarks: NDArray[np.float64] = field(repr=False)

    @property
    def area(self) -> float:
        """Of the box, in pixels."""
        return max(0.0, self.right - self.left + 1) * max(0.0, self.bottom - self.top + 1)

    @classmethod
    def from_landmarks(cls, landmarks: NDArray[np.floating]) -> "Face":
        """A face of which only the landmarks are known: its box encloses them, its score is NaN."""
        points = np.asarray(landmarks, dtype=np.float64)
        (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        return cls(left, top, right, bottom, math.nan, points)


class LandmarkDetector(Protocol):
    """Finds faces. It is pickled to worker processes."""

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """All faces of a photo, uint8 ``(H, W, 3)``, in a fixed order."""
        ...


def five_points(landmarks: NDArray[np.floating]) -> NDArray[np.float64]:
    """The points that align a face: eye, eye, nose tip, mouth corner, mouth corner, the one left in the picture first.

    Args:
        landmarks: ``(68, 2)``; ``(5, 2)`` is handed back.

    Returns:
        float64 ``(5, 2)``. An eye is the mean of its six points.

    Raises:
        ValueError: Any other shape.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape == (5, 2):
        return points
    if points.shape != (68, 2):
        raise ValueError(f"landmarks must be (68, 2) or (5, 2), not {points.shape}")
    eyes = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    return np.stack([*eyes, points[_NOSE_TIP], *points[list(_MOUTH_CORNERS)]])


def as_celeba_annotates(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Five points of 68 landmarks, with the eyes where CelebA's annotators would have put them: a little higher.

    CelebA-HQ was aligned by CelebA's own five points. In 90 of its pictures the middle of dlib's six points of an eye
    lies 8 of 1024 pixels lower than the formulas put an annotated eye; that is this share of the way from the mouth
    to the eyes (docs/results/faces.md).

    Args:
        points: ``(5, 2)``, see :func:`five_points`.
    """
    moved = np.array(points, dtype=np.float64)
    moved[:2] += _CELEBA_EYES * (points[:2].mean(axis=0) - points[3:].mean(axis=0))
    return moved


def choose_faces(faces: Sequence[Face], which: str) -> list[Face]:
    """The faces of a photo that are used.

    Args:
        faces: All of them.
        which: "largest": the one with the largest box. "all": every one. "none": photos with several faces are not
            used, so none of several.

    Raises:
        UserError: Any other word.
    """
    if which not in CHOICES:
        raise UserError(f"faces={which!r}: must be one of {', '.join(CHOICES)}")
    if which == "all" or len(faces) < 2:
        return list(faces)
    return [max(faces, key=lambda face: face.area)] if which == "largest" else []


class DlibLandmarks:
    """dlib's HOG detector of frontal faces and its 68-point model (Kazemi and Sullivan 2014).

    Licence: the 68-point model was trained on iBUG 300-W, whose terms exclude commercial use, whatever the licence of
    the package says that carries the file. For commercial work give a model of your own as `predictor_path`. It must
    have been trained on the boxes of the HOG detector.

    Large photos are shrunk to look for faces; landmarks are fitted in the photo itself, where dlib rounds them to whole
    pixels. Faces are found from about 80 pixels on, from 40 where the photo was enlarged.

    Args:
        predictor_path: The 68-point model; by default the one in the package ``face_recognition_models``.
        detection_side: Photos with a longer side are shrunk to it for detection, in pixels.
        upsample: Times the photo is doubled for detection. None: as needed, that is not at all, then once if no face
            was found (or the shorter side is below 300 pixels), then with a grey border around the photo, which finds
            faces that fill it.
        minimum_score: Faces of which the detector is less sure are left out.

    Raises:
        MissingDependencyError: dlib or the 68-point model is not installed.
        UserError: `predictor_path` is no such file, or a parameter is out of range.
    """

    def __init__(
        self,
        predictor_path: str | Path | None = None,
        detection_side: int = 1200,
        upsample: int | None = None,
        minimum_score: float = 0.0,
    ) -> None:
        if detection_side < 80 or (upsample is not None and not 0 <= upsample <= 3):
            raise UserError(f"{detection_side=}, {upsample=}: need at least 80 pixels and 0 to 3 doublings")
        if importlib.util.find_spec("dlib") is None:
            raise MissingDependencyError("dlib", "to find faces", "faces")
        self.predictor_path = find_predictor(predictor_path)
        self.detection_side = detection_side
        self.upsample = upsample
        self.minimum_score = minimum_score
        self._models: tuple[Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_models": None}  # each process opens the models anew

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """All faces of a photo, uint8 ``(H, W, 3)``; the surest first."""
        import dlib

        _, predictor = self._open()
        pixels = np.ascontiguousarray(image)
        if 1 in pixels.shape[:2]:
            pixels = pixels.copy()  # along a side of one pixel NumPy allows any stride, dlib does not
        found = []
        for (left, top, right, bottom), score in self._boxes(pixels):
            parts = predictor(pixels, dlib.rectangle(round(left), round(top), round(right), round(bottom))).parts()
            landmarks = np.array([(part.x, part.y) for part in parts], dtype=np.float64)
            found.append(Face(left, top, right, bottom, score, landmarks))
        return found

    def _boxes(self, image: NDArray[np.uint8]) -> list[ScoredBox]:
        if self.upsample is not None:
            return self._search(image, self.detection_side, self.upsample)
        small = min(image.shape[:2]) < _SMALL_PHOTO
        return (
            ([] if small else self._search(image, self.detection_side, 0))
            or self._search(image, self.detection_side, 1)
            or self._search(image, self.detection_side // 2, int(small), _BORDER)
        )

    def _search(self, image: NDArray[np.uint8], side: int, upsample: int, border: float = 0.0) -> list[ScoredBox]:
        """Looks for faces in the photo shrunk to a longer side of `side`, with a grey border of so many sides."""
        height, width = image.shape[:2]
        scale = min(1.0, side / max(height, width))
        small = image
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX, reducing_gap=2.0))
        x, y = width / small.shape[1], height / small.shape[0]
        pad = round(border * max(small.shape[:2]))
        if pad:
            small = np.pad(small, ((pad, pad), (pad, pad), (0, 0)), constant_values=128)
        detector, _ = self._open()
        rectangles, scores, _ = detector.run(small, upsample, self.minimum_score)
        found = []
        for box, score in zip(rectangles, scores, strict=True):
            left, top = (box.left() - pad) * x, (box.top() - pad) * y
            right, bottom = (box.right() + 1 - pad) * x - 1, (box.bottom() + 1 - pad) * y - 1
            found.append(((left, top, right, bottom), float(score)))
        return found

    def _open(self) -> tuple[Any, Any]:
        if self._models is None:
            import dlib

            try:
                predictor = dlib.shape_predictor(str(self.predictor_path))
            except RuntimeError as error:
                raise UserError(f"{self.predictor_path}: not a dlib shape predictor") from error
            self._models = dlib.get_frontal_face_detector(), predictor
        return self._models


def find_predictor(path: str | Path | None = None) -> Path:
    """The file of the 68-point model; see :func:`imago.faces.dlib_models.find_model`.

    Args:
        path: Where it is; by default in the package ``face_recognition_models``.

    Raises:
        UserError: `path` is no file.
        MissingDependencyError: The package is not installed.
    """
    return find_model(_PREDICTOR_FILE, path, "predictor_path", "to find the landmarks of faces")
