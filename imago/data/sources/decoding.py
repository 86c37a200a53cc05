"""From the bytes of an image file to an array, with nothing guessed and nothing silently repaired."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from imago.data.sources.source import UnreadableImageError
from imago.errors import UserError

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # JPEG includes MPO, what phones write when they add a preview
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ORIENTATION = 0x0112  # EXIF tag
# By EXIF orientation: exchange rows and columns, then reverse the rows, reverse the columns.
_TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_pillow_settings = threading.RLock()


def decode(
    content: bytes,
    channels: int = 3,
    background: tuple[int, int, int] = (255, 255, 255),
    minimum_side: int = 1,
) -> NDArray[np.uint8]:
    """Decodes an image file (JPEG, PNG, WebP, BMP, TIFF; the first frame where there are several).

    - It is turned upright by its EXIF orientation.
    - Transparency is composited on `background`, unless channels = 4, which keeps it.
    - 16-bit grey is scaled to 8 bits, round(value / 257). 16-bit colour keeps its upper bytes, as Pillow reads it.
    - Grey ↔ RGB: three equal channels, or the luma of ITU-R 601-2.
    - CMYK becomes RGB by Pillow's formula. Colour profiles are not applied, as in the usual data set tools.

    Args:
        content: The file.
        channels: 1, 3 or 4 channels of the result.
        background: RGB colour behind transparent pixels.
        minimum_side: Smallest width and height accepted.

    Returns:
        uint8 ``(H, W, channels)``.

    Raises:
        UnreadableImageError: Not an image, truncated, too small, too large (more than 179 million pixels).
    """
    with opened_image(io.BytesIO(content)) as image:
        width, height = image.size
        if min(width, height) < minimum_side:
            raise UnreadableImageError(f"{width}x{height} is smaller than {minimum_side}x{minimum_side}")
        image.load()
        orientation = orientation_of(image)
        return turned_upright(_to_channels(_eight_bits(image), channels, background), orientation)


@contextmanager
def opened_image(file: IO[bytes]) -> Iterator[Image.Image]:
    """An image file with its header read; what goes wrong within the block becomes an `UnreadableImageError`.

    Args:
        file: JPEG, PNG, WebP, BMP or TIFF, open for reading.

    Yields:
        The image, of which nothing but the header is read. Truncated files are refused, whatever else in this process
        asked of Pillow.

    Raises:
        UnreadableImageError: Not an image, truncated, too large (more than 179 million pixels).
    """
    try:
        with _strict_pillow(), Image.open(file, formats=_FORMATS) as image:
            yield image
    except (UnreadableImageError, UserError):  # the latter: a package is missing, for which the file is not to blame
        raise
    except Image.UnidentifiedImageError as error:
        file.seek(0)
        raise UnreadableImageError("not an image of a known format" if file.read(1) else "empty file") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError("decompression bomb: too many pixels") from error
    except Exception as error:  # Pillow's decoders raise almost anything (SyntaxError, struct.error …) on broken files
        raise UnreadableImageError(" ".join(str(error).split()) or type(error).__name__) from error


@contextmanager
def _strict_pillow() -> Iterator[None]:
    """Makes truncated files an error whatever else in this process asked of Pillow, and large photos no warning."""
    with _pillow_settings, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oversized (an error from twice the size on), odd EXIF, odd TIFF tags
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation. To be asked after load(), because Pillow's TIFF reader applies and removes it there."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block says nothing against the picture
        return 1


def turned_upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """``(H, W, C)`` turned and flipped as an EXIF orientation says; unknown values change nothing."""
    if orientation not in _TURNS:
        return pixels
    exchange, rows, columns = _TURNS[orientation]
    turned = pixels.transpose(1, 0, 2) if exchange else pixels
    return np.ascontiguousarray(turned[:: -1 if rows else 1, :: -1 if columns else 1])


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey, 0…65535 to 0…255 rounded to nearest (65535 = 255 · 257); Pillow's convert() would clip."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UnreadableImageError("samples of 32 bits have no known range")
    return image


def _to_channels(image: Image.Image, channels: int, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    if image.has_transparency_data and channels < 4:
        image = Image.fromarray(_composite(np.asarray(image.convert("RGBA")), background))
    if image.mode != _MODES[channels]:
        image = image.convert(_MODES[channels])
    pixels = np.asarray(image)
    return pixels[:, :, None] if channels == 1 else pixels


def _composite(rgba: NDArray[np.uint8], background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """alpha · colour + (1 − alpha) · background, rounded to nearest. ``(H, W, 4)`` → ``(H, W, 3)``."""
    alpha = rgba[:, :, 3:].astype(np.uint32)
    total = alpha * rgba[:, :, :3] + (255 - alpha) * np.array(background, dtype=np.uint32)
    return ((total + 127) // 255).astype(np.uint8)
