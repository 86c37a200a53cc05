"""Profile, EXIF, resolution and orientation, by way of Pillow on the other side."""

import io
import json

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, ImageOps

from imago.picture_files import read_picture, write_picture
from imago.picture_files.carried import fitting_profile

WRITTEN = [(".png", 8), (".png", 16), (".tif", 8), (".tif", 16), (".jpg", 8), (".webp", 8)]
TAGS = ExifTags.Base


@pytest.fixture(scope="module")
def profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def camera_exif(orientation=1):
    exif = Image.Exif()
    exif[TAGS.Make], exif[TAGS.Artist], exif[TAGS.Copyright] = "Voigtländer".encode().decode("latin-1"), "Ada", "CC0"
    exif[TAGS.ImageDescription] = "on the beach"
    exif[TAGS.Orientation] = orientation
    exif[TAGS.XResolution] = exif[TAGS.YResolution] = 72.0
    exif[TAGS.ResolutionUnit] = 2
    exif[int(ExifTags.IFD.Exif)] = {
        int(TAGS.DateTimeOriginal): "2020:01:02 03:04:05",
        int(TAGS.FNumber): 1.4,
        int(TAGS.ExifImageWidth): 999,
        int(TAGS.MakerNote): b"maker's own",
    }
    exif[int(ExifTags.IFD.GPSInfo)] = {1: "N", 2: (48.0, 8.0, 1.5)}
    return exif


def picture(bits=8, height=24, width=36):
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 7, y * 10, (x + y) * 4], axis=-1).astype(np.uint8)
    return pixels if bits == 8 else pixels * np.uint16(257)


@pytest.mark.parametrize(("ending", "bits"), WRITTEN)
def test_everything_is_found_by_pillow(tmp_path, profile, ending, bits):
    path = write_picture(
        tmp_path / f"x{ending}", picture(bits), bits=bits, dpi=300, icc_profile=profile, exif=camera_exif(6).tobytes()
    )
    with Image.open(path) as image:
        image.load()
        assert image.info["icc_profile"] == profile
        exif = image.getexif()
        x_resolution, unit = float(exif.get(TAGS.XResolution, 0)), exif.get(TAGS.ResolutionUnit)
        if ending != ".webp":  # has no resolution but that of its EXIF
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.02)
        assert (x_resolution, unit) == (300, 2)
        assert exif.get(TAGS.Orientation, 1) == 1
        assert (exif[TAGS.Artist], exif[TAGS.Copyright], exif[TAGS.ImageDescription]) == ("Ada", "CC0", "on the beach")
        camera = exif.get_ifd(ExifTags.IFD.Exif)
        assert camera[TAGS.DateTimeOriginal] == "2020:01:02 03:04:05"
        assert float(camera[TAGS.FNumber]) == pytest.approx(1.4)
        assert camera[TAGS.MakerNote] == b"maker's own"
        assert (camera[TAGS.ExifImageWidth], camera[TAGS.ExifImageHeight]) == (36, 24)
        assert [float(x) for x in exif.get_ifd(ExifTags.IFD.GPSInfo)[2]] == [48, 8, 1.5]


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_everything_is_kept_from_what_pillow_wrote(tmp_path, profile, ending):
    Image.fromarray(picture()).save(
        tmp_path / f"x{ending}", exif=camera_exif().tobytes(), icc_profile=profile, dpi=(200, 200), lossless=True
    )
    read = read_picture(tmp_path / f"x{ending}")
    assert read.icc_profile == profile
    assert read.dpi == pytest.approx(72 if ending == ".webp" else 200, abs=0.02)
    exif = Image.Exif()
    exif.load(read.exif)
    assert (exif[TAGS.Artist], exif[TAGS.Orientation]) == ("Ada", 1)
    assert TAGS.XResolution not in exif
    camera = exif.get_ifd(ExifTags.IFD.Exif)
    assert camera[TAGS.DateTimeOriginal] == "2020:01:02 03:04:05"
    assert camera[TAGS.MakerNote] == b"maker's own"
    assert TAGS.ExifImageWidth not in camera
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"


