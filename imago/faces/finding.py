"""Finds the face of a picture by one detector after the other, and counts which of them did.

Without landmarks the guide is empty. Training shows the network empty guides, so that a picture goes on without a face;
but how often that happens belongs beside every result. The ladder, from the cheapest to the last resort: dlib; dlib on
the picture enlarged (of 150 photos of faces at 32² it finds 25 as they are and 140 enlarged, at 128² 141 and 143);
``face_alignment``, where it is installed; in a film, the frame before
(:func:`imago.upres.film_landmarks.smooth_landmarks`); nothing.
"""

import importlib
import importlib.util
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.errors import UserError, first_line
from imago.faces.landmarks import DlibLandmarks, Face, LandmarkDetector

BACKENDS = ("dlib", "face_alignment", "none")

_ENLARGED_BELOW = 600  # pixels of the longer side: larger pictures DlibLandmarks doubles by itself, as far as it helps
_FRAME_BEFORE = "the frame before"


class LandmarkFinder:
    """Looks for faces until a detector finds one.

    Args:
        detectors: By name, in the order in which they are asked.

    Attributes:
        pictures: How many pictures were looked at.
        found: In how many of them each detector found the face, by its name; those that found none are left out.
    """

    def __init__(self, detectors: Mapping[str, LandmarkDetector]) -> None:
        self.detectors = dict(detectors)
        self.pictures = 0
        self.found: Counter[str] = Counter()
        self._last: Face | None = None

    def faces(self, image: NDArray[np.uint8]) -> list[Face]:
        """All faces with 68 landmarks that the first successful detector finds.

        Args:
            image: uint8 ``(H, W, 3)``.

        Returns:
            Them, the most prominent (:func:`most_prominent`) first; their coordinates are pixels of `image`.
        """
        self.pictures += 1
        for name, detector in self.detectors.items():
            faces = [face for face in detector.detect(image) if face.landmarks.shape == (68, 2)]
            if faces:
                self.found[name] += 1
                first = most_prominent(faces, (image.shape[0], image.shape[1]))
                return [first, *(face for face in faces if face is not first)]
        return []

    def face(self, image: NDArray[np.uint8]) -> Face | None:
        """The most prominent face."""
        return next(iter(self.faces(image)), None)

    def next_face(self, frame: NDArray[np.uint8]) -> Face | None:
        """The face of a film's next frame: the one nearest to that of the last frame that had any.

        So a film does not jump from one face to another that has become a little larger. Each film wants a finder of
        its own, see :meth:`fresh`.
        """
        faces = self.faces(frame)
        if faces and self._last is not None:
            before = self._last.landmarks.mean(axis=0)
            faces.sort(key=lambda face: float(np.linalg.norm(face.landmarks.mean(axis=0) - before)))
        self._last = faces[0] if faces else self._last
        return faces[0] if faces else None

    def fresh(self) -> "LandmarkFinder":
        """The same detectors, and nothing seen or counted yet."""
        return LandmarkFinder(self.detectors)

    @contextmanager
    def uncounted_on_failure(self) -> Iterator[None]:
        """Pictures looked at within the block count only if nothing is raised: of those that fail nothing is made."""
        before = self.pictures, self.found.copy()
        try:
            yield
        except BaseException:
            self.pictures, self.found = before
            raise

    def held(self, frames: int) -> None:
        """Counts frames of a film whose landmarks were taken over from the frame before."""
        if frames:
            self.found[_FRAME_BEFORE] += frames

    def summary(self, unit: str = "faces") -> str:
        """How often landmarks were found: ``landmarks found in 9 of 10 faces (dlib 8, …); 1 had an empty guide``.

        Args:
            unit: What was looked at, in the plural.
        """
        found = self.found.total()
        text = f"landmarks found in {found} of {self.pictures} {unit}"
        if list(self.found) not in ([], [next(iter(self.detectors), None)]):
            text += f" ({', '.join(f'{name} {count}' for name, count in self.found.items())})"
        missed = self.pictures - found
        return f"{text}; {missed} had an empty guide" if missed else text


