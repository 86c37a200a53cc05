"""Where dlib's trained models lie."""

import importlib.util
from pathlib import Path

from imago.errors import MissingDependencyError, UserError


def find_model(name: str, given: str | Path | None, key: str, purpose: str) -> Path:
    """A model's file, by default the one in ``face_recognition_models``.

    The package is located without being imported: its import needs ``pkg_resources``, which current versions of
    setuptools no longer have.

    Args:
        name: The file's name there.
        given: Where a user says that it is.
        key: The option by which they say so, for a message.
        purpose: What it is needed for ("to find the landmarks of faces").

    Raises:
        UserError: `given` is no file.
        MissingDependencyError: The package is not installed.
    """
    if given is not None:
        path = Path(given).expanduser()
        if not path.is_file():
            raise UserError(f"{key}={path}: no such file; expected dlib's {name}")
        return path
    models = importlib.util.find_spec("face_recognition_models")
    if models is not None and models.origin is not None:
        path = Path(models.origin).parent / "models" / name
        if path.is_file():
            return path
    raise MissingDependencyError("face_recognition_models", purpose, "faces")
