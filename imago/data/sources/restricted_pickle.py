"""Pickles of plain data, read without running what a foreign pickle may name.

A pickle is a program that may call any function. Here it may build lists, tuples, dictionaries, texts, bytes and
numbers, and arrays of uint8; a pickle that names anything else is refused before it is called.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imago.errors import UserError


def load_plain(content: bytes, where: str) -> Any:
    """The content of a pickle of plain data, written by Python 2 or 3; old texts are read as latin-1.

    Args:
        content: The pickle.
        where: What it is, for messages.

    Raises:
        UserError: It names a function or class that plain data has no need of, or is damaged.
    """
    try:
        return _resolved(_PlainUnpickler(io.BytesIO(content), encoding="latin1").load())
    except _ForbiddenError as error:
        raise UserError(f"{where}: refused, because this pickle would run code ({error}); get the original") from error
    except Exception as error:  # a damaged pickle raises almost anything
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(f"{where}: damaged or not a pickle of plain data ({reason})") from error


class _ForbiddenError(Exception):
    pass


class _ByteType:
    """Stands for ``numpy.dtype("u1")``."""

    def __init__(self, code: str, *_: Any) -> None:
        if code not in ("u1", "uint8", "B"):
            raise ValueError(f"an array of {code}, expected bytes")

    def __setstate__(self, state: Any) -> None:
        pass  # byte order and the like, which bytes have no need of


class _ByteArray:
    """Stands for a ``numpy.ndarray`` of bytes while it is read."""

    array: NDArray[np.uint8]

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _ByteType):
            raise ValueError("an array of an unknown type")
        raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
        self.array = np.frombuffer(raw, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


class _ArrayType:
    """Stands for the class ``numpy.ndarray``, which only serves as an argument."""

    def __new__(cls, *_: Any) -> "_ArrayType":
        raise _ForbiddenError("it calls numpy.ndarray")


def _reconstruct(*_: Any) -> _ByteArray:
    return _ByteArray()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 writes bytes into old pickles."""
    if encoding not in ("latin1", "latin-1"):
        raise _ForbiddenError(f"it encodes to {encoding}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _ByteType,
    ("_codecs", "encode"): _encode,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _ForbiddenError(f"it names {module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _ForbiddenError("it refers to objects outside itself")


def _resolved(value: Any) -> Any:
    """Puts the arrays in the place of their stand-ins."""
    if isinstance(value, _ByteArray):
        return value.array
    if isinstance(value, dict):
        return {key: _resolved(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_resolved(part) for part in value]
    if isinstance(value, tuple):
        return tuple(_resolved(part) for part in value)
    return value
