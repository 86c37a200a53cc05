import math

import numpy as np
import pytest
import torch
from PIL import Image

from imago.errors import UserError
from imago.metrics.resizing import resize, to_bytes

SIZES = [((16, 16), (16, 16)), ((32, 32), (75, 75)), ((40, 31), (17, 50)), ((64, 48), (7, 13)), ((1, 1), (5, 3))]


def pictures(count, height, width, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, height, width), dtype=np.uint8))


def tf1_bilinear(image, height, width):
    """One channel, in float64: new pixel i lies at i · (old / new); pixels beyond the border repeat the last."""
    result = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            y, x = i * image.shape[0] / height, j * image.shape[1] / width
            y0, x0 = math.floor(y), math.floor(x)
            y1, x1 = min(y0 + 1, image.shape[0] - 1), min(x0 + 1, image.shape[1] - 1)
            result[i, j] = (
                image[y0, x0] * (1 - (y - y0)) * (1 - (x - x0))
                + image[y0, x1] * (1 - (y - y0)) * (x - x0)
                + image[y1, x0] * (y - y0) * (1 - (x - x0))
                + image[y1, x1] * (y - y0) * (x - x0)
            )
    return result


def area_mean(image, height, width):
    """One channel, in float64: both grids refined to their common one, where every new pixel is a block."""
    fine = np.repeat(np.repeat(image.astype(np.float64), height, axis=0), width, axis=1)
    return fine.reshape(height, image.shape[0], width, image.shape[1]).mean(axis=(1, 3))


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_tf1_is_tensorflows_formula(before, after):
    images = pictures(2, *before)
    resized = resize(images, after, "tf1")
    assert resized.dtype == torch.float32
    expected = [[tf1_bilinear(channel.astype(np.float64), *after) for channel in image] for image in images.numpy()]
    np.testing.assert_allclose(resized, expected, atol=2e-3)  # positions are float32, as in TensorFlow


def test_tf1_looks_at_no_more_than_four_pixels():
    """Shrunk by 4 without a low-pass: every fourth pixel as it is."""
    images = pictures(1, 64, 64)
    assert torch.equal(resize(images, 16, "tf1"), images[:, :, ::4, ::4].float())


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_clean_is_pillows_bicubic_in_floating_point(before, after):
    image = pictures(1, *before)
    expected = [
        np.asarray(Image.fromarray(channel.numpy().astype(np.float32)).resize(after[::-1], Image.Resampling.BICUBIC))
        for channel in image[0]
    ]
    np.testing.assert_array_equal(resize(image, after, "clean")[0], expected)


def test_clean_differs_from_pillows_own_bytes_by_their_rounding_alone():
    image = pictures(1, 64, 64)
    rounded = Image.fromarray(image[0].permute(1, 2, 0).numpy()).resize((29, 29), Image.Resampling.BICUBIC)
    difference = to_bytes(resize(image, 29, "clean"))[0].permute(1, 2, 0).int() - torch.from_numpy(np.array(rounded))
    assert difference.abs().max() <= 1


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_box_is_the_mean_over_the_area(before, after):
    images = pictures(2, *before)
    expected = [[area_mean(channel, *after) for channel in image] for image in images.numpy()]
    np.testing.assert_allclose(resize(images, after, "box"), expected, rtol=1e-6)


@pytest.mark.parametrize("factor", [2, 3, 7])
def test_box_is_exact_for_whole_factors(factor):
    images = pictures(2, 6 * factor, 5 * factor)
    blocks = images.numpy().reshape(2, 3, 6, factor, 5, factor).sum(axis=(3, 5), dtype=np.float64) / factor**2
    np.testing.assert_array_equal(resize(images, (6, 5), "box"), blocks.astype(np.float32))
    larger = resize(images, (12 * factor, 10 * factor), "box")
    assert torch.equal(larger, images.float().repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


@pytest.mark.parametrize("how", ["tf1", "clean", "box"])
@pytest.mark.parametrize("size", [5, 16, 40])
def test_flat_pictures_stay_flat_and_equal_sizes_equal(how, size):
    flat = torch.full((1, 3, 16, 16), 77, dtype=torch.uint8)
    torch.testing.assert_close(resize(flat, size, how), torch.full((1, 3, size, size), 77.0))
    images = pictures(2, 16, 16)
    assert torch.equal(resize(images, 16, how), images.float())


@pytest.mark.parametrize("how", ["tf1", "clean", "box"])
def test_images_do_not_depend_on_their_batch_and_grey_is_repeated(how):
    images = pictures(5, 20, 24)
    assert torch.equal(resize(images, 9, how)[3:4], resize(images[3:4], 9, how))
    grey = resize(images[:, :1], 9, how)
    assert grey.shape == (5, 3, 9, 9)
    assert torch.equal(grey[:, 2], resize(images, 9, how)[:, 0])


def test_bytes_are_rounded_and_cut():
    assert to_bytes(torch.tensor([-3.0, 0.4, 0.6, 254.6, 280.0])).tolist() == [0, 0, 1, 255, 255]


def test_mistakes_are_told():
    with pytest.raises(UserError, match="resize='bilinear': must be one of tf1, clean, box"):
        resize(pictures(1, 4, 4), 8, "bilinear")
    with pytest.raises(UserError, match="0×8"):
        resize(pictures(1, 4, 4), (0, 8), "box")
    with pytest.raises(UserError, match="uint8"):
        resize(pictures(1, 4, 4).float(), 8, "box")
