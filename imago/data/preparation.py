"""From items of a source to what is written into a pack: cropped, resized, as a pyramid, encoded."""

import io
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.data.pyramid import CROPS, fit, level_heights, pyramid
from imago.data.sources.source import Item, SkippedImageError, Source, UnreadableImageError, read_all
from imago.errors import UserError

RUN_BYTES = 4 << 20  # of the largest level that are prepared and handed over at once


@dataclass(frozen=True)
class Preparation:
    """The parameters that the content of a pack depends on; see :func:`imago.data.packing.pack`."""

    resolution: int
    base: tuple[int, int] = (4, 4)
    channels: int = 3
    zip_from: int = 256
    crop: str = "center"
    png_level: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", (int(self.base[0]), int(self.base[1])))  # a configuration gives lists
        level_heights(self.resolution, self.base)
        if self.channels not in (1, 3, 4):
            raise UserError(f"channels={self.channels}: must be 1 (grey), 3 (RGB) or 4 (RGBA)")
        if self.zip_from < 1:
            raise UserError(f"zip_from={self.zip_from}: must be the height from which levels are stored as PNGs")
        if self.crop not in CROPS:
            raise UserError(f"crop={self.crop!r}: must be one of {', '.join(CROPS)}")
        if not 0 <= self.png_level <= 9:
            raise UserError(f"png_level={self.png_level}: must be 0 (not compressed) to 9 (smallest, slowest)")

    def shapes(self) -> dict[int, tuple[int, int, int]]:
        """Height → ``(H, W, C)`` of every level, ascending."""
        heights = level_heights(self.resolution, self.base)
        return {height: (height, height // self.base[0] * self.base[1], self.channels) for height in heights}

    def identity(self, source: Source) -> dict[str, Any]:
        """What makes two packs the same, as JSON values."""
        return {"fingerprint": source.fingerprint(), "preparation": json.loads(json.dumps(asdict(self)))}

    def runs(self, entries: range) -> list[range]:
        """`entries` of a source in pieces that are worth handing to a process."""
        pixels = int(np.prod(self.shapes()[self.resolution]))
        step = max(1, min(32, RUN_BYTES // pixels))
        return [entries[first : first + step] for first in range(0, len(entries), step)]


@dataclass
class Prepared:
    """Consecutive entries of the source, ready to be written.

    Attributes:
        entries: Entries of the source.
        names: Names of their n images.
        levels: Height → uint8 ``(n, H, W, C)``, or n encoded PNGs.
        landmarks: float32 ``(n, 68, 2)``, NaN where there are none.
        labels: n rows.
        left_out: (name, reason) of the entries without an image.
        skipped: How many of these are whole, but not what was asked for.
        upsampled: Images of the n that were smaller than the largest level.
    """

    entries: int
    names: list[str]
    levels: dict[int, NDArray[np.uint8] | list[bytes]]
    landmarks: NDArray[np.float32]
    labels: list[dict[str, str] | None]
    left_out: list[tuple[str, str]]
    skipped: int
    upsampled: int


def prepare(task: tuple[Source, Preparation], run: range) -> Prepared:
    """Reads, crops and resizes the entries of `run` and makes their pyramids."""
    source, preparation = task
    shapes = preparation.shapes()
    height, width, channels = shapes[preparation.resolution]
    names, images, landmarks, labels, left_out = [], [], [], [], []
    skipped = upsampled = 0
    for index in run:
        try:
            items: list[Item] = read_all(source, index)
        except UnreadableImageError as error:
            left_out.append((error.name or source.item_name(index), error.reason))
            skipped += isinstance(error, SkippedImageError)
            continue
        for item in items:
            pixels, points, enlarged = fit(item, height, width, channels, preparation.crop)
            names.append(item.name)
            images.append(pixels)
            landmarks.append(points)
            labels.append(item.labels)
            upsampled += enlarged
    stacked = np.stack(images) if images else np.empty((0, height, width, channels), dtype=np.uint8)
    levels: dict[int, NDArray[np.uint8] | list[bytes]] = {}
    for level, pixels in zip(shapes, pyramid(stacked, len(shapes)), strict=True):
        zipped = level >= preparation.zip_from
        levels[level] = [_png(image, preparation.png_level) for image in pixels] if zipped else pixels
    points = np.stack(landmarks) if landmarks else np.empty((0, 68, 2), dtype=np.float32)
    return Prepared(len(run), names, levels, points, labels, left_out, skipped, upsampled)


def _png(image: NDArray[np.uint8], level: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(file, "PNG", compress_level=level)
    return file.getvalue()
