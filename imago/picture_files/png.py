"""PNG, written row by row (ISO/IEC 15948:2004).

Pillow writes no more than 8 bits a sample in colour, OpenCV neither profile nor EXIF, and both hold the picture twice.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from imago.picture_files.rows import row_blocks

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels
_COMPRESSION = 4  # zlib's level: on photos 6 takes twice the time in all, for 6% less
_SUB, _UP, _PAETH = 1, 2, 4
_INCH = 0.0254  # metres


def write_png(
    file: IO[bytes],
    pixels: NDArray[Any],
    bits: int,
    *,
    dpi: float | None = None,
    icc_profile: bytes | None = None,
    exif: bytes | None = None,
    texts: Mapping[str, object] | None = None,
) -> None:
    """Write a PNG; a few million samples are held at a time.

    Args:
        file: Open for writing.
        pixels: uint8 or uint16 ``(H, W, C)``, C = 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA).
        bits: 8 or 16 in the file.
        dpi: Pixels per inch (chunk pHYs).
        icc_profile: Colour profile (chunk iCCP).
        exif: From the byte order mark on (chunk eXIf).
        texts: One chunk iTXt for each: the kind that holds any Unicode, shown by readers like tEXt.
    """
    height, width, channels = pixels.shape
    file.write(b"\x89PNG\r\n\x1a\n")
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, bits, _COLOUR_TYPES[channels], 0, 0, 0))
    if icc_profile is not None:
        _chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile))
    if dpi is not None:
        per_metre = round(dpi / _INCH)
        _chunk(file, b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1))
    if exif is not None:
        _chunk(file, b"eXIf", exif)
    for key, value in (texts or {}).items():
        keyword = key.encode("latin-1", "replace")[:79]
        _chunk(file, b"iTXt", keyword + b"\0\0\0\0\0" + str(value).encode())
    compressor = zlib.compressobj(_COMPRESSION, strategy=zlib.Z_FILTERED)
    for lines in _filtered(pixels, bits):
        _chunk(file, b"IDAT", compressor.compress(lines))
    _chunk(file, b"IDAT", compressor.flush())
    _chunk(file, b"IEND", b"")


def _chunk(file: IO[bytes], kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind)
    file.write(content)
    file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))


def _filtered(pixels: NDArray[Any], bits: int) -> Iterator[bytes]:
    """Lines of bytes, each as its difference from its neighbours that is smallest in sum (section 12.8)."""
    step = pixels.shape[2] * bits // 8  # bytes of a pixel
    length = pixels.shape[1] * step
    above = np.zeros(length, np.uint8)
    for block in row_blocks(pixels, bits, max(1, (1 << 21) // length)):
        lines = block.astype(f">u{bits // 8}", copy=False).view(np.uint8).reshape(-1, length)
        up = np.concatenate([above[None], lines[:-1]])
        above = lines[-1].copy()
        left, up_left = (np.pad(x[:, :-step], ((0, 0), (step, 0))) for x in (lines, up))
        candidates = {_SUB: lines - left, _UP: lines - up, _PAETH: lines - _paeth(left, up, up_left)}  # modulo 256
        sizes = [np.abs(x.view(np.int8).astype(np.int16)).sum(axis=1, dtype=np.int64) for x in candidates.values()]
        choice = np.argmin(sizes, axis=0)
        result = np.empty((len(lines), 1 + length), np.uint8)
        for number, (kind, differences) in enumerate(candidates.items()):
            result[choice == number, 0] = kind
            result[choice == number, 1:] = differences[choice == number]
        yield result.tobytes()


def _paeth(left: NDArray[np.uint8], up: NDArray[np.uint8], up_left: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Of the three neighbours the one nearest to left + up - up_left; ties in this order (section 9.4)."""
    a, b, c = (x.astype(np.int16) for x in (left, up, up_left))
    to_left, to_up, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, up_left))
