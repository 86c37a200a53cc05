"""Reading a picture with nothing lost: its depth, transparency, colour profile, EXIF and resolution."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.data.sources.decoding import opened_image, orientation_of, turned_upright
from imago.data.sources.file_tree import suggestion
from imago.data.sources.source import UnreadableImageError
from imago.errors import MissingDependencyError, UserError
from imago.picture_files.carried import fitting_profile, read_dpi, read_exif, to_srgb
from imago.picture_files.tiff import read_deep_tiff

_BITS_PER_SAMPLE, _SAMPLE_FORMAT, _UNSIGNED = 258, 339, 1  # TIFF tags


@dataclass(frozen=True)
class Picture:
    """A picture and what it carries.

    Attributes:
        pixels: uint8 or uint16 ``(H, W, C)``, C = 1 (grey), 3 (RGB) or 4 (RGBA, colours not multiplied by alpha).
            Upright.
        bits: 8 or 16, as `pixels`.
        icc_profile: Colour profile of `pixels`; None means sRGB, or unknown.
        exif: EXIF block from its byte order mark on, with the orientation 1 (see
            :func:`imago.picture_files.carried.read_exif`).
        dpi: Pixels per inch.
    """

    pixels: NDArray[Any]
    bits: int = 8
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: float | None = None

    def __post_init__(self) -> None:
        assert self.pixels.ndim == 3
        assert self.pixels.shape[2] in (1, 3, 4)
        assert self.pixels.size > 0
        assert self.pixels.dtype == (np.uint16 if self.bits == 16 else np.uint8)


def read_picture(path: str | Path) -> Picture:
    """Read a JPEG, PNG, TIFF, WebP or BMP; the first picture where there are several.

    - PNG and TIFF of 16 bits keep them. TIFF and colour PNG of 16 bits need the extra ``print``.
    - Palettes become RGB. Grey with transparency becomes RGBA, and so does a PNG with a transparent colour.
    - Inks (CMYK) and CIE L*a*b* become sRGB, by the embedded profile where there is one.
    - Other colour profiles are kept, not applied. One that does not describe the result (grey with transparency) is
      left out.

    Args:
        path: The file; ``~`` is expanded.

    Raises:
        UserError: Missing, unreadable, not a picture, truncated, of unknown depth, more than 179 million pixels.
    """
    path = Path(path).expanduser()
    try:
        with open(path, "rb") as file:
            return _read(file)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such picture{suggestion(path)}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnreadableImageError as error:
        raise UserError(f"{path}: {error.reason}") from error


def _read(file: IO[bytes]) -> Picture:
    with opened_image(file) as image:
        bits = _bits(image, file)
        orientation, exif = orientation_of(image), read_exif(image)
        if image.format == "TIFF":
            if bits == 8:
                image.load()
                orientation = 1  # Pillow's reader has applied it
        else:  # here EXIF may stand behind the pixels; and loading finds damage that OpenCV passes over
            image.load()
            orientation, exif = orientation_of(image), read_exif(image)
        profile = None if image.mode in ("CMYK", "LAB") else image.info.get("icc_profile")
        dpi = read_dpi(image)
        pixels = turned_upright(_eight_bits(image) if bits == 8 else _sixteen_bits(image, file), orientation)
    return Picture(pixels, bits, fitting_profile(profile, pixels.shape[2]), exif, dpi)


def _bits(image: Image.Image, file: IO[bytes]) -> int:
    """8 or 16: the samples' depth in the file. Of colour, Pillow tells only what it makes of it."""
    if image.format == "PNG":
        file.seek(24)  # the depth stands behind the width and the height
        depth = file.read(1)[0]
        file.seek(0)
        return 16 if depth == 16 else 8
    if image.format != "TIFF":
        return 8
    tags = image.tag_v2  # type: ignore[attr-defined]
    depths, kinds = set(tags.get(_BITS_PER_SAMPLE, (1,))), set(tags.get(_SAMPLE_FORMAT, (_UNSIGNED,)))
    if kinds != {_UNSIGNED} or not (depths == {16} or max(depths) <= 8):
        raise UnreadableImageError("only whole numbers of 8 or 16 bits are read, whose range is known")
    return 16 if depths == {16} else 8


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """``(H, W, C)`` of a loaded image."""
    if image.has_transparency_data:
        return np.asarray(image.convert("RGBA"))
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[:, :, None]
    return np.asarray(to_srgb(image) if image.mode in ("CMYK", "LAB") else image.convert("RGB"))


def _sixteen_bits(image: Image.Image, file: IO[bytes]) -> NDArray[np.uint16]:
    """``(H, W, C)`` of an image with 16 bits a sample; of a PNG that is loaded."""
    if image.format == "TIFF":
        return read_deep_tiff(file)
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.uint16)[:, :, None]
        transparent = image.info.get("transparency")
        if transparent is None:
            return grey
        alpha = np.where(grey == transparent, 0, 65535).astype(np.uint16)
        return np.concatenate([grey, grey, grey, alpha], axis=2)
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError("cv2", "to read colour PNGs of 16 bits", "print") from error

    file.seek(0)
    decoded = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise UnreadableImageError("broken PNG")
    samples = np.atleast_3d(decoded)
    return np.ascontiguousarray(samples[:, :, [2, 1, 0, 3][: samples.shape[2]]])
