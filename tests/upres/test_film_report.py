import math

import numpy as np
import pytest
import torch
from moving_textures import FACTOR, moving_disc, true_warping_error
from PIL import Image

from imago.upres.film_report import FilmMeter, enlarge_lanczos, warping_error
from imago.upres.flow import Match, farneback_flow


def shifted(flow: tuple[float, float], visible: torch.Tensor) -> Match:
    nothing = torch.zeros(visible.shape)
    field = torch.tensor(flow)[:, None, None].expand(2, *visible.shape).contiguous()
    return Match(field, visible, nothing, nothing)


def test_what_moves_with_the_flow_has_no_error_and_noise_has_that_of_both_frames():
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(3, 64, 64, generator=generator)
    current = before.roll((-4, 8), (1, 2))
    visible = torch.zeros(16, 16, dtype=torch.bool)
    visible[:-1, 2:] = True  # what came in at the edges was not there before
    match = shifted((-2.0, 1.0), visible)
    assert warping_error(current, before, match) == pytest.approx((0, 0, 0), abs=1e-6)
    noise = 0.2 * torch.randn(2, 3, 64, 64, generator=generator)
    squared, absolute, detail = warping_error(noise[0], noise[1], match)
    assert squared == pytest.approx(2 * 0.1**2, rel=0.05)  # colours from 0 to 1: half the amplitude
    assert absolute == pytest.approx(math.sqrt(2) * 0.1 * math.sqrt(2 / math.pi), rel=0.05)
    assert 0.9 * squared < detail < squared  # white noise has a sixteenth of its power in the means of 4 × 4 pixels


def test_only_what_is_visible_counts():
    before = torch.zeros(3, 16, 16)
    current = torch.ones(3, 16, 16)
    current[:, :, :8] = -0.5
    visible = torch.zeros(4, 4, dtype=torch.bool)
    visible[:, 0] = True
    assert warping_error(current, before, shifted((0.0, 0.0), visible)) == pytest.approx((0.0625, 0.25, 0), abs=1e-6)
    assert all(math.isnan(error) for error in warping_error(current, before, shifted((0.0, 0.0), ~visible & visible)))


@pytest.mark.parametrize("estimator", [None, farneback_flow])
def test_flicker_is_measured_as_along_the_true_motion(estimator):
    film = moving_disc(5)
    generator = torch.Generator().manual_seed(0)
    noisy = [high + 0.4 * torch.randn(high.shape, generator=generator) for high in film.highs]
    meter = FilmMeter() if estimator is None else FilmMeter(estimator=estimator)
    for low, high in zip(film.lows, noisy, strict=True):
        meter.add(low, high)
    report = meter.report()
    assert (report.frames, report.pairs) == (5, 4)
    # Bicubic interpolation averages noise a little; what the flow misses of the motion adds a little.
    assert report.warping_error == pytest.approx(true_warping_error(film, noisy), rel=0.2)
    assert report.relative == pytest.approx(report.warping_error / report.floor)


def test_the_floor_is_the_error_of_the_enlarged_film():
    film = moving_disc(3)
    meter, of_floor = FilmMeter(), FilmMeter()
    for low, high in zip(film.lows, film.highs, strict=True):
        meter.add(low, high)
        of_floor.add(low, enlarge_lanczos(low, FACTOR))
    report, floor = meter.report(), of_floor.report()
    assert (report.floor, report.absolute_floor) == (floor.warping_error, floor.absolute_warping_error)
    assert floor.relative == 1
    assert floor.detail < 0.2 * report.detail


def test_a_cut_is_not_measured():
    one, two = moving_disc(2), moving_disc(2, seed=5)
    meter = FilmMeter()
    for low, high in zip(one.lows + two.lows, one.highs + two.highs, strict=True):
        meter.add(low, high)
    report = meter.report()
    assert (report.frames, report.pairs) == (4, 2)
    assert report.warping_error < 0.2 * float((one.highs[1] - two.highs[0]).square().mean()) / 4


def test_a_closed_film_has_a_pair_more_once():
    film = moving_disc(3)
    meter = FilmMeter(loop=True)
    for low, high in zip(film.lows, film.highs, strict=True):
        meter.add(low, high)
    assert meter.report().pairs == 3
    assert meter.report() == meter.report()


def test_nothing_measured_is_not_a_number():
    report = FilmMeter(loop=True).report()
    assert (report.frames, report.pairs) == (0, 0)
    assert math.isnan(report.warping_error)
    assert math.isnan(report.relative)


def test_the_error_of_detail_is_what_the_means_over_low_pixels_do_not_show():
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    checks = (0.4 * (-1.0) ** (x + y)).expand(3, -1, -1)
    everywhere = torch.ones(16, 16, dtype=torch.bool)
    error = warping_error(torch.full((3, 64, 64), 0.6), checks, shifted((0.0, 0.0), everywhere))
    assert error.squared == pytest.approx(0.3**2 + 0.2**2, rel=1e-5)
    assert error.detail == pytest.approx(0.2**2, rel=1e-5)


def test_detail_is_what_lies_beyond_the_low_pixels():
    meter = FilmMeter()
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    checks = (0.4 * (-1.0) ** (x + y)).expand(3, -1, -1)
    meter.add(torch.zeros(3, 16, 16), checks + 0.3)
    assert meter.report().detail == pytest.approx(0.2**2, rel=1e-5)


def test_lanczos_is_that_of_pillow():
    rng = np.random.default_rng(0)
    bytes_ = rng.integers(90, 166, (12, 10, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(bytes_).resize((40, 48), Image.Resampling.LANCZOS)).astype(float)
    result = enlarge_lanczos(torch.from_numpy(bytes_).permute(2, 0, 1).float(), 4).permute(1, 2, 0).numpy()
    assert np.abs(np.clip(result, 0, 255) - expected).max() < 1.25  # of bytes, Pillow rounds twice
