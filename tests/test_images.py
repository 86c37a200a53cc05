import json

import numpy as np
import pytest
import torch
from PIL import Image

from imago.errors import UserError
from imago.images import grid_shape, image_grid, save_image, to_rgb, to_uint8, upscale_nearest


def picture(channels=3, height=5, width=7):
    values = np.random.default_rng(0).integers(0, 256, (channels, height, width), dtype=np.uint8)
    return torch.from_numpy(values)


def test_every_byte_survives_the_round_trip():
    values = torch.arange(256, dtype=torch.uint8)
    images = values / 127.5 - 1  # as reals are given to the discriminator
    assert (images[0], images[-1]) == (-1, 1)
    assert torch.equal(to_uint8(images), values)


def test_any_picture_becomes_rgb():
    grey, rgb, rgba = picture(1), picture(3), picture(4)
    assert torch.equal(to_rgb(grey), torch.cat([grey] * 3))
    assert torch.equal(to_rgb(rgb), rgb)
    a = rgba[3:].double() / 255
    assert torch.equal(to_rgb(rgba), (rgba[:3] * a + 255 * (1 - a)).round().to(torch.uint8))


def test_to_uint8_rounds_and_clips_as_the_official_code():
    x = np.random.default_rng(0).uniform(-1.5, 1.5, 10_000).astype(np.float32)
    expected = np.rint(x * np.float32(127.5) + np.float32(127.5)).clip(0, 255).astype(np.uint8)
    np.testing.assert_array_equal(to_uint8(torch.from_numpy(x)).numpy(), expected)


@pytest.mark.parametrize("ending", ["png", "PNG", "webp"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_lossless_formats_keep_every_value(tmp_path, ending, channels):
    image = picture(channels)
    path = save_image(tmp_path / f"new/folder/x.{ending}", image)
    with Image.open(path) as opened:
        decoded = np.asarray(opened.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
    expected = image.permute(1, 2, 0).numpy()
    if channels == 4 and ending == "webp":  # WebP drops the colour of what cannot be seen
        decoded, expected = decoded * (decoded[..., 3:] > 0), expected * (expected[..., 3:] > 0)
    np.testing.assert_array_equal(decoded.reshape(expected.shape), expected)


def test_jpeg_is_close(tmp_path):
    smooth = torch.linspace(0, 255, 64).to(torch.uint8).expand(3, 64, 64)
    with Image.open(save_image(tmp_path / "x.jpg", smooth)) as opened:
        assert opened.format == "JPEG"
        assert np.abs(np.asarray(opened).astype(int) - smooth.permute(1, 2, 0).numpy()).max() <= 3


def test_png_is_the_default(tmp_path):
    assert save_image(tmp_path / "x", picture()) == tmp_path / "x.png"
    assert Image.open(tmp_path / "x.png").format == "PNG"


def test_layouts(tmp_path):
    image = picture().numpy()
    expected = image.transpose(1, 2, 0)
    for same in (image, expected, torch.from_numpy(image)):
        np.testing.assert_array_equal(np.asarray(Image.open(save_image(tmp_path / "x.png", same))), expected)
    ambiguous = np.random.default_rng(0).integers(0, 256, (3, 9, 4), dtype=np.uint8)
    assert np.asarray(Image.open(save_image(tmp_path / "x.png", ambiguous))).shape == (3, 9, 4)
    assert np.asarray(Image.open(save_image(tmp_path / "x.png", torch.from_numpy(ambiguous)))).shape == (9, 4, 3)
    assert Image.open(save_image(tmp_path / "x.png", image[0])).mode == "L"


@pytest.mark.parametrize("bad", [torch.zeros(3, 4, 4), torch.zeros(2, 4, 5, dtype=torch.uint8), np.zeros(3, np.uint8)])
def test_what_is_no_picture_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match="a picture must be"):
        save_image(tmp_path / "x.png", bad)
    assert not list(tmp_path.iterdir())


def test_unknown_endings_and_transparent_jpegs_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"\.png, \.jpg, \.jpeg, \.webp"):
        save_image(tmp_path / "x.tga", picture())
    with pytest.raises(UserError, match="transparency"):
        save_image(tmp_path / "x.jpg", picture(4))


def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = save_image(tmp_path / "x.png", picture())
    before = path.read_bytes()

    def half(self, target, **options):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OSError, match="disk full"):
        save_image(path, picture(1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_metadata_can_be_read_back(tmp_path):
    metadata = {"seed": 7, "checkpoint": "runs/ä"}
    with Image.open(save_image(tmp_path / "x.png", picture(), metadata)) as opened:
        assert opened.text == {"seed": "7", "checkpoint": "runs/ä"}
    for ending in ("jpg", "webp"):
        with Image.open(save_image(tmp_path / f"x.{ending}", picture(), metadata)) as opened:
            assert json.loads(opened.getexif()[0x010E]) == {"seed": "7", "checkpoint": "runs/ä"}


@pytest.mark.parametrize(
    ("count", "columns", "shape"), [(6, 3, (2, 3)), (5, None, (2, 3)), (4, None, (2, 2)), (3, 5, (1, 5))]
)
@pytest.mark.parametrize("padding", [0, 2])
def test_grid_places_pictures_row_by_row(count, columns, shape, padding):
    images = torch.randint(1, 256, (count, 3, 4, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    grid = image_grid(images, columns, padding)
    rows, columns = shape
    expected = torch.zeros(3, rows * (4 + padding) - padding, columns * (6 + padding) - padding, dtype=torch.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (4 + padding), i % columns * (6 + padding)
        expected[:, top : top + 4, left : left + 6] = image
    assert torch.equal(grid, expected)


@pytest.mark.parametrize(("count", "columns", "padding"), [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_impossible_grids_are_refused(count, columns, padding):
    with pytest.raises(ValueError, match="a grid needs"):
        image_grid(torch.zeros(count, 3, 4, 4, dtype=torch.uint8), columns, padding)


def test_grid_shape_is_that_of_the_official_code():
    assert {r: grid_shape(r) for r in (4, 32, 64, 128, 256, 512, 1024)} == {
        r: (int(np.clip(1920 // r, 3, 32)), int(np.clip(1080 // r, 2, 32))) for r in (4, 32, 64, 128, 256, 512, 1024)
    }
    assert grid_shape(1024) == (3, 2)


def test_upscaling_repeats_pixels():
    image = picture()
    np.testing.assert_array_equal(upscale_nearest(image, 3), np.kron(image, np.ones((1, 3, 3), np.uint8)))
    assert torch.equal(upscale_nearest(image, 1), image)
    with pytest.raises(ValueError, match="at least 1"):
        upscale_nearest(image, 0)
