import numpy as np
import pytest
import reference_metrics as reference
import torch

from imago.errors import UserError
from imago.metrics.laplacian import enlarge, laplacian_pyramid, level_sizes, reduce


def test_the_levels_are_those_of_the_official_code():
    """Numbers that the authors' code gives for these inputs (float32)."""
    images = reference.blocky_images(32, 64, 1)
    assert images.sum() == 50595337
    levels = [level.numpy() for level in laplacian_pyramid(torch.from_numpy(images))]
    assert [level.shape for level in levels] == [(32, 3, 64, 64), (32, 3, 32, 32), (32, 3, 16, 16)]
    means = [-0.0030015348456799984, 0.0005035890402117124, 128.42534473600486]
    stds = [29.16700150200548, 27.11728736226199, 52.98206364549596]
    first = [
        [12.455810546875, 14.15380859375, 6.580078125, -10.93310546875],
        [4.31793212890625, -3.096240997314453, -26.394214630126953, -52.25645446777344],
        [35.4234619140625, 48.0595703125, 154.98165893554688, 225.02130126953125],
    ]
    last = [
        [5.38330078125, -12.734375, -6.564453125, -4.5078125],
        [5.4545440673828125, 10.206497192382812, 2.4367294311523438, -1.3732452392578125],
        [68.66056823730469, 39.762542724609375, 71.02626037597656, 97.88105773925781],
    ]
    for level, expected in zip(levels, zip(means, stds, first, last, strict=True), strict=True):
        np.testing.assert_array_equal(level.ravel()[:4], expected[2])
        np.testing.assert_array_equal(level.ravel()[-4:], expected[3])
        np.testing.assert_allclose(level.mean(dtype=np.float64), expected[0], rtol=0, atol=1e-7)
        np.testing.assert_allclose(level.std(dtype=np.float64), expected[1], rtol=1e-9)


@pytest.mark.parametrize("size", [(256, 160), (64, 64), (48, 80), (33, 50), (35, 16), (17, 31)])
def test_the_levels_are_those_of_scipy_in_float64(size):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, *size)).astype(np.float64)
    levels = laplacian_pyramid(torch.from_numpy(images), smallest=7)
    assert len(levels) > 1
    for level, expected in zip(levels, reference.laplacian_pyramid(images, len(levels)), strict=True):
        np.testing.assert_allclose(level, expected, atol=1e-10)
    single = laplacian_pyramid(torch.from_numpy(images.astype(np.uint8)), smallest=7)
    for level, precise in zip(single, levels, strict=True):
        torch.testing.assert_close(level, precise.float(), rtol=0, atol=1e-4)


def test_the_images_come_back():
    images = torch.from_numpy(reference.blocky_images(4, 64, 1))
    *levels, result = laplacian_pyramid(images)
    for level in reversed(levels):
        result = level + enlarge(result, *level.shape[-2:])
    np.testing.assert_array_equal(result, images)


def test_constant_images_stay_constant():
    level = torch.full((1, 1, 20, 12), 200.0)
    assert torch.equal(reduce(level), torch.full((1, 1, 10, 6), 200.0))
    assert torch.equal(enlarge(level, 40, 23), torch.full((1, 1, 40, 23), 200.0))
    assert torch.equal(reduce(torch.full((300, 200), 7.0)), torch.full((150, 100), 7.0))


@pytest.mark.parametrize(
    ("size", "smallest", "expected"),
    [
        ((128, 128), 16, [(128, 128), (64, 64), (32, 32), (16, 16)]),
        ((64, 128), 16, [(64, 128), (32, 64), (16, 32)]),
        ((40, 33), 16, [(40, 33), (20, 17)]),
        ((16, 16), 16, [(16, 16)]),
        ((7, 7), 7, [(7, 7)]),
    ],
)
def test_sizes_halve_down_to_the_smallest(size, smallest, expected):
    assert level_sizes(*size, smallest) == expected


def test_small_images_are_refused():
    with pytest.raises(UserError, match="images of 8×32 are too small: their pyramid ends"):
        laplacian_pyramid(torch.zeros(1, 3, 8, 32))