@pytest.mark.parametrize(("ending", "bits"), WRITTEN)
def test_what_is_read_can_be_written_and_read_again(tmp_path, profile, ending, bits):
    Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=camera_exif(), icc_profile=profile, dpi=(200, 200))
    first = read_picture(tmp_path / "a.jpg")
    write_picture(
        tmp_path / f"b{ending}", first.pixels, bits=bits, dpi=first.dpi, icc_profile=first.icc_profile, exif=first.exif
    )
    second = read_picture(tmp_path / f"b{ending}")
    assert (second.bits, second.icc_profile, second.exif) == (bits, first.icc_profile, first.exif)
    assert second.dpi == pytest.approx(200, abs=0.02)


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("kind", ["jpg", "png", "png16", "tif", "tif16"])
def test_orientations(tmp_path, kind, orientation):
    stored = picture()
    path = tmp_path / f"x.{kind[:3]}"
    exif = Image.Exif()
    exif[TAGS.Orientation] = orientation
    plain = Image.fromarray(stored)
    plain.info["exif"] = exif.tobytes()
    expected = np.asarray(ImageOps.exif_transpose(plain))
    if kind == "tif16":
        deep = stored * np.uint16(257)
        tifffile.imwrite(path, deep, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    elif kind == "png16":
        write_picture(path, stored, bits=16, exif=exif.tobytes())
        content = path.read_bytes()  # what imago wrote says 1: put the other value in, and the checksum right
        start = content.index(b"eXIf")
        length = int.from_bytes(content[start - 4 : start])
        chunk = exif.tobytes().removeprefix(b"Exif\0\0")
        assert len(chunk) == length
        path.write_bytes(content[: start + 4] + chunk + crc(b"eXIf" + chunk) + content[start + 8 + length :])
    else:
        plain.save(path, exif=exif, quality=100, subsampling=0)
    read = read_picture(path)
    pixels = read.pixels.astype(int) // (257 if read.bits == 16 else 1)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).max() <= (3 if kind == "jpg" else 0)


def crc(content):
    import zlib

    return zlib.crc32(content).to_bytes(4)


def test_metadata(tmp_path):
    made = {"seed": 3, "checkpoint": "läufe/a"}
    with Image.open(write_picture(tmp_path / "x.png", picture(), metadata=made)) as image:
        assert image.text == {"seed": "3", "checkpoint": "läufe/a"}
        assert len(image.getexif()) == 0
    for ending in (".jpg", ".webp", ".tif"):
        path = write_picture(tmp_path / f"x{ending}", picture(), metadata=made, exif=camera_exif().tobytes())
        with Image.open(path) as image:
            told = json.loads(image.getexif()[TAGS.ImageDescription])
        assert told == {"description": "on the beach", "seed": "3", "checkpoint": "läufe/a"}


def test_profiles_fit_or_are_left_out(tmp_path, profile):
    grey = profile[:16] + b"GRAY" + profile[20:]
    assert [fitting_profile(profile, c) is not None for c in (1, 2, 3, 4)] == [False, False, True, True]
    assert [fitting_profile(grey, c) is not None for c in (1, 2, 3, 4)] == [True, True, False, False]
    assert fitting_profile(None, 3) is None
    assert fitting_profile(b"broken", 3) is None
    path = write_picture(tmp_path / "x.png", picture(), icc_profile=grey)
    assert read_picture(path).icc_profile is None


def test_a_profile_of_inks_is_not_kept(tmp_path, profile):
    Image.new("CMYK", (8, 8)).save(tmp_path / "x.jpg", icc_profile=profile[:16] + b"CMYK" + profile[20:])
    assert read_picture(tmp_path / "x.jpg").icc_profile is None


def test_broken_exif_is_no_reason_to_fail(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\xff\xff and nothing else")
    assert read_picture(tmp_path / "x.jpg").exif is None
    path = write_picture(tmp_path / "y.png", picture(), exif=b"nonsense")
    assert read_picture(path).pixels.shape == (24, 36, 3)


def test_resolution_in_centimetres_and_none(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", picture(), photometric="rgb", resolution=(100, 100), resolutionunit=3)
    assert read_picture(tmp_path / "x.tif").dpi == pytest.approx(254)
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "PNG")
    (tmp_path / "x.png").write_bytes(stream.getvalue())
    assert read_picture(tmp_path / "x.png").dpi is None
