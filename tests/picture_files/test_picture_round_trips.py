"""Every format, depth and number of channels, read by a library that did not write it."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from imago.errors import UserError
from imago.picture_files import read_picture, write_picture

EXACT = [(e, b, c) for e in (".png", ".tif") for b in (8, 16) for c in (1, 3, 4)] + [(".webp", 8, c) for c in (3, 4)]
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def noise(bits, channels, height=37, width=53, seed=0):
    """Any value, so also full transparency and both ends of the range."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 2**bits, (height, width, channels)).astype(f"uint{bits}")
    pixels[0, 0], pixels[0, 1] = 0, 2**bits - 1
    return pixels


def smooth(channels, height=48, width=64):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 3, y * 4, x + y, 255 - x][:channels], axis=-1).astype(np.uint8)


def through_opencv(path):
    """Pixels in the order of imago, as OpenCV reads them."""
    pixels = np.atleast_3d(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    return pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]] if pixels.shape[2] > 1 else pixels


def through_pillow(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize(("ending", "bits", "channels"), EXACT)
def test_what_is_written_is_what_opencv_reads(tmp_path, ending, bits, channels):
    pixels = noise(bits, channels)
    if ending == ".webp":
        pixels[..., 3:] |= 1  # without loss, but for the colour of what is fully transparent
    if (ending, bits) == (".tif", 8):
        pixels[..., 3:] = 255  # OpenCV multiplies these by alpha
    path = write_picture(tmp_path / f"x{ending}", pixels, bits=bits)
    read = through_opencv(path)
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize(("bits", "channels"), [(8, 1), (8, 3), (8, 4), (16, 1)])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_what_is_written_is_what_pillow_reads(tmp_path, ending, bits, channels):
    pixels = noise(bits, channels)
    read = through_pillow(write_picture(tmp_path / f"x{ending}", pixels, bits=bits))
    np.testing.assert_array_equal(np.atleast_3d(read), pixels)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_is_written_is_what_tifffile_reads(tmp_path, bits, channels):
    pixels = noise(bits, channels, 1100, 1000)
    path = write_picture(tmp_path / "x.tiff", pixels, bits=bits, dpi=300)
    np.testing.assert_array_equal(np.atleast_3d(tifffile.imread(path)), pixels)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages.first.dataoffsets) > 1
        assert [int(x) for x in tiff.pages.first.extrasamples] == [2] * (channels == 4)  # straight alpha


@pytest.mark.parametrize(("ending", "bits", "channels"), EXACT)
def test_what_is_written_comes_back(tmp_path, ending, bits, channels):
    pixels = noise(bits, channels)
    pixels[..., 3:] |= 1
    picture = read_picture(write_picture(tmp_path / f"x{ending}", pixels, bits=bits))
    assert (picture.bits, picture.pixels.dtype) == (bits, pixels.dtype)
    np.testing.assert_array_equal(picture.pixels, pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_near(tmp_path, channels):
    path = write_picture(tmp_path / "x.jpg", smooth(channels))
    for read in (through_pillow(path), through_opencv(path), read_picture(path).pixels):
        assert np.abs(np.atleast_3d(read).astype(int) - smooth(channels)).max() <= 6


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits_that_opencv_wrote(tmp_path, ending, channels):
    pixels = noise(16, channels)
    bgr = pixels[:, :, [2, 1, 0, 3][:channels]] if channels > 1 else pixels
    for compression in (1, 5, 8, 32946) if ending == ".tif" else (None,):  # none, LZW, deflate, old deflate
        options = [] if compression is None else [cv2.IMWRITE_TIFF_COMPRESSION, compression]
        assert cv2.imwrite(str(tmp_path / f"x{ending}"), bgr, options)
        picture = read_picture(tmp_path / f"x{ending}")
        assert picture.bits == 16
        np.testing.assert_array_equal(picture.pixels, pixels, err_msg=f"compression {compression}")


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_sixteen_bits_that_tifffile_wrote(tmp_path, planar, byteorder):
    pixels = noise(16, 3)
    data = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(tmp_path / "x.tif", data, photometric="rgb", planarconfig=planar, byteorder=byteorder)
    np.testing.assert_array_equal(read_picture(tmp_path / "x.tif").pixels, pixels)


def test_white_is_zero(tmp_path):
    grey = noise(16, 1)[..., 0]
    tifffile.imwrite(tmp_path / "x.tif", grey, photometric="miniswhite")
    np.testing.assert_array_equal(read_picture(tmp_path / "x.tif").pixels[..., 0], 65535 - grey)


def test_colours_multiplied_by_alpha_are_divided(tmp_path):
    alpha = np.full((8, 8, 1), 32768, np.uint16)
    colours = np.full((8, 8, 3), 1, np.uint16) * np.array([0, 16384, 32768], np.uint16)
    data = np.concatenate([colours, alpha], axis=2)
    tifffile.imwrite(tmp_path / "x.tif", data, photometric="rgb", extrasamples=["assocalpha"])
    assert read_picture(tmp_path / "x.tif").pixels[0, 0].tolist() == [0, 32768, 65535, 32768]


def test_inks_of_sixteen_bits(tmp_path):
    ink = np.zeros((8, 8, 4), np.uint16)
    ink[..., 0], ink[..., 3] = 65535, 13107  # cyan, and a fifth of black
    tifffile.imwrite(tmp_path / "x.tif", ink, photometric="separated")
    assert read_picture(tmp_path / "x.tif").pixels[0, 0].tolist() == [0, 52428, 52428]


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("LA", 4), ("P", 3), ("RGB", 3), ("RGBA", 4)])
def test_modes_of_png(tmp_path, mode, channels):
    image = Image.fromarray(smooth(3)).convert(mode)
    image.save(tmp_path / "x.png")
    picture = read_picture(tmp_path / "x.png")
    assert (picture.bits, picture.pixels.shape[2]) == (8, channels)
    np.testing.assert_array_equal(np.squeeze(picture.pixels), np.asarray(image.convert(MODES[channels])))


