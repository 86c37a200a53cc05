"""TIFF: written strip by strip, and read where Pillow would give 8 of the 16 bits."""

import struct
import zlib
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from imago.data.sources.source import UnreadableImageError
from imago.errors import MissingDependencyError, UserError
from imago.picture_files.rows import row_blocks

_LIMIT = (1 << 32) - (1 << 20)  # offsets are 32 bits; the directory needs some room
_SHORT, _LONG, _UNDEFINED = 3, 4, 7
_OFFSETS, _COUNTS, _PROFILE = 273, 279, 34675
_DEFLATE, _DIFFERENCES = 8, 2
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _INKS = 0, 1, 2, 5
_PREMULTIPLIED, _ALPHA = 1, 2


def write_tiff(
    file: IO[bytes],
    pixels: NDArray[Any],
    bits: int,
    *,
    dpi: float | None = None,
    icc_profile: bytes | None = None,
    exif: Image.Exif | None = None,
) -> None:
    """Write a TIFF (deflate with horizontal differences, which every reader knows); a strip is held at a time.

    Args:
        file: Open for writing, at its start.
        pixels: uint8 or uint16 ``(H, W, C)``, C = 1 (grey), 3 (RGB) or 4 (RGBA).
        bits: 8 or 16 in the file.
        dpi: Pixels per inch.
        icc_profile: Colour profile.
        exif: Goes into the file's directory.

    Raises:
        UserError: The file would be larger than 4 GiB.
    """
    height, width, channels = pixels.shape
    rows = max(1, (1 << 20) // (width * channels * bits // 8))  # strips of about 1 MiB
    file.write(b"II*\0\0\0\0\0")
    offsets, counts = [], []
    for block in row_blocks(pixels, bits, rows):
        differences = block.copy()
        differences[:, 1:] -= block[:, :-1]  # modulo 256 or 65536
        strip = zlib.compress(differences.astype(f"<u{bits // 8}", copy=False).tobytes(), 2)
        offsets.append(file.tell())
        counts.append(len(strip))
        file.write(strip + b"\0" * (len(strip) % 2))
        if file.tell() > _LIMIT:
            raise UserError("a TIFF holds at most 4 GiB; write a .png")
    directory = ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    for tag, entry in dict(exif or {}).items():
        directory[tag] = entry
    values: dict[int, tuple[int, Any]] = {
        256: (_LONG, width),
        257: (_LONG, height),
        258: (_SHORT, (bits,) * channels),
        259: (_SHORT, _DEFLATE),
        262: (_SHORT, _RGB if channels > 2 else _MIN_IS_BLACK),
        277: (_SHORT, channels),
        278: (_LONG, rows),
        _COUNTS: (_LONG, tuple(counts)),
        284: (_SHORT, 1),  # samples of a pixel lie together
        317: (_SHORT, _DIFFERENCES),
    }
    if channels == 4:
        values[338] = (_SHORT, _ALPHA)
    if icc_profile is not None:
        values[_PROFILE] = (_UNDEFINED, icc_profile)
    for tag, (kind, value) in values.items():
        directory.tagtype[tag] = kind
        directory[tag] = value
    if dpi is not None:
        directory[282] = directory[283] = dpi
        directory[296] = 2  # the unit: inch
    directory.tagtype[_OFFSETS] = _LONG
    directory[_OFFSETS] = (0,) * len(offsets)
    start = file.tell()
    file.write(_with_offsets(directory.tobytes(start), start, offsets))
    file.seek(4)
    file.write(struct.pack("<I", start))


def _with_offsets(directory: bytes, start: int, offsets: list[int]) -> bytes:
    """Puts the strips' places into a directory. Pillow's would count from its end, as its strips lie behind it."""
    count = struct.unpack_from("<H", directory)[0]
    entry = next(at for at in range(2, 2 + 12 * count, 12) if struct.unpack_from("<H", directory, at)[0] == _OFFSETS)
    place = entry + 8 if len(offsets) == 1 else struct.unpack_from("<I", directory, entry + 8)[0] - start
    values = struct.pack(f"<{len(offsets)}I", *offsets)
    return directory[:place] + values + directory[place + len(values) :]


def read_deep_tiff(file: IO[bytes]) -> NDArray[np.uint16]:
    """The first picture of a TIFF of 16 bits a sample, not turned by its orientation.

    Args:
        file: Open for reading.

    Returns:
        ``(H, W, C)``, C = 1 (grey), 3 (RGB) or 4 (RGBA); inks become RGB by the plain formula, associated alpha is
        divided out.

    Raises:
        UnreadableImageError: Broken, or samples that have no known meaning.
        MissingDependencyError: tifffile is missing.
    """
    try:
        import tifffile
    except ImportError as error:
        raise MissingDependencyError("tifffile", "to read TIFFs of 16 bits", "print") from error

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        kind, extra = int(page.photometric), [int(x) for x in page.extrasamples]
        if not extra and kind == _RGB and page.samplesperpixel == 4:
            extra = [_ALPHA]  # what OpenCV writes; Pillow reads it so at 8 bits
        try:
            samples = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error) or kind not in (_MIN_IS_BLACK, _RGB):
                raise
            samples = _through_opencv(file)  # compressions that tifffile leaves to another package, such as LZW
        else:
            if samples.ndim == 3 and int(page.planarconfig) == 2:
                samples = np.moveaxis(samples, 0, -1)
    samples = samples[:, :, None] if samples.ndim == 2 else samples
    if samples.dtype != np.uint16 or samples.ndim != 3:
        raise UnreadableImageError(f"TIFF samples of type {samples.dtype} have no known range")
    return _as_grey_or_rgb(samples.astype(np.uint16, copy=False), kind, extra)


def _through_opencv(file: IO[bytes]) -> NDArray[np.uint16]:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError("cv2", "to read TIFFs of 16 bits", "print") from error

    file.seek(0)
    samples: Any = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None:
        raise UnreadableImageError("broken or unknown TIFF")
    colours = [0] if samples.ndim == 2 else [2, 1, 0, 3][: samples.shape[2]]
    return np.atleast_3d(samples)[:, :, colours]


def _as_grey_or_rgb(samples: NDArray[np.uint16], kind: int, extra: list[int]) -> NDArray[np.uint16]:
    """From what the photometric interpretation says to grey, RGB or RGBA; further samples are left out."""
    expected = {_MIN_IS_WHITE: 1, _MIN_IS_BLACK: 1, _RGB: 3, _INKS: 4}.get(kind, 0)
    if not 0 < expected <= samples.shape[2]:
        raise UnreadableImageError(f"TIFF colours of kind {kind} with {samples.shape[2]} samples are not supported")
    colours: NDArray[np.uint16] = samples[:, :, :expected]
    if kind == _MIN_IS_WHITE:
        colours = 65535 - colours
    if kind == _INKS:
        paper = (65535 - colours).astype(np.float32)
        colours = np.rint(paper[:, :, :3] * (paper[:, :, 3:] / 65535)).astype(np.uint16)
    if not extra or extra[0] not in (_PREMULTIPLIED, _ALPHA) or samples.shape[2] <= expected:
        return np.ascontiguousarray(colours, dtype=np.uint16)
    alpha = samples[:, :, expected : expected + 1]
    if extra[0] == _PREMULTIPLIED:
        divided = colours.astype(np.float32) * (65535 / np.maximum(alpha, 1, dtype=np.float32))
        colours = np.rint(np.minimum(divided, 65535)).astype(np.uint16)
    rgb: NDArray[np.uint16] = np.broadcast_to(colours, (*colours.shape[:2], 3))
    return np.concatenate([rgb, alpha], axis=2)
