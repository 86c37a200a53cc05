"""Sheets of small pictures with captions, to look at what a score prefers."""

import math
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imago.images import image_grid

_PADDING = 4  # pixels between cells
_SIGNS = str.maketrans({"×": "x", "²": "", "ß": "ss", "→": "to", "–": "-"})


def contact_sheet(
    pictures: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    columns: int | None = None,
    side: int = 160,
    text: int | None = None,
) -> NDArray[np.uint8]:
    """Pictures row by row, each with its caption below.

    Args:
        pictures: uint8 ``(H, W, C)`` of any sizes, C = 1, 3 or 4; fitted into a square, at least one.
        captions: One a picture; cut off where they are wider than the picture.
        columns: Pictures in a row; by default about a square.
        side: Of a picture on the sheet, in pixels.
        text: Height of a caption's line, in pixels; by default a ninth of the side, at least 12.

    Returns:
        uint8 ``(H, W, 3)``, on black.

    Raises:
        ValueError: There is no picture, or not a caption for each.
    """
    if not pictures or len(pictures) != len(captions):
        raise ValueError(f"a sheet needs pictures and a caption for each, got {len(pictures)} and {len(captions)}")
    height = text or max(12, side // 9)
    cells = [_cell(picture, caption, side, height) for picture, caption in zip(pictures, captions, strict=True)]
    stacked = torch.from_numpy(np.stack(cells)).permute(0, 3, 1, 2)  # (N, 3, H, W)
    return image_grid(stacked, columns, _PADDING).permute(1, 2, 0).numpy()


def best_and_worst(
    scores: Sequence[float],
    picture: Callable[[int], NDArray[np.uint8]],
    count: int = 16,
    columns: int = 8,
    side: int = 160,
) -> NDArray[np.uint8]:
    """The best pictures, best first, then in new rows the worst, worst last; each with its place and score.

    Args:
        scores: One a picture, larger is better; NaN is left out.
        picture: From a place in `scores` to the picture, uint8 ``(H, W, C)``; called for those shown only.
        count: How many of either; fewer where there are fewer than twice as many.
        columns: Pictures in a row.
        side: Of a picture on the sheet, in pixels.

    Returns:
        uint8 ``(H, W, 3)``.

    Raises:
        ValueError: There is no score.
    """
    order = [int(i) for i in np.argsort(-np.asarray(scores, dtype=float), kind="stable") if not math.isnan(scores[i])]
    if not order:
        raise ValueError("a sheet needs at least one score that is a number")
    half = min(count, -(-len(order) // 2))
    ranks = list(range(len(order)))
    sheets = []
    for part in (ranks[:half], ranks[max(half, len(order) - half) :]):
        if part:
            captions = [f"{rank + 1}: {scores[order[rank]]:.3f}" for rank in part]
            sheets.append(contact_sheet([picture(order[rank]) for rank in part], captions, min(columns, half), side))
    gap = np.zeros((_PADDING, sheets[0].shape[1], 3), dtype=np.uint8)
    return np.concatenate([sheets[0], gap, sheets[1]] if len(sheets) > 1 else sheets)


def _cell(picture: NDArray[np.uint8], caption: str, side: int, height: int) -> NDArray[np.uint8]:
    """uint8 ``(side + height + 2, side, 3)``."""
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture[..., :3]).convert("RGB")
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = image.resize(size, Image.Resampling.LANCZOS)
    cell = Image.new("RGB", (side, side + height + 2))
    cell.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
    font = ImageFont.load_default(height - 2)
    ImageDraw.Draw(cell).text((2, side), _drawable(caption), fill=(255, 255, 255), font=font)
    return np.asarray(cell)


def _drawable(caption: str) -> str:
    """What Pillow's font has of a caption: ASCII, so letters lose their accents, and others become question marks."""
    plain = unicodedata.normalize("NFKD", caption.translate(_SIGNS))
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return letters.encode("ascii", "replace").decode()