class Enlarged:
    """A detector that is shown small pictures twice as large.

    Args:
        detector: Which.
        below: Pixels of the longer side from which on pictures are not looked at.
    """

    def __init__(self, detector: LandmarkDetector, below: int = _ENLARGED_BELOW) -> None:
        self.detector, self.below = detector, below

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """All faces of a photo, uint8 ``(H, W, 3)``, in its own pixels."""
        height, width = image.shape[:2]
        if max(height, width) >= self.below:
            return []
        large = np.asarray(Image.fromarray(image).resize((2 * width, 2 * height), Image.Resampling.BICUBIC))
        return [_halved(face) for face in self.detector.detect(large)]


class FaceAlignmentLandmarks:
    """The 68 points of the package ``face_alignment`` (Bulat and Tzimiropoulos 2017), which finds profiles also.

    It downloads its weights when it is first used.

    Args:
        device: Where its networks run.

    Raises:
        UserError: It is not installed.
    """

    def __init__(self, device: str = "cpu") -> None:
        if importlib.util.find_spec("face_alignment") is None:
            raise UserError(
                "face_alignment is needed to find faces and is not installed; run: pip install face-alignment"
            )
        self.device = device
        self._network: Any = None

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """All faces of a photo, uint8 ``(H, W, 3)``.

        Raises:
            UserError: Its weights cannot be had.
        """
        if self._network is None:
            package: Any = importlib.import_module("face_alignment")
            try:
                self._network = package.FaceAlignment(package.LandmarksType.TWO_D, device=self.device, compile=False)
            except Exception as error:  # of the network, the disk, or torch.hub
                raise UserError(f"face_alignment cannot load its weights: {first_line(error)}") from error
        landmarks, _, boxes = self._network.get_landmarks_from_image(image, return_bboxes=True)
        if landmarks is None:
            return []
        faces = []
        for points, box in zip(landmarks, boxes, strict=True):
            left, top, right, bottom, score = (float(value) for value in box[:5])
            faces.append(Face(left, top, right, bottom, score, np.asarray(points, dtype=np.float64)))
        return faces


def find_finder(
    backend: str = "dlib", predictor_path: str | Path | None = None, device: str = "cpu"
) -> LandmarkFinder | None:
    """The ladder that begins with a backend.

    Args:
        backend: "dlib", with "face_alignment" behind it where that is installed; "face_alignment" alone; "none".
        predictor_path: dlib's 68-point model; by default that of ``face_recognition_models``.
        device: For ``face_alignment``.

    Returns:
        None of "none".

    Raises:
        UserError: Another backend, or no such model.
        MissingDependencyError: It is not installed.
    """
    if backend not in BACKENDS:
        raise UserError(f"landmarks={backend} is unknown; choose one of {', '.join(BACKENDS)}")
    if backend == "none":
        return None
    if backend == "face_alignment":
        return LandmarkFinder({"face_alignment": FaceAlignmentLandmarks(device)})
    dlib = DlibLandmarks(predictor_path)
    detectors: dict[str, LandmarkDetector] = {"dlib": dlib, "dlib enlarged": Enlarged(dlib)}
    if importlib.util.find_spec("face_alignment") is not None:
        detectors["face_alignment"] = FaceAlignmentLandmarks(device)
    return LandmarkFinder(detectors)


def most_prominent(faces: Sequence[Face], extent: tuple[int, int]) -> Face:
    """The face that a picture is of: large and in the middle.

    Its box is the largest when areas are weighted by how central they are: 1 in the middle of the picture, falling off
    in a straight line to ½ at its corners.

    Args:
        faces: At least one.
        extent: (height, width) of the picture.
    """
    centre = np.array([(extent[1] - 1) / 2, (extent[0] - 1) / 2])

    def weight(face: Face) -> float:
        middle = np.array([(face.left + face.right) / 2, (face.top + face.bottom) / 2])
        distance = float(np.linalg.norm(middle - centre)) / max(float(np.hypot(*extent)) / 2, 1.0)
        return face.area * (1 - 0.5 * min(distance, 1.0))

    return max(faces, key=weight)


def _halved(face: Face) -> Face:
    """A face of the picture that was shown twice as large; its box is inclusive."""
    return replace(
        face,
        left=face.left / 2,
        top=face.top / 2,
        right=(face.right + 1) / 2 - 1,
        bottom=(face.bottom + 1) / 2 - 1,
        landmarks=(face.landmarks + 0.5) / 2 - 0.5,
    )
