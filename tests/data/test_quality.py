"""The quality score: its parts against closed forms, and the order of drawn portraits and what was done to them."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import ndimage

from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.data.quality import COLUMNS, score_image
from imago.data.quality.spectrum import judge_spectrum, power_spectrum
from imago.data.quality.traces import blockiness, noise_level
from imago.errors import UserError
from imago.faces.landmarks import Face

Degradation = Callable[[np.ndarray], np.ndarray]


def natural(seed: int, side: int = 512, slope: float = 1.0) -> np.ndarray:
    """A picture with the amplitude spectrum 1 / f^slope of natural ones: uint8 ``(side, side, 3)``."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    plane = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(side, side))) / frequency**slope, (side, side))
    grey = np.clip(128 + 45 * plane / plane.std(), 0, 255)
    # Like a portrait: a quarter of it is smooth, so that noise can be told from detail.
    grey[: side // 2, : side // 2] = ndimage.gaussian_filter(grey[: side // 2, : side // 2], 12)
    return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=2)


def blurred(sigma: float) -> Degradation:
    return lambda image: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def noisy(sigma: float) -> Degradation:
    def degrade(image: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(9).normal(0, sigma, image.shape)
        return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)

    return degrade


def compressed(quality: int) -> Degradation:
    def degrade(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return degrade


def screened(pitch: float, degrees: float, strength: float) -> Degradation:
    def degrade(image: np.ndarray) -> np.ndarray:
        y, x = np.mgrid[: image.shape[0], : image.shape[1]]
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        threshold = 127.5 + 120 * np.cos(2 * np.pi * (x * c + y * s) / pitch)[..., None]
        return np.rint((1 - strength) * image + strength * 255 * (image > threshold)).astype(np.uint8)

    return degrade


DEGRADATIONS = {
    "blur 1.5": blurred(1.5),
    "blur 3": blurred(3),
    "noise 10": noisy(10),
    "noise 25": noisy(25),
    "JPEG 20": compressed(20),
    "JPEG 5": compressed(5),
    "screen 4": screened(4, 45, 1),
    "screen 10": screened(10, 0, 0.3),
}


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_what_was_done_to_a_picture_lowers_its_quality(name: str) -> None:
    originals = [natural(seed) for seed in range(3)]
    originals += [natural(seed, 128) for seed in range(3, 5)]
    originals += [draw_portrait(sample_attributes(4, index), 256)[0] for index in range(4)]
    lower = [score_image(DEGRADATIONS[name](image))["quality"] < score_image(image)["quality"] for image in originals]
    assert all(lower), f"{name}: {lower}"


def test_more_of_it_lowers_it_more() -> None:
    image = natural(0)
    for make, strengths in ((blurred, (1, 2, 4)), (noisy, (5, 10, 25)), (compressed, (40, 15, 5))):
        scores = [score_image(make(strength)(image))["quality"] for strength in strengths]
        assert scores == sorted(scores, reverse=True)


def test_white_noise_does_not_win() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    assert score_image(noise)["quality"] < score_image(natural(1, 256))["quality"] - 0.3


@pytest.mark.parametrize("side", [64, 128, 300, 512])
def test_the_spectrum_of_white_noise_is_its_variance(side: int) -> None:
    noise = np.random.default_rng(2).normal(100, 7, (side, side)).astype(np.float32)
    power = power_spectrum(noise)
    assert power[3:, 3:-1].mean() == pytest.approx(49, rel=0.15)


def test_a_natural_spectrum_is_flat_once_weighted_and_symmetric() -> None:
    spectrum = judge_spectrum(power_spectrum(natural(3)[..., 0].astype(np.float32)), 0.0)
    assert spectrum.breadth > 0.9
    assert spectrum.sharpness == 1.0
    assert spectrum.asymmetry < 0.7


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_sharpness_tells_how_far_a_picture_was_enlarged(factor: int) -> None:
    small = natural(4, 1024 // factor)
    large = np.asarray(Image.fromarray(small).resize((1024, 1024), Image.Resampling.LANCZOS))
    assert 0.9 / factor < score_image(large)["sharpness"] < 1.6 / factor


def test_stripes_in_one_direction_are_asymmetric() -> None:
    image = natural(5)
    striped = np.clip(image + 12 * np.cos(np.arange(512) * 2 * np.pi / 7)[None, :, None], 0, 255).astype(np.uint8)
    assert score_image(striped)["asymmetry"] > score_image(image)["asymmetry"] + 1


@pytest.mark.parametrize("sigma", [2.0, 6.0, 20.0])
@pytest.mark.parametrize("side", [128, 512])
def test_the_noise_level_is_its_standard_deviation(sigma: float, side: int) -> None:
    smooth = np.linspace(60, 190, side)[None] + np.linspace(-20, 20, side)[:, None]
    noise = np.random.default_rng(3).normal(0, sigma, (side, side))
    assert noise_level((smooth + noise).astype(np.float32)) == pytest.approx(sigma, rel=0.15)
    assert noise_level(smooth.astype(np.float32)) < 0.05


@pytest.mark.parametrize("background", [0, 255])
def test_noise_that_a_black_or_white_background_clips_is_not_underestimated(background: int) -> None:
    image = np.repeat(np.tile(np.linspace(60, 190, 512), (512, 1))[..., None], 3, axis=2).astype(np.uint8)
    image[:, :200] = background
    luma = noisy(10)(image)[..., 0].astype(np.float32)
    assert noise_level(luma) == pytest.approx(10, rel=0.15)


def test_blocks_are_found_wherever_their_grid_lies() -> None:
    image = natural(6, 512, slope=1.3)
    crushed = Image.fromarray(compressed(8)(image))
    moved = {
        "shifted": np.asarray(crushed)[3:, 5:],
        "turned": np.asarray(crushed.rotate(7, Image.Resampling.BICUBIC))[70:-70, 70:-70],
        "enlarged": np.asarray(crushed.resize((870, 870), Image.Resampling.BICUBIC)),
    }
    clean = blockiness(image[..., 0].astype(np.float32))
    assert clean < 0.02
    for name, picture in moved.items():
        assert blockiness(picture[..., 0].astype(np.float32)) > clean + 0.05, name


def test_every_column_is_there_and_exposure_is_measured() -> None:
    image = np.full((100, 80, 3), 200, np.uint8)
    image[:25] = 255
    image[25:50] = 0
    row = score_image(image, Face(10, 10, 49, 49, 1.25, np.zeros((68, 2))))
    assert tuple(row) == COLUMNS
    assert row["clipped"] == 0.5
    assert row["brightness"] == pytest.approx((255 + 0 + 2 * 200) / 4, abs=0.01)
    assert row["face_size"] == pytest.approx(40 / np.sqrt(8000))
    assert row["confidence"] == 1.25
    without = score_image(image)
    assert np.isnan(without["face_size"])
    assert np.isnan(without["confidence"])


@pytest.mark.parametrize("shape", [(64, 64, 3), (64, 200, 1), (333, 65, 4)])
def test_any_size_and_number_of_channels(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for picture in (image, np.full(shape, 128, np.uint8)):
        numbers = [value for key, value in score_image(picture).items() if key not in ("face_size", "confidence")]
        assert all(np.isfinite(value) for value in numbers if not isinstance(value, str))
        assert score_image(picture)["quality"] == score_image(picture.copy())["quality"]
    with pytest.raises(UserError, match="64x64"):
        score_image(image[:63])
