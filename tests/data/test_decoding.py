"""Decoding against Pillow's own tools, ramps and formulas."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from imago.data.sources.decoding import decode
from imago.data.sources.source import UnreadableImageError

NOISE = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_come_back_exactly(kind: str):
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(NOISE), kind, **options)), NOISE)


def test_jpeg_is_what_pillow_reads():
    content = encoded(Image.fromarray(NOISE), "JPEG", quality=90)
    np.testing.assert_array_equal(decode(content), np.asarray(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(NOISE), kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert upright.size == ((17, 13) if orientation < 5 else (13, 17))
    np.testing.assert_array_equal(decode(content), np.asarray(upright.convert("RGB")))


def test_16_bit_grey_is_scaled_not_clipped():
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(ramp / 65535 * 255).astype(np.uint8)
    for kind in ("PNG", "TIFF"):
        content = encoded(Image.fromarray(ramp), kind)
        np.testing.assert_array_equal(decode(content, channels=1)[:, :, 0], expected)
        np.testing.assert_array_equal(decode(content, channels=3), np.stack([expected] * 3, axis=2))


def test_cmyk():
    cmyk = np.random.default_rng(1).integers(0, 256, (8, 9, 4), dtype=np.uint8)
    pixels = decode(encoded(Image.fromarray(cmyk, "CMYK"), "TIFF")).astype(int)
    ink, black = cmyk[:, :, :3].astype(float), cmyk[:, :, 3:].astype(float)
    expected = (255 - ink) * (255 - black) / 255
    assert np.abs(pixels - expected).max() <= 1


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (10, 200, 77)])
def test_alpha_over_a_colour(background: tuple[int, int, int]):
    rgba = np.random.default_rng(2).integers(0, 256, (32, 31, 4), dtype=np.uint8)
    rgba[:8, :, 3], rgba[8:16, :, 3] = 0, 255
    alpha = rgba[:, :, 3:] / 255
    expected = np.rint(alpha * rgba[:, :, :3] + (1 - alpha) * np.array(background))
    pixels = decode(encoded(Image.fromarray(rgba)), background=background)
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(rgba)), channels=4), rgba)


def test_other_transparencies():
    grey_alpha = np.dstack([np.full((8, 8), 100), np.full((8, 8), 51)]).astype(np.uint8)
    expected = round(0.2 * 100 + 0.8 * 255)
    assert (decode(encoded(Image.fromarray(grey_alpha, "LA")), channels=1) == expected).all()

    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([1, 2, 3, 40, 50, 60])
    assert (decode(encoded(palette)) == (40, 50, 60)).all()
    assert (decode(encoded(palette, transparency=1), background=(7, 8, 9)) == (7, 8, 9)).all()

    keyed = encoded(Image.fromarray(np.full((8, 8, 3), 5, np.uint8)), transparency=(5, 5, 5))
    assert (decode(keyed, background=(7, 8, 9)) == (7, 8, 9)).all()


def test_grey_and_colour_by_channels():
    grey = encoded(Image.fromarray(NOISE[:, :, 0]))
    np.testing.assert_array_equal(decode(grey), np.repeat(NOISE[:, :, :1], 3, axis=2))
    luma = decode(encoded(Image.fromarray(NOISE)), channels=1)
    assert luma.shape == (13, 17, 1)
    assert np.abs(luma[:, :, 0] - NOISE @ [0.299, 0.587, 0.114]).max() <= 1
    opaque = decode(grey, channels=4)
    assert opaque.shape == (13, 17, 4)
    assert (opaque[:, :, 3] == 255).all()
    one_bit = encoded(Image.fromarray(NOISE[:, :, 0]).convert("1"))
    assert set(np.unique(decode(one_bit))) == {0, 255}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_refused_whatever_pillow_was_told(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    content = encoded(Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    with pytest.raises(UnreadableImageError):
        decode(content[: len(content) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_reasons_are_short():
    def reason(content: bytes, **options: int) -> str:
        with pytest.raises(UnreadableImageError) as caught:
            decode(content, **options)
        return caught.value.reason

    assert reason(b"") == "empty file"
    assert reason(b"these are no pixels\n") == "not an image of a known format"
    assert reason(encoded(Image.new("RGB", (1, 1))), minimum_side=8) == "1x1 is smaller than 8x8"
    assert "32 bits" in reason(encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"))
    # A small PNG whose header claims 30,000 × 30,000 pixels.
    small = encoded(Image.fromarray(NOISE))
    header = b"IHDR" + struct.pack(">II", 30_000, 30_000) + small[24:29]
    bomb = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    assert reason(bomb) == "decompression bomb: too many pixels"
    assert "truncated" in reason(encoded(Image.fromarray(NOISE), "JPEG")[:-40])
