"""A contact sheet of every stage: what went in, the guide, what each stage made, a row for each picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from imago.data.contact_sheet import contact_sheet
from imago.faces.guide import draw_guide
from imago.images import save_image, to_uint8
from imago.upres.chain import ChainResult
from imago.upres.pixels import to_unit
from imago.upres.stacking import resample

_SIDE = 320  # pixels of a picture on the sheet
_MOST = 64  # rows


class StageSheet:
    """Collects small versions of what was made."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.cells: list[tuple[NDArray[np.uint8], str]] = []
        self.columns = 0
        self.left_out = 0

    def add(self, name: str, picture: Tensor, faces: Sequence[NDArray[np.float64]], chain: ChainResult) -> None:
        """Adds a row.

        Args:
            name: Of the picture.
            picture: What went in, float32 ``(3, H, W)`` in [-1, 1].
            faces: Landmarks in its pixels.
            chain: What came out.
        """
        if len(self.names) == _MOST:
            self.left_out += 1
            return
        height, width = picture.shape[1:]
        scale = _SIDE / max(height, width)
        extent = max(1, round(height * scale)), max(1, round(width * scale))
        steps = np.array([extent[1] / width, extent[0] / height])
        guide = draw_guide([(face + 0.5) * steps - 0.5 for face in faces], extent)
        row = [(_small(picture), f"{name} {width}×{height}"), (_small(guide * 2 - 1), f"guide, {len(faces)} face(s)")]
        for number, made in enumerate(chain.pictures, start=1):
            row.append((_small(made), f"stage {number} {made.shape[2]}×{made.shape[1]}"))
        if self.columns < len(row):  # rows of pictures that needed fewer stages are shorter
            self._widen(len(row))
        self.names.append(name)
        self.cells += row + [_EMPTY] * (self.columns - len(row))

    def write(self, folder: Path) -> Path | None:
        """Writes the sheet: ``<name>-stages.png`` of a single picture, ``contact-sheet.png`` of several."""
        if not self.names:
            return None
        name = f"{self.names[0]}-stages.png" if len(self.names) == 1 else "contact-sheet.png"
        pictures, captions = zip(*self.cells, strict=True)
        return save_image(folder / name, contact_sheet(pictures, captions, self.columns, _SIDE))

    def _widen(self, columns: int) -> None:
        rows = [self.cells[first : first + self.columns] for first in range(0, len(self.cells), self.columns or 1)]
        self.cells = [cell for row in rows for cell in row + [_EMPTY] * (columns - self.columns)]
        self.columns = columns


_EMPTY = (np.zeros((_SIDE, _SIDE, 3), dtype=np.uint8), "")


def _small(picture: Any) -> NDArray[np.uint8]:
    """A picture ``(3, H, W)`` of any type with a longer side of at most ``_SIDE``, uint8 ``(h, w, 3)``."""
    step = max(1, max(picture.shape[1:]) // (4 * _SIDE))  # a huge one is not read as a whole
    few = picture[:, ::step, ::step]
    unit = to_unit(few if isinstance(few, Tensor) else np.ascontiguousarray(few)).cpu()
    scale = _SIDE / max(unit.shape[1:])
    if scale < 1:
        unit = resample(unit, (max(1, round(unit.shape[1] * scale)), max(1, round(unit.shape[2] * scale))))
    return to_uint8(unit).permute(1, 2, 0).contiguous().numpy()
