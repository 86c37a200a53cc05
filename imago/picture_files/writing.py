"""Writing a picture with all that it carries, whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.atomic import atomic_path
from imago.errors import UserError, first_line
from imago.images import SAVE_OPTIONS
from imago.picture_files.carried import as_block, exif_to_write, fitting_profile, set_resolution
from imago.picture_files.png import write_png
from imago.picture_files.rows import row_blocks
from imago.picture_files.tiff import write_tiff

_TIFF_ENDINGS = (".tif", ".tiff")
PICTURE_ENDINGS = (*SAVE_OPTIONS, *_TIFF_ENDINGS)

_LARGEST_SIDE = {"PNG": 2**31 - 1, "TIFF": 2**31 - 1, "JPEG": 65500, "WEBP": 16383}


def check_picture_path(path: str | Path, bits: int = 8, channels: int = 3, side: int = 1) -> None:
    """Refuse a picture that cannot be written, before it is made.

    Args:
        path: The file.
        bits: 8 or 16.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        side: The longer one, in pixels.

    Raises:
        UserError: The ending is unknown, or its format does not hold this depth, transparency or size.
    """
    path = Path(path)
    kind = _format(path)
    if bits not in (8, 16):
        raise UserError(f"bits={bits}: pictures are written with 8 or 16 bits a sample")
    if bits == 16 and kind not in ("PNG", "TIFF"):
        raise UserError(f"cannot write {path.name} with 16 bits: {kind} holds 8; use .png or .tif")
    if channels == 4 and kind == "JPEG":
        raise UserError(f"cannot write {path.name}: JPEG holds no transparency; use .png, .tif or .webp")
    if side > _LARGEST_SIDE[kind]:
        raise UserError(
            f"cannot write {path.name}: {kind} holds at most {_LARGEST_SIDE[kind]} pixels a side, not {side}; use .png"
        )


def write_picture(
    path: str | Path,
    pixels: NDArray[Any],
    *,
    bits: int = 8,
    dpi: float | None = None,
    icc_profile: bytes | None = None,
    exif: bytes | None = None,
    metadata: Mapping[str, object] | None = None,
) -> Path:
    """Write a picture in the format of the path's ending, one of ``PICTURE_ENDINGS``.

    The file appears whole or not at all, and its folder is made if need be. PNG, TIFF and WebP keep every value; JPEG
    is written at quality 95 without chroma subsampling. PNG and TIFF are written a few rows at a time, so `pixels` may
    be a memory-mapped file larger than the memory, in any layout; JPEG and WebP hold the whole picture.

    Args:
        path: The file.
        pixels: uint8 or uint16 ``(H, W, C)`` with C = 1 (grey), 3 (RGB) or 4 (RGBA).
        bits: 8 or 16 in the file; values are scaled if `pixels` has the other depth.
        dpi: Pixels per inch.
        icc_profile: Colour profile; left out if it does not describe `pixels` (a grey one for RGB).
        exif: EXIF block; written with the orientation 1, and with the new extent and resolution.
        metadata: How the picture was made, kept inside it: one text chunk per entry in a PNG, JSON in the EXIF field
            ImageDescription otherwise (as :func:`imago.images.save_image`).

    Returns:
        The path written.

    Raises:
        UserError: The ending is unknown, or its format does not hold this picture.
        ValueError: `pixels` has another type or shape.
    """
    path = Path(path)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a picture must be uint8 or uint16 to be written, not {pixels.dtype}")
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.size == 0:
        raise ValueError(f"a picture must be (H, W, C) with C = 1, 3 or 4, not {pixels.shape}")
    height, width, channels = pixels.shape
    check_picture_path(path, bits, channels, max(height, width))
    if dpi is not None and not 1 <= dpi <= 1e6:
        raise UserError(f"dpi={dpi}: must be from 1 to 1000000 pixels per inch")
    kind = _format(path)
    profile = fitting_profile(icc_profile, channels)
    entries = exif_to_write(exif, (width, height), dpi, None if kind == "PNG" else metadata)
    with atomic_path(path) as temporary:
        if kind == "PNG":
            block = as_block(entries) if entries is not None else None
            with open(temporary, "wb") as file:
                write_png(file, pixels, bits, dpi=dpi, icc_profile=profile, exif=block, texts=metadata)
        elif kind == "TIFF":
            with open(temporary, "wb") as file:
                write_tiff(file, pixels, bits, dpi=dpi, icc_profile=profile, exif=entries)
        else:
            _write_with_pillow(temporary, pixels, SAVE_OPTIONS[path.suffix.lower()], dpi, profile, entries, path.name)
    return path


def _format(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in PICTURE_ENDINGS:
        endings = ", ".join(PICTURE_ENDINGS)
        raise UserError(f"cannot write a picture as {path.name}: the ending must be one of {endings}")
    return "TIFF" if ending in _TIFF_ENDINGS else str(SAVE_OPTIONS[ending]["format"])


def _write_with_pillow(
    temporary: Path,
    pixels: NDArray[Any],
    options: Mapping[str, Any],
    dpi: float | None,
    profile: bytes | None,
    exif: Image.Exif | None,
    name: str,
) -> None:
    more: dict[str, Any] = {"icc_profile": profile} if profile is not None else {}
    if dpi is not None and options["format"] == "JPEG":
        more["dpi"] = (dpi, dpi)
    elif dpi is not None:  # WebP has no other place for it
        exif = exif or Image.Exif()
        set_resolution(exif, dpi)
    if exif is not None:
        more["exif"] = exif
    values = np.concatenate(list(row_blocks(pixels, 8)))
    picture = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    try:
        picture.save(temporary, **options, **more)
    except ValueError as error:  # such as EXIF of more than 64 KiB in a JPEG
        raise UserError(f"cannot write {name}: {first_line(error)}; use .png or .tif") from error
