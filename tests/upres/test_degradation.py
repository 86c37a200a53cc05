"""What degradation does to a picture: each part measured by itself, JPEG beside Pillow's, all of it a function of the
position alone."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.errors import UserError
from imago.upres.degradation import Degradation, degrade

NOTHING = {"blur": 0.0, "shrink_share": 0.0, "noise": 0.0, "blotches": 0.0, "checkerboard": 0.0, "jpeg_share": 0.0}


def only(**options: float) -> Degradation:
    """One kind of degradation alone."""
    return Degradation(**{**NOTHING, **options})


def grey(count: int, extent: tuple[int, int] = (32, 32)) -> torch.Tensor:
    return torch.zeros(count, 3, *extent)


def portraits(count: int, size: int = 64) -> torch.Tensor:
    drawn = [draw_portrait(sample_attributes(4, index), size)[0] for index in range(count)]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 127.5 - 1


# --- a function of seed and position ----------------------------------------------------------------------------------

ALL_OF_IT = [Degradation(), Degradation(strength=3.0, shrink_share=1.0, jpeg_share=1.0, jpeg_quality=20)]


@pytest.mark.parametrize("degradation", ALL_OF_IT)
@pytest.mark.parametrize("extent", [(64, 64), (50, 37)])
def test_what_happens_to_a_picture_depends_on_its_position_alone(degradation, extent) -> None:
    """To the last bit: a run on two processes is the run on one."""
    pictures = torch.rand(16, 3, *extent) * 2 - 1
    whole = degrade(pictures, degradation, 5, 100)
    assert whole.shape == pictures.shape
    assert whole.abs().max() <= 1
    assert torch.equal(whole, degrade(pictures, degradation, 5, 100))
    for size in (1, 3, 8):
        parts = [degrade(part, degradation, 5, 100 + i * size) for i, part in enumerate(pictures.split(size))]
        assert torch.equal(torch.cat(parts), whole)
    assert not any(torch.equal(a, b) for a, b in zip(whole, degrade(pictures, degradation, 6, 100), strict=True))
    same = degrade(pictures[:1].expand(16, -1, -1, -1), degradation, 5, 100)
    assert len({picture.numpy().tobytes() for picture in same}) == 16


@pytest.mark.parametrize("degradation", [Degradation(strength=0), only()])
def test_nothing_is_done_where_nothing_is_asked_for(degradation: Degradation) -> None:
    pictures = torch.rand(8, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(degrade(pictures, degradation, 0, 0), pictures, rtol=0, atol=0)


def test_strength_is_a_factor_of_all() -> None:
    changes = []
    for strength in (0.25, 0.5, 1.0):
        pictures = portraits(4).repeat(8, 1, 1, 1)
        changes.append((degrade(pictures, Degradation(strength=strength), 0, 0) - pictures).abs().mean().item())
    assert changes[0] < 0.6 * changes[1] < 0.36 * changes[2]


# --- each by itself ---------------------------------------------------------------------------------------------------


def test_blur_is_gaussian_of_any_width_up_to_the_largest() -> None:
    impulses = -torch.ones(200, 3, 21, 21)
    impulses[:, :, 10, 10] = 1
    blurred = degrade(impulses, only(blur=1.5), 2, 0).double() / 2 + 0.5
    ratio = blurred[:, 0, 10, 11] / blurred[:, 0, 10, 10]  # exp(-1 / (2 σ²))
    sigma = (-0.5 / ratio.clamp(min=1e-12).log()).sqrt().numpy()
    assert sigma.max() <= 1.5 + 1e-3
    wide = sigma > 0.4
    assert wide.mean() == pytest.approx(1 - 0.4 / 1.5, abs=0.1)  # evenly between none and that
    assert np.median(sigma[wide]) == pytest.approx((0.4 + 1.5) / 2, abs=0.15)
    picture = portraits(1)
    several = degrade(picture.expand(20, -1, -1, -1), only(blur=1.5), 2, 0)  # the same draws
    for found, side in zip(several.double().numpy(), sigma[:20], strict=True):
        if side > 0.4:
            expected = gaussian_filter(picture[0].double().numpy(), (0, side, side), mode="mirror", radius=(0, 5, 5))
            np.testing.assert_allclose(found, expected, atol=1e-3)


def test_blur_wider_than_the_picture_is_no_error() -> None:
    assert degrade(torch.rand(2, 3, 4, 6), only(blur=9), 0, 0).isfinite().all()


def test_lost_detail_lost_its_high_frequencies_and_kept_its_means() -> None:
    pictures = torch.randn(300, 3, 32, 32).clamp(-1, 1) * 0.5
    result = degrade(pictures, only(shrink_share=0.4, shrink=0.25), 0, 0)
    changed = (result != pictures).flatten(1).any(dim=1)
    assert changed.float().mean().item() == pytest.approx(0.4, abs=0.1)

    def high(images: torch.Tensor) -> torch.Tensor:
        """Energy at frequencies near those of single pixels."""
        return torch.fft.fft2(images).abs().square()[..., 12:21, 12:21].mean(dim=(1, 2, 3))

    ratio = (high(result) / high(pictures))[changed]
    assert ratio.max() < 1
    assert ratio.min() < 1e-3  # shrunk to a quarter
    assert ratio.max() > 0.05  # hardly shrunk
    torch.testing.assert_close(result.mean((2, 3)), pictures.mean((2, 3)), rtol=0, atol=0.03)


def spread(images: torch.Tensor) -> torch.Tensor:
    return images.std(dim=(1, 2, 3))


def neighbours(images: torch.Tensor) -> float:
    """Correlation of a pixel with the one beside it."""
    x = images - images.mean(dim=(2, 3), keepdim=True)
    return ((x[..., 1:] * x[..., :-1]).mean() / x.square().mean()).item()


def test_noise_is_white_and_as_strong_as_said() -> None:
    """Values reach from -1 to 1: a share of 0.05 of that range is 0.1."""
    result = degrade(grey(200), only(noise=0.05), 1, 0)
    assert spread(result).max() < 0.1 * 1.05
    assert spread(result).mean().item() == pytest.approx(0.05, rel=0.15)  # evenly between none and that
    assert neighbours(result) == pytest.approx(0, abs=0.02)
    assert abs(result.mean().item()) < 1e-3


def test_blotches_are_smooth_over_eight_pixels() -> None:
    result = degrade(grey(200, (64, 64)), only(blotches=0.05), 1, 0)
    assert spread(result).max() < 0.1 * 1.3
    assert spread(result).mean().item() == pytest.approx(0.04, rel=0.3)  # interpolation evens them out a little
    assert neighbours(result) > 0.95


def test_checkerboards_change_from_pixel_to_pixel_and_no_slower() -> None:
    result = degrade(grey(100, (16, 24)), only(checkerboard=0.05), 1, 0)
    spectrum = torch.fft.fft2(result).abs() / (16 * 24)
    patterns = torch.stack([spectrum[..., 8, 0], spectrum[..., 0, 12], spectrum[..., 8, 12]])
    assert patterns.max() <= 0.1
    assert (patterns.amax(dim=(1, 2)) > 0.06).all()
    for place in ((8, 0), (0, 12), (8, 12)):
        spectrum[:, :, place[0], place[1]] = 0
    assert spectrum.max() < 1e-6


# --- JPEG -------------------------------------------------------------------------------------------------------------


def by_pillow(picture: torch.Tensor, quality: int) -> torch.Tensor:
    pixels = ((picture + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=quality, subsampling="4:2:0")
    return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1).float() / 127.5 - 1


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).square().mean().sqrt().item()


@pytest.mark.parametrize("quality", [98, 30, 10])
def test_jpeg_of_a_quality_is_about_pillows(quality: int) -> None:
    """Of the lowest quality where the draw is the largest of many, of 98 in any case."""
    picture = portraits(1, 64)[0]
    many = 1 if quality == 98 else 40
    results = degrade(picture.expand(many, -1, -1, -1), only(jpeg_share=1.0, jpeg_quality=quality), 3, 0)
    worst = max(results, key=lambda result: error(result, picture))
    pillow = by_pillow(picture, quality)
    lost = error(pillow, picture)
    assert error(worst, picture) == pytest.approx(lost, rel=0.25)
    assert error(worst, pillow) < 0.6 * lost  # the same blocks, not only as many


def test_qualities_lie_between_the_lowest_and_98() -> None:
    picture = portraits(1, 64)[0]
    results = degrade(picture.expand(60, -1, -1, -1), only(jpeg_share=1.0, jpeg_quality=40), 3, 0)
    lost = torch.tensor([error(result, picture) for result in results])
    bounds = [error(degrade(picture[None], only(jpeg_share=1.0, jpeg_quality=98), 3, 0)[0], picture)]
    bounds.append(error(by_pillow(picture, 40), picture))
    assert lost.min() > 0.9 * bounds[0]
    assert lost.max() < 1.2 * bounds[1]
    assert lost.max() > 2 * lost.min()


def test_some_pictures_are_compressed() -> None:
    pictures = portraits(1, 32).expand(300, -1, -1, -1)
    result = degrade(pictures, only(jpeg_share=0.3), 3, 0)
    assert (result != pictures).flatten(1).any(dim=1).float().mean().item() == pytest.approx(0.3, abs=0.08)


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({name: -0.1}, name) for name in ("strength", "blur", "noise", "blotches", "checkerboard")),
        *(({name: float("nan")}, name) for name in ("strength", "blur", "noise")),
        ({"strength": float("inf")}, "strength"),
        ({"shrink_share": 1.1}, "shares lie"),
        ({"jpeg_share": -0.1}, "shares lie"),
        ({"shrink": 0}, "shrink in"),
        ({"shrink": 1.5}, "shrink in"),
        ({"jpeg_quality": 0}, "jpeg_quality"),
        ({"jpeg_quality": 99}, "jpeg_quality"),
    ],
)
def test_values_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Degradation(**options)
