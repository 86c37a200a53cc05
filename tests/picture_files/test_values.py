import numpy as np
import pytest
import torch

from imago.picture_files import pixels_to_unit, unit_to_pixels


@pytest.mark.parametrize(("kind", "largest"), [(np.uint8, 255), (np.uint16, 65535)])
def test_values_in_float64(kind, largest):
    pixels = np.arange(largest + 1, dtype=kind).reshape(1, -1, 1)
    colours, alpha = pixels_to_unit(pixels)
    assert (colours.dtype, alpha) == (torch.float32, None)
    expected = np.arange(largest + 1) / (largest / 2) - 1
    for channel in colours.numpy():
        np.testing.assert_allclose(channel[0], expected, atol=2e-7)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_value_comes_back(bits, channels):
    values = np.arange(2**bits, dtype=f"uint{bits}")
    pixels = np.stack([np.roll(values, 7 * c) for c in range(channels)], axis=-1).reshape(-1, 16, channels)
    colours, alpha = pixels_to_unit(pixels)
    assert colours.shape == (3, *pixels.shape[:2])
    back = unit_to_pixels(colours, alpha, bits=bits, grey=channels == 1)
    assert back.dtype == pixels.dtype
    np.testing.assert_array_equal(back, pixels)


def test_alpha_is_a_share():
    _, alpha = pixels_to_unit(np.array([[[1, 2, 3, 51]]], np.uint8))
    assert alpha.shape == (1, 1, 1)
    assert alpha.item() == pytest.approx(0.2)


def test_out_of_range_is_cut_and_halves_go_to_the_nearest():
    colours = torch.tensor([-3.0, -1.0, 0.2, 1.0, 9.0]).expand(3, 1, 5)
    assert unit_to_pixels(colours)[0, :, 0].tolist() == [0, 0, 153, 255, 255]
    assert unit_to_pixels(colours, bits=16)[0, :, 0].tolist() == [0, 0, 39321, 65535, 65535]


def test_grey_is_the_luma():
    colours = torch.tensor([1.0, -1.0, -1.0])[:, None, None]
    assert unit_to_pixels(colours, grey=True).ravel().tolist() == [76]  # 0.299 · 255
    with_alpha = unit_to_pixels(colours, torch.full((1, 1, 1), 0.2), grey=True)
    assert with_alpha.ravel().tolist() == [76, 76, 76, 51]


def test_many_rows_go_into_a_memory_map(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65536, (2100, 1000, 3)).astype(np.uint16)
    colours, _ = pixels_to_unit(pixels)
    out = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint16, pixels.shape)
    assert unit_to_pixels(colours, bits=16, out=out) is out
    np.testing.assert_array_equal(out, pixels)
    with pytest.raises(ValueError, match="does not hold"):
        unit_to_pixels(colours, bits=8, out=out)
