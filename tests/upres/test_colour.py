"""The colour correction against SciPy in float64 and against closed forms, in rows and at once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from imago.errors import UserError
from imago.upres import Stage, TilingOptions, upres_stack
from imago.upres.colour import ColourCorrection, correct_colours
from imago.upres.pixels import Stack
from tile_networks import nearest, patterned


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def enlarged(picture: np.ndarray, factor: int) -> np.ndarray:
    return picture.repeat(factor, axis=1).repeat(factor, axis=2)


def interpolated(rows: np.ndarray, factor: int, axis: int) -> np.ndarray:
    """Linear between the centres of low pixels, constant beyond the outermost."""
    count = rows.shape[axis]
    places = (np.arange(factor * count) + 0.5) / factor - 0.5
    return np.apply_along_axis(lambda line: np.interp(places, np.arange(count), line), axis, rows)


def reference(picture: np.ndarray, low: np.ndarray, sigma: float, strength: float) -> np.ndarray:
    factor = picture.shape[1] // low.shape[1]
    means = picture.reshape(3, low.shape[1], factor, low.shape[2], factor).mean(axis=(2, 4))
    radius = int(np.ceil(3 * sigma))
    blurred = ndimage.gaussian_filter(low - means, (0, sigma, sigma), mode="nearest", radius=(0, radius, radius))
    return picture + strength * interpolated(interpolated(blurred, factor, 1), factor, 2)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.sampled_from([1, 2, 3, 8]),
    st.floats(0.3, 5),
    st.floats(0, 1),
    st.data(),
)
def test_in_pieces_of_any_height_it_is_what_scipy_makes_of_the_whole(
    height: int, width: int, factor: int, sigma: float, strength: float, data: st.DataObject
) -> None:
    low, picture = random(3, height, width), random(3, factor * height, factor * width, seed=1)
    result, ends = np.full(picture.shape, np.nan), [0]

    def emit(first: int, rows: torch.Tensor) -> None:
        assert first == ends[-1]
        ends.append(first + rows.shape[1])
        result[:, first : ends[-1]] = rows.numpy()

    correct = ColourCorrection(Stack(low), factor, sigma, strength, emit)
    start = 0
    while start < height:
        number = data.draw(st.integers(1, height - start))
        piece = picture[:, factor * start : factor * (start + number)]
        correct(factor * start, torch.from_numpy(piece).float())
        start += number
        # What is held back: the reach of the blur and of the enlargement, and no more.
        assert start - ends[-1] // factor <= int(np.ceil(3 * sigma)) + 1
    assert ends[-1] == factor * height
    np.testing.assert_allclose(result, reference(picture, low, sigma, strength), rtol=0, atol=1e-5)


def test_a_picture_that_agrees_with_its_input_is_not_touched() -> None:
    low = np.random.default_rng(0).integers(-64, 65, (3, 20, 30)) / 64.0
    detail = np.where(np.indices((40, 60)).sum(axis=0) % 2, 0.125, -0.125)  # of mean zero in every box
    picture = torch.from_numpy(enlarged(low, 2) + detail).float()
    assert torch.equal(correct_colours(picture, torch.from_numpy(low).float()), picture)


def test_a_wrong_tint_is_taken_out_and_detail_stays() -> None:
    low, detail = random(3, 20, 30), np.where(np.indices((160, 240)).sum(axis=0) % 2, 0.1, -0.1)
    right = enlarged(low, 8) + detail
    tint = np.array([0.2, -0.1, 0.05])[:, None, None]
    result = correct_colours(torch.from_numpy(right + tint), torch.from_numpy(low))
    np.testing.assert_allclose(result.numpy(), right, atol=1e-6)


@pytest.mark.parametrize("period", [64, 16])
def test_a_wave_of_wrong_colour_is_taken_out_as_far_as_it_is_low(period: float) -> None:
    """A Gaussian of σ passes exp(-σ²k²/2) of a wave of wavenumber k; the rest of the error stays."""
    sigma, factor, wavenumber = 4.0, 8, 2 * np.pi / period
    low = random(3, 8, 160)
    wave = 0.3 * np.cos(wavenumber * np.arange(160))
    picture = enlarged(low + wave, factor)
    result = correct_colours(torch.from_numpy(picture), torch.from_numpy(low), sigma).numpy()
    passed = np.exp(-((sigma * wavenumber) ** 2) / 2)
    places = (np.arange(160 * factor) + 0.5) / factor - 0.5
    expected = enlarged(low + wave, factor) - passed * 0.3 * np.cos(wavenumber * places)
    inside = np.s_[:, :, 16 * factor : -16 * factor]
    # The truncation of the Gaussian and the straight lines between low pixels are what is left.
    np.testing.assert_allclose(result[inside], expected[inside], atol=3e-3)


def test_it_is_rounded_once_into_a_memory_map(tmp_path: Path) -> None:
    low = random(3, 40, 52).astype(np.float32)
    stage = Stage(patterned(4, 8), factor=4, tile=8, guide_channels=0)
    plain = upres_stack(stage, low, TilingOptions(colour=0.0)).picture.numpy()
    out = np.lib.format.open_memmap(tmp_path / "out.npy", mode="w+", dtype=np.uint8, shape=(3, 160, 208))
    upres_stack(stage, low, TilingOptions(colour_blur=2.0, batch=3), out)
    exact = (np.clip(reference(plain.astype(np.float64), low, 2.0, 1.0), -1, 1) + 1) * 127.5
    assert np.abs(out - exact).max() <= 0.5 + 1e-3
    assert np.abs(out - (plain + 1) * 127.5).max() > 10


def test_with_the_identity_nothing_changes() -> None:
    low = torch.from_numpy(random(3, 40, 52)).float()
    result = upres_stack(Stage(nearest(8), guide_channels=0), low, TilingOptions(colour=1.0)).picture
    torch.testing.assert_close(result, nearest(8)(low[None])[0], rtol=0, atol=1e-6)


def test_pictures_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(UserError, match="was not made from"):
        correct_colours(torch.zeros(3, 16, 20), torch.zeros(3, 8, 8))
    with pytest.raises(UserError, match="must be positive"):
        correct_colours(torch.zeros(3, 16, 16), torch.zeros(3, 8, 8), sigma=0)
