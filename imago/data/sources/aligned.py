"""Faces cut out of the photos of any source, upright and framed alike: the geometry of CelebA-HQ."""

import hashlib
import importlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from imago.data.sources.source import Item, SkippedImageError, Source, UnreadableImageError, read_all
from imago.errors import UserError, first_line
from imago.faces.alignment import Enhance, align, crop_rectangle
from imago.faces.landmark_file import LandmarkFile
from imago.faces.landmarks import DlibLandmarks, Face, as_celeba_annotates, choose_faces, five_points

FRAMINGS = ("celeba_hq", "ffhq")
LANDMARKS = ("auto", "annotation", "dlib", "precomputed")

_VERSION = 2  # raised whenever the same photo and parameters would give another picture


class AlignedFaces:
    """The faces of a source of photos, aligned as in Karras et al. 2018, appendix C.

    An item is named as its photo; where ``faces="all"`` and a photo holds several, ``#0``, ``#1`` … are appended.
    Labels of the photo are handed on to each of its faces. A face of which 68 landmarks are known carries them, in
    pixels of the aligned picture.

    Args:
        photos: Any source of grey or RGB photos.
        landmarks: Where they come from. "annotation": the photos' own (CelebA has five points a photo, FFHQ 68).
            "dlib": :class:`imago.faces.landmarks.DlibLandmarks` (mind the licence of its model). "precomputed":
            `landmarks_file`. "auto": annotation where the photo has one, else dlib.
        landmarks_file: A CSV file, see :class:`imago.faces.landmark_file.LandmarkFile`.
        faces: Of photos with several: "largest", "all", or "none" (such photos are left out).
        size: Side of the pictures, in pixels.
        supersample: Side to which the crop is resampled before it is averaged down to `size`, a multiple of it.
        minimum_face: Smallest side of the crop in pixels of the photo, about twice the height of the face; smaller
            ones are left out. The default refuses next to nothing.
        framing: Where the eyes are, given 68 landmarks. "celeba_hq": where CelebA's annotators would have put them, see
            :func:`imago.faces.landmarks.as_celeba_annotates`, so that crops are framed as those of CelebA-HQ. "ffhq":
            the means of their six points, by which FFHQ was aligned.
        enhance: What is done to the crop before it is resampled, see :func:`imago.faces.alignment.align`: a function,
            or its name "package.module:function".
        predictor_path: dlib's 68-point model, for "dlib" and "auto"; by default that of ``face_recognition_models``.

    Raises:
        UserError: A parameter has no such value, or a file does not exist or is not what it should be.
        MissingDependencyError: ``landmarks="dlib"`` and dlib or its model is not installed. With "auto" this is raised
            by the first photo without annotation.
    """

    def __init__(
        self,
        photos: Source,
        landmarks: str = "auto",
        landmarks_file: str | Path | None = None,
        faces: str = "largest",
        size: int = 1024,
        supersample: int = 4096,
        minimum_face: int = 16,
        framing: str = "celeba_hq",
        enhance: str | Enhance | None = None,
        predictor_path: str | Path | None = None,
    ) -> None:
        if landmarks not in LANDMARKS:
            raise UserError(f"landmarks={landmarks!r}: must be one of {', '.join(LANDMARKS)}")
        if (landmarks == "precomputed") != (landmarks_file is not None):
            raise UserError('landmarks="precomputed" needs a landmarks_file, and nothing else reads one')
        if size < 1 or supersample < size or supersample % size:
            raise UserError(f"supersample={supersample}: must be a multiple of size={size}")
        if framing not in FRAMINGS:
            raise UserError(f"framing={framing!r}: must be one of {', '.join(FRAMINGS)}")
        choose_faces([], faces)  # checks the word
        self.photos = photos
        self.name = f"{photos.name} aligned"
        self.landmarks = landmarks
        self.file = LandmarkFile(landmarks_file) if landmarks_file is not None else None
        self.faces = faces
        self.size = size
        self.supersample = supersample
        self.minimum_face = minimum_face
        self.framing = framing
        self.enhance = enhance
        self.predictor_path = predictor_path
        if landmarks == "dlib":
            self._detector  # noqa: B018 - what is missing is told now, not by the first photo
        self._enhance  # noqa: B018 - likewise

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_detector", "_enhance")}

    def __len__(self) -> int:
        return len(self.photos)

    def item_name(self, index: int) -> str:
        """Name of the photo."""
        return self.photos.item_name(index)

    def fingerprint(self) -> str:
        """Changes with the photos, the parameters and the content of the landmarks file.

        Of `enhance` only the name counts, and of the dlib model its name and size.
        """
        identity = {
            "version": _VERSION,
            "photos": self.photos.fingerprint(),
            "landmarks": self.landmarks,
            "file": self.file.digest if self.file else None,
            "faces": self.faces,
            "size": self.size,
            "supersample": self.supersample,
            "minimum_face": self.minimum_face,
            "framing": self.framing,
            "enhance": self._enhance_name,
            "predictor": _model_identity(self.predictor_path),
        }
        return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=16).hexdigest()

    def read(self, index: int) -> Item:
        """The first face of a photo; see :meth:`read_all`."""
        return self.read_all(index)[0]

    def read_all(self, index: int) -> list[Item]:
        """The faces of the photo at `index` that are used, at least one.

        Raises:
            UnreadableImageError: There are none, or the photo cannot be read.
            UserError: `enhance` failed, or gave something else than a picture.
        """
        items: list[Item] = []
        refused: list[UnreadableImageError] = []
        for photo in read_all(self.photos, index):
            try:
                items += self._aligned(photo)
            except UnreadableImageError as error:
                refused.append(error)
        if not items:
            raise refused[0]
        return items

    def find(self, photo: Item) -> list[Face]:
        """All faces of a photo, before any is chosen.

        Raises:
            UnreadableImageError: The landmarks that were asked for are not known for this photo.
        """
        if self.file is not None:
            known = self.file.faces(photo.name)
            if known is None:
                raise SkippedImageError("not in the landmarks file", photo.name)
            return known
        if self.landmarks != "dlib":
            annotated = photo.landmarks if photo.landmarks is not None else photo.five_points
            if annotated is not None:
                return [Face.from_landmarks(annotated)]
            if self.landmarks == "annotation":
                raise SkippedImageError("no landmarks annotated", photo.name)
        pixels = photo.image if photo.image.shape[2] == 3 else np.repeat(photo.image[..., :1], 3, axis=2)
        return self._detector.detect(pixels)

    def _aligned(self, photo: Item) -> list[Item]:
        found = self.find(photo)
        if not found:
            raise SkippedImageError("no face found", photo.name)
        chosen = choose_faces(found, self.faces)
        if not chosen:
            raise SkippedImageError(f"{len(found)} faces", photo.name)
        items = []
        refused = []
        for k, face in enumerate(chosen):
            name = photo.name if len(chosen) == 1 else f"{photo.name}#{k}"
            try:
                items.append(self._cut(photo, face, name))
            except UnreadableImageError as error:
                refused.append(error)
        if not items:
            raise refused[0]
        return items

    def _cut(self, photo: Item, face: Face, name: str) -> Item:
        points = five_points(face.landmarks)
        if self.framing == "celeba_hq" and len(face.landmarks) == 68:
            points = as_celeba_annotates(points)
        if self.file is None and self.landmarks != "dlib" and photo.five_points is not None:
            points = five_points(photo.five_points)  # CelebA's annotation, which the paper aligns by
        try:
            rectangle = crop_rectangle(points[0], points[1], points[3], points[4])
            if rectangle.side < self.minimum_face:
                raise SkippedImageError(f"face crop of {rectangle.side:.0f} pixels", name)
            image, transform = align(photo.image, rectangle, self.size, self.supersample, self._guarded(photo.name))
        except (UserError, UnreadableImageError):
            raise
        except ValueError as error:
            raise UnreadableImageError(str(error), name) from error
        known = transform.to_crop(face.landmarks) if len(face.landmarks) == 68 else None
        return Item(image, name, photo.labels, known)

    def _guarded(self, name: str) -> Enhance | None:
        """The user's function, whose errors are told as such."""
        function = self._enhance
        if function is None:
            return None

        def guarded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
            try:
                return function(pixels)
            except Exception as error:
                problem = f"{type(error).__name__}: {first_line(error)}"
                raise UserError(f"enhance={self._enhance_name} failed on {name}: {problem}") from error

        return guarded

    @cached_property
    def _detector(self) -> DlibLandmarks:
        return DlibLandmarks(self.predictor_path)

    @cached_property
    def _enhance(self) -> Enhance | None:
        return named_function(self.enhance) if isinstance(self.enhance, str) else self.enhance

    @property
    def _enhance_name(self) -> str | None:
        if self.enhance is None or isinstance(self.enhance, str):
            return self.enhance
        function = cast(Callable[..., Any], self.enhance)
        return f"{function.__module__}:{getattr(function, '__qualname__', type(function).__qualname__)}"


def named_function(name: str) -> Enhance:
    """The function that a configuration names as "package.module:function".

    Raises:
        UserError: There is no such module or function, or importing the module failed.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise UserError(f"enhance={name}: must be named as package.module:function")
    try:
        function: Any = importlib.import_module(module)
        for part in attribute.split("."):
            function = getattr(function, part)
    except Exception as error:  # the module is the user's: importing it may raise anything
        raise UserError(f"enhance={name}: {type(error).__name__}: {first_line(error)}") from error
    if not callable(function):
        raise UserError(f"enhance={name}: is not a function")
    return cast(Enhance, function)


def _model_identity(path: str | Path | None) -> list[str | int] | None:
    if path is None:
        return None
    model = Path(path).expanduser()
    return [model.name, model.stat().st_size] if model.is_file() else [model.name]
