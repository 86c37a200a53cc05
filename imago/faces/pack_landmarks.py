"""The landmarks of a packed data set: its own, or found once and kept."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imago.atomic import atomic_path
from imago.data.packed import PackedDataset
from imago.errors import MissingDependencyError, UserError
from imago.faces.landmarks import DlibLandmarks, choose_faces

logger = logging.getLogger("imago")

LANDMARK_SOURCES = ("auto", "pack", "dlib", "none")

_DETECTION_HEIGHT = 512  # pixels: the level that is looked at


def landmarks_of_pack(dataset: PackedDataset, where_from: str, cache: Path) -> NDArray[np.float32] | None:
    """The landmarks of all images of a pack.

    Args:
        dataset: The pack.
        where_from: ``pack``: those it holds; ``dlib``: found in its images, the largest face of each, and kept in the
            cache; ``auto``: those it holds, or else found; ``none``.
        cache: The folder where found ones are kept.

    Returns:
        float32 ``(N, 68, 2)`` in pixels of the largest level, NaN where no face is known; None for ``none``.

    Raises:
        UserError: An unknown word, or a pack without landmarks where its own are asked for.
        MissingDependencyError: dlib or its model is not installed.
    """
    if where_from not in LANDMARK_SOURCES:
        raise UserError(f"data.landmarks={where_from}: must be one of {', '.join(LANDMARK_SOURCES)}")
    if where_from == "none":
        return None
    if where_from != "dlib" and dataset.landmarks is not None:
        return np.asarray(dataset.landmarks)
    if where_from == "pack":
        raise UserError(f"{dataset.path} holds no landmarks; data.landmarks=dlib finds them, none does without")
    path = cache / f"landmarks-{dataset.checksum[:24]}.npy"
    kept = _kept(path)
    if kept is not None and kept.shape == (dataset.count, 68, 2):
        return kept
    found = _found(dataset)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, found)
    return found


def _kept(path: Path) -> NDArray[np.float32] | None:
    """What was found before; None if there is nothing, or what is there cannot be read."""
    try:
        return np.load(path)
    except (OSError, ValueError, EOFError):
        return None


def _found(dataset: PackedDataset) -> NDArray[np.float32]:
    try:
        detector = DlibLandmarks()
    except MissingDependencyError as error:
        raise UserError(f"{dataset.path} holds no landmarks: {error}; or go without, by data.landmarks=none") from error
    level = max(height for height in dataset.resolutions if height <= _DETECTION_HEIGHT or height == dataset.base[0])
    scale = dataset.resolutions[-1] / level
    result = np.full((dataset.count, 68, 2), np.nan, dtype=np.float32)
    logger.info("looking for the landmarks of %d faces in %s", dataset.count, dataset.path)
    for index in range(dataset.count):
        image = dataset.images(np.array([index]), level)[0].transpose(1, 2, 0)
        for face in choose_faces(detector.detect(np.ascontiguousarray(image)), "largest"):
            result[index] = (face.landmarks + 0.5) * scale - 0.5
    known = int(np.isfinite(result[:, 0, 0]).sum())
    logger.info("found those of %d of %d", known, dataset.count)
    return result
