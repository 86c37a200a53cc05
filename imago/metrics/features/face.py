"""dlib's face embedding as features: what makes one person look unlike another, and nothing to download.

The network is a ResNet of 29 convolutions that maps pictures of one person close together (King 2017, "High quality
face recognition with deep metric learning", blog.dlib.net). It was trained on aligned faces; here it sees pictures as
they are, so that none drops out because no face is found in it, and portraits that are framed alike are compared alike.
"""

import importlib.util
import multiprocessing
import os
import signal
import threading
import weakref
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imago.errors import MissingDependencyError, UserError
from imago.metrics.checks import check_images
from imago.metrics.features.extractor import file_digest
from imago.metrics.resizing import WAYS, resize, to_bytes

_MODEL_FILE = "dlib_face_recognition_resnet_model_v1.dat"
_SIDE = 150  # pixels, of the faces that the network was trained on
_RUNS_PER_WORKER = 4  # of a call's images, so that workers end at about the same time


class FaceFeatures:
    """Embeddings of whole pictures, 128 components. Sets that are compared must be framed alike.

    dlib takes 56 ms for an image, on one core, whatever the batch, and keeps Python's interpreter locked meanwhile:
    threads do not help, processes do. Embeddings are the same to the bit for every number of them.

    Args:
        weights: dlib's model file; by default the one in the package ``face_recognition_models``.
        resize: How images are brought to 150² (:func:`imago.metrics.resizing.resize`), "clean" by default; rounded to
            bytes, as dlib takes nothing else.
        device: Accepted as other extractors do; dlib works on the CPU.
        workers: Processes; with 1, this one does the work. They are spawned at the first call and kept: a script that
            asks for more must guard its entry point with ``if __name__ == "__main__"``.

    Raises:
        MissingDependencyError: dlib or the model is not installed.
        UserError: `weights` is no such file, or no such model, or a parameter is out of range.
    """

    name = "face"
    size = 128
    has_logits = False

    def __init__(
        self,
        weights: str | Path | None = None,
        resize: str | None = None,
        device: str | torch.device = "cpu",
        workers: int = 1,
    ) -> None:
        how = resize or "clean"
        if how not in WAYS or workers < 1:
            raise UserError(f"face features: resize={how!r}, {workers=}: need one of {', '.join(WAYS)}, and a worker")
        if importlib.util.find_spec("dlib") is None:
            raise MissingDependencyError("dlib", "for face features", "faces")
        path = find_face_model(weights)
        self.resize = how
        self.workers = workers
        self.protocol = f"dlib face embedding, whole images at {_SIDE}² ({how}, rounded), not aligned"
        self.identity = f"face/{file_digest(path)}/{how}"
        self._path = path
        self._model = _open(path)
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Embeddings of images uint8 ``(N, 3, H, W)``: float32 ``(N, 128)`` on the CPU."""
        pictures = check_images(images).cpu().numpy()
        if self.workers == 1:
            return torch.from_numpy(_embed(self._model, pictures, self.resize))
        if self._pool is None:
            # Spawned: a fork of a process with threads (as training has) may deadlock.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, context, _start_worker, (self._path,))
            weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        runs = np.array_split(pictures, min(len(pictures), _RUNS_PER_WORKER * self.workers))
        return torch.from_numpy(np.concatenate(list(self._pool.map(_embed_in_worker, runs, [self.resize] * len(runs)))))

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Refused: an embedding has no classes.

        Raises:
            UserError: Always.
        """
        raise UserError("face features have no logits; an Inception score needs features=inception or torchscript")


def find_face_model(path: str | Path | None = None) -> Path:
    """The file of dlib's face embedding, in ``face_recognition_models``, which is located without being imported.

    Args:
        path: Where it is; by default in that package.

    Raises:
        UserError: `path` is no file.
        MissingDependencyError: The package is not installed.
    """
    if path is not None:
        path = Path(path).expanduser()
        if not path.is_file():
            raise UserError(f"weights={path}: no such file; expected dlib's {_MODEL_FILE}")
        return path
    models = importlib.util.find_spec("face_recognition_models")
    if models is not None and models.origin is not None:
        path = Path(models.origin).parent / "models" / _MODEL_FILE
        if path.is_file():
            return path
    raise MissingDependencyError("face_recognition_models", "for face features", "faces")


def _open(path: Path) -> Any:
    import dlib

    try:
        return dlib.face_recognition_model_v1(str(path))
    except RuntimeError as error:
        raise UserError(f"{path}: not dlib's face recognition model") from error


def _embed(model: Any, pictures: NDArray[np.uint8], how: str) -> NDArray[np.float32]:
    """uint8 ``(N, 3, H, W)`` → float32 ``(N, 128)``."""
    chips = to_bytes(resize(torch.from_numpy(pictures), _SIDE, how)).permute(0, 2, 3, 1).contiguous().numpy()
    return np.array([np.array(vector) for vector in model.compute_face_descriptor(list(chips))], dtype=np.float32)


# --- in a worker ------------------------------------------------------------------------------------------------------

_model: Any = None


def _start_worker(path: Path) -> None:
    global _model
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _model = _open(path)


def _exit_with_parent() -> None:
    """A killed parent cannot end its workers, which would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _embed_in_worker(pictures: NDArray[np.uint8], how: str) -> NDArray[np.float32]:
    return _embed(_model, pictures, how)