def test_a_palette_with_transparency(tmp_path):
    image = Image.fromarray(smooth(3)).quantize(16)
    image.save(tmp_path / "x.png", transparency=3)
    pixels = read_picture(tmp_path / "x.png").pixels
    np.testing.assert_array_equal(pixels[..., 3] == 0, np.asarray(image) == 3)


def test_a_transparent_grey_of_sixteen_bits(tmp_path):
    grey = (np.arange(256, dtype=np.uint16) * 100).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "x.png", transparency=500)
    pixels = read_picture(tmp_path / "x.png").pixels
    assert pixels.shape == (16, 16, 4)
    np.testing.assert_array_equal(pixels[..., 3], np.where(grey == 500, 0, 65535))


def test_inks_become_rgb(tmp_path):
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red
    cmyk.save(tmp_path / "x.jpg", quality=100)
    cmyk.save(tmp_path / "x.tif")
    for name in ("x.jpg", "x.tif"):
        red, green, blue = read_picture(tmp_path / name).pixels[8, 8].astype(int)
        assert red > 200
        assert max(green, blue) < 80


def test_lab_becomes_rgb(tmp_path):
    Image.new("LAB", (8, 8), (137, 208, 195)).save(tmp_path / "x.tif")  # L* 53.7, a* 80, b* 67: red
    red, green, blue = read_picture(tmp_path / "x.tif").pixels[4, 4].astype(int)
    assert red > 240
    assert max(green, blue) < 40


def test_depths_are_converted(tmp_path):
    bytes_, deep = noise(8, 3), noise(16, 3)
    for ending in (".png", ".tif"):
        write_picture(tmp_path / f"up{ending}", bytes_, bits=16)
        np.testing.assert_array_equal(through_opencv(tmp_path / f"up{ending}"), bytes_ * np.uint16(257))
        write_picture(tmp_path / f"down{ending}", deep, bits=8)
        np.testing.assert_array_equal(through_pillow(tmp_path / f"down{ending}"), np.rint(deep / 257.0))


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_transposed_memory_map_of_many_blocks(tmp_path, ending):
    planes = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint16, (3, 1500, 1201))
    planes[:] = np.random.default_rng(0).integers(0, 65536, planes.shape)
    write_picture(tmp_path / f"x{ending}", planes.transpose(1, 2, 0), bits=16)
    np.testing.assert_array_equal(through_opencv(tmp_path / f"x{ending}"), np.moveaxis(planes, 0, -1))


def test_photos_are_filtered_well(tmp_path):
    rng = np.random.default_rng(0)
    blurred = cv2.GaussianBlur(rng.normal(128, 300, (256, 256, 3)), (0, 0), 4)
    image = np.clip(blurred + rng.normal(0, 2, blurred.shape), 0, 255).astype(np.uint8)
    write_picture(tmp_path / "x.png", image)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    assert (tmp_path / "x.png").stat().st_size < 1.1 * len(stream.getvalue())


def test_what_a_format_does_not_hold(tmp_path):
    grey = np.zeros((4, 4, 1), np.uint8)
    for name, pixels, bits in (
        ("x.jpg", grey, 16),
        ("x.webp", grey, 16),
        ("x.jpg", np.zeros((4, 4, 4), np.uint8), 8),
        ("x.webp", np.zeros((1, 16384, 1), np.uint8), 8),
        ("x.gif", grey, 8),
        ("x", grey, 8),
        ("x.png", grey, 12),
    ):
        with pytest.raises(UserError, match=r"x|bits"):
            write_picture(tmp_path / name, pixels, bits=bits)
    for wrong in (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="a picture must be"):
            write_picture(tmp_path / "x.png", wrong)
    assert not list(tmp_path.iterdir())
