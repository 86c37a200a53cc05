"""Files that are no pictures, or not whole: one line that says so."""

import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from imago.errors import MissingDependencyError, UserError
from imago.picture_files import read_picture, write_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def refused(path):
    with pytest.raises(UserError) as caught:
        read_picture(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("ending", "bits"), [(".png", 8), (".png", 16), (".tif", 8), (".tif", 16), (".jpg", 8), (".webp", 8)]
)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated(tmp_path, ending, bits, kept):
    path = write_picture(tmp_path / f"x{ending}", PIXELS, bits=bits)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refused(path)


def test_truncated_pixels_before_a_whole_directory(tmp_path):
    """TIFF: the directory stands first here, so that the file looks whole."""
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, PIXELS.astype(np.uint16), photometric="rgb")
    path.write_bytes(path.read_bytes()[:-5000])
    refused(path)


def test_a_flipped_bit_in_a_deep_png(tmp_path):
    path = write_picture(tmp_path / "x.png", PIXELS, bits=16)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused(path)


def test_foreign_files(tmp_path):
    for name, content in (
        ("empty.png", b""),
        ("text.jpg", b"<!doctype html>" * 50),
        ("noise.tif", b"II*\0" + b"x" * 99),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name)
    Image.fromarray(PIXELS).save(tmp_path / "x.gif")
    assert "not an image of a known format" in refused(tmp_path / "x.gif")
    assert "empty" in refused(tmp_path / "empty.png")


def test_places(tmp_path):
    (tmp_path / "face.png").touch()
    assert "did you mean" in refused(tmp_path / "fase.png")
    refused(tmp_path)


def test_a_bomb(tmp_path):
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0" * 50)
    assert "bomb" in refused(tmp_path / "x.png")


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint32])
def test_samples_of_unknown_range(tmp_path, kind):
    tifffile.imwrite(tmp_path / "x.tif", PIXELS[..., 0].astype(kind), photometric="minisblack")
    assert "8 or 16 bits" in refused(tmp_path / "x.tif")


def test_missing_packages_are_named(tmp_path, monkeypatch):
    deep = PIXELS.astype(np.uint16)
    cv2.imwrite(str(tmp_path / "x.png"), deep)
    cv2.imwrite(str(tmp_path / "x.tif"), deep)
    for name, package in (("x.png", "cv2"), ("x.tif", "tifffile")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingDependencyError, match=rf"{package}.*imago\[print\]"):
            read_picture(tmp_path / name)
    read_picture(write_picture(tmp_path / "grey.png", PIXELS[..., :1], bits=16))  # needs neither


def test_an_error_leaves_the_old_file(tmp_path):
    path = write_picture(tmp_path / "x.png", PIXELS)
    before = path.read_bytes()

    class Failing(np.ndarray):
        def __getitem__(self, key):
            if isinstance(key, slice):
                raise OSError("the disk is gone")
            return super().__getitem__(key)

    with pytest.raises(OSError, match="gone"):
        write_picture(path, PIXELS.view(Failing))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]
