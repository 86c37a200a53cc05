"""What readers of large data files share: finding them, telling their versions, one open handle per process."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from imago.data.sources.file_tree import is_web_page, natural_key, suggestion
from imago.errors import UserError

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Something that is opened anew in each process, on first use; it may be pickled and forked.

    Args:
        opener: A function of a module (it is pickled by name).
        *arguments: Its arguments.
    """

    def __init__(self, opener: Callable[..., T], *arguments: Any) -> None:
        self._opener, self._arguments = opener, arguments
        self._opened: tuple[int, T] | None = None

    def get(self) -> T:
        """The opened thing of this process."""
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            opened = self._opened = (os.getpid(), self._opener(*self._arguments))
        return opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def find_data_files(root: str | Path, pattern: str, layout: str) -> list[Path]:
    """`root` itself where it is a file, or the files below it that match a glob pattern, in natural order.

    Args:
        root: A file or folder; ``~`` is expanded.
        pattern: Such as "**/*.parquet".
        layout: What is expected, for the message.

    Raises:
        UserError: There is no such path, or nothing below it matches.
    """
    path = Path(root).expanduser().absolute()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{root}: no such file or folder{suggestion(path)}")
    found = [file for file in path.glob(pattern) if file.is_file() and not file.name.startswith(".")]
    if not found:
        raise UserError(f"{root}: no {pattern.removeprefix('**/')} in it; expected {layout}")
    return sorted(found, key=lambda file: natural_key(file.as_posix()))


def refuse_web_page(path: Path) -> None:
    """Tells a failed download from a damaged file.

    Raises:
        UserError: The file is HTML, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if is_web_page(start):
        raise UserError(f"{path}: a web page, not data: the download failed; download it again")


def stamps(paths: Sequence[Path]) -> list[list[str | int]]:
    """Name, size and time of change of each file: what a fingerprint of files too large to read is made of."""
    status = [path.stat() for path in paths]
    return [[path.name, s.st_size, s.st_mtime_ns] for path, s in zip(paths, status, strict=True)]


def fingerprint_of(*parts: Any) -> str:
    """Hash of JSON values."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


class LabelArray:
    """Labels by position, as numpy saves them: ``(N,)`` numbers, or ``(N, K)`` one-hot rows or vectors.

    Numbers and one-hot rows give the column "label", other vectors "label_0", "label_1", …

    Args:
        path: An npy file, whatever its ending.
        count: How many rows there must be.

    Raises:
        UserError: Not an npy file of numbers, or of another length.
    """

    def __init__(self, path: Path, count: int) -> None:
        refuse_web_page(path)
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"{path}: not an npy file of numbers ({error})") from error
        if array.ndim not in (1, 2) or len(array) != count or array.dtype.kind not in "buif":
            raise UserError(f"{path}: holds {array.dtype} {array.shape}, expected numbers for {count} images")
        vectors = array.ndim == 2 and array.shape[1] > 1
        if vectors and ((array == 0) | (array == 1)).all() and (array.sum(axis=1) == 1).all():
            array = array.argmax(axis=1)
        self.rows = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array

    def get(self, index: int) -> dict[str, str]:
        """The labels of one image; NaN is unknown."""
        if self.rows.ndim == 1:
            return {"label": _number(self.rows[index])}
        return {f"label_{i}": _number(value) for i, value in enumerate(self.rows[index])}

    def digest(self) -> str:
        """Identifies the content."""
        return hashlib.blake2b(np.ascontiguousarray(self.rows).tobytes(), digest_size=16).hexdigest()


def _number(value: Any) -> str:
    return "" if np.isnan(value) else f"{float(value):g}"
