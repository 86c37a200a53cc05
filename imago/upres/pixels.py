"""What tiles are read from and where finished rows go: tensors, arrays, memory-mapped files, anything with rows.

Networks see float32 in [-1, 1]. Integer pictures hold the same range: v / 127.5 - 1 of a byte, v / 32767.5 - 1 of
sixteen bits, and back, rounded once to the nearest.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imago.errors import UserError

Pixels: TypeAlias = Tensor | NDArray[Any]
# emit(first, rows): rows `first` and on of a picture, float32 (C, n, W); only valid until the call returns.
Emit: TypeAlias = Callable[[int, Tensor], None]

_NUMPY_TYPES = {torch.float16: "float16", torch.float32: "float32", torch.float64: "float64", torch.bfloat16: ""}
_NUMPY_TYPES |= {torch.uint8: "uint8", torch.uint16: "uint16"}
_TORCH_TYPES = {name: kind for kind, name in _NUMPY_TYPES.items() if name}
_LARGEST = {torch.uint8: 255, torch.uint16: 65535}


class Sink(Protocol):
    """Takes finished rows: ``sink[:, a:b] = rows``, each row once, from the top to the bottom."""

    def __setitem__(self, key: Any, rows: Any) -> None: ...


def pixel_type(holder: object) -> torch.dtype:
    """The type in which a tensor, an array or a sink wants pictures; float32 where it does not say.

    Raises:
        UserError: A type that holds no pictures.
    """
    kind = getattr(holder, "dtype", torch.float32)
    if isinstance(kind, torch.dtype) and kind in _NUMPY_TYPES:
        return kind
    if not isinstance(kind, torch.dtype) and np.dtype(kind).name in _TORCH_TYPES:
        return _TORCH_TYPES[np.dtype(kind).name]
    raise UserError(f"pictures are uint8, uint16 or floating point, not {kind}")


def to_unit(pixels: Pixels) -> Tensor:
    """Pixels as networks see them: float32 in [-1, 1].

    Args:
        pixels: Any shape; uint8 and uint16 are scaled, floating point is taken as it is.

    Returns:
        The same shape; a tensor of its own, unless a float32 tensor was given.

    Raises:
        UserError: A type that holds no pictures.
    """
    largest = _LARGEST.get(pixel_type(pixels))
    if isinstance(pixels, Tensor):
        values = pixels.to(torch.float32)
    else:
        values = torch.from_numpy(np.array(pixels, dtype=np.float32))  # copied: memory maps may be read-only
    return values if largest is None else values / (largest / 2) - 1


def from_unit(values: Tensor, kind: torch.dtype) -> Tensor:
    """The inverse of :func:`to_unit`: cut to [-1, 1], and rounded to the nearest integer where `kind` is one."""
    values = values.clamp(-1, 1)
    if kind in _LARGEST:
        half = _LARGEST[kind] / 2
        values = (values * half + half).round()
    return values.to(kind)


def write_to(out: Sink) -> Emit:
    """An `emit` that writes into a tensor (on any device), an array or a sink, in the type of that."""
    kind = pixel_type(out)

    def emit(first: int, rows: Tensor) -> None:
        finished = from_unit(rows, kind)
        if not isinstance(out, Tensor):
            out[:, first : first + rows.shape[1]] = finished.cpu().numpy()
        else:
            out[:, first : first + rows.shape[1]] = finished.to(out.device)

    return emit


def check_out(out: object, channels: int, height: int, width: int) -> None:
    """Refuses what has a shape that is not that of the picture to come.

    Raises:
        UserError: Another shape, or a type that holds no pictures.
    """
    pixel_type(out)
    shape = getattr(out, "shape", None)
    if shape is not None and tuple(shape) != (channels, height, width):
        raise UserError(f"the result is ({channels}, {height}, {width}) and does not fit into {tuple(shape)}")


class Stack:
    """Pictures and guides, concatenated along channels where they are read, so that no whole copy is needed.

    Args:
        parts: ``(C, h, w)`` each, of the same extent; the picture first. Integers are taken as pictures and scaled to
            [-1, 1], floating point as it is (guides in [0, 1]).

    Attributes:
        shape: (channels of all parts, h, w).

    Raises:
        UserError: No parts, or parts that do not fit each other.
    """

    def __init__(self, *parts: Pixels) -> None:
        extents = {tuple(part.shape[1:]) for part in parts}
        if not parts or any(part.ndim != 3 or 0 in part.shape for part in parts) or len(extents) != 1:
            shapes = ", ".join(str(tuple(part.shape)) for part in parts)
            raise UserError(f"a stack is made of pictures and guides (C, h, w) of one extent, not of [{shapes}]")
        for part in parts:
            pixel_type(part)
        self.parts = parts
        self.shape = (sum(part.shape[0] for part in parts), int(parts[0].shape[1]), int(parts[0].shape[2]))

    def read(self, rows: slice, columns: slice, device: torch.device | str = "cpu") -> Tensor:
        """A rectangle of all channels: float32 ``(C, rows, columns)`` on a device."""
        pieces = [to_unit(part[:, rows, columns]).to(device) for part in self.parts]
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def as_stack(source: "Pixels | Stack") -> Stack:
    """The source itself if it is a stack, otherwise a stack of that alone."""
    return source if isinstance(source, Stack) else Stack(source)
