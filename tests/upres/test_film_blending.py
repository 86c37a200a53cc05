import math

import numpy as np
import pytest
import torch
from moving_textures import FACTOR, moving_disc

from imago.upres.film_blending import Recursion, blend, share_of_motion, smooth, trust
from imago.upres.film_options import FilmOptions
from imago.upres.flow import Match


def still(height: int = 6, width: int = 8) -> Match:
    """Nothing moved, everything agrees."""
    nothing = torch.zeros(height, width)
    return Match(torch.zeros(2, height, width), torch.ones(height, width, dtype=torch.bool), nothing, nothing)


def pictures(height: int = 6, width: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    both = torch.rand(2, 3, FACTOR * height, FACTOR * width, generator=torch.Generator().manual_seed(0))
    return both[0], both[1]


def test_trust_falls_with_either_error_and_ends_where_hidden():
    closing = torch.tensor([[0.0, 0.4, 0.0, 0.8, 0.0]])
    difference = torch.tensor([[0.0, 0.0, 0.2, 0.1, 0.0]])
    visible = torch.tensor([[True, True, True, True, False]])
    match = Match(torch.zeros(2, 1, 5), visible, closing, difference)
    expected = [1, math.exp(-0.5), math.exp(-2), math.exp(-2.5), 0]
    assert trust(match, FilmOptions(flow_tolerance=0.4, colour_tolerance=0.1))[0].tolist() == pytest.approx(expected)


def test_what_moves_takes_less_from_the_frame_before():
    match = still()
    match.flow[:, 0, 1] = torch.tensor([1.8, -2.4])  # three pixels
    match.flow[0, 0, 2] = 6
    share = share_of_motion(match, FilmOptions(strength=0.8, motion=3.0))
    assert share[0, :4].tolist() == pytest.approx([0.8, 0.4, 0.8 / 3, 0.8])


def test_light_that_changes_slowly_wears_trust_out():
    """Each frame is close to the last, but not to what the mixed film holds of the past: the lag stays bounded."""
    film = moving_disc(1, size=96)
    step, strength, tolerance = 0.02, 0.9, 0.1
    recursion = Recursion(FilmOptions(mode="blended", strength=strength, colour_tolerance=tolerance))
    lag = 0.0
    for number in range(20):
        light = number * step - 0.2
        mixed = recursion.add(film.lows[0] / 2 + light, film.highs[0] / 2 + light)
        if number > 0:
            lag = strength * math.exp(-0.5 * ((lag + step) / tolerance) ** 2) * (lag + step)
        assert float((film.highs[0] / 2 + light - mixed).mean()) == pytest.approx(lag, rel=0.05, abs=1e-4)
    assert lag < 0.45 * step * strength / (1 - strength)  # where it would end if only neighbours were compared


def test_a_cut_starts_anew():
    one, two = moving_disc(2, size=96), moving_disc(2, size=96, seed=5)
    recursion = Recursion(FilmOptions())
    mixed = [recursion.add(low, high) for low, high in zip(one.lows + two.lows, one.highs + two.highs, strict=True)]
    assert torch.equal(mixed[0], one.highs[0])
    assert not torch.equal(mixed[1], one.highs[1])
    assert torch.equal(mixed[2], two.highs[0])
    assert recursion.mixed_low is not None
    fresh = Recursion(FilmOptions())
    for low, high, expected in zip(two.lows, two.highs, mixed[2:], strict=True):
        torch.testing.assert_close(fresh.add(low, high), expected)


def test_a_still_picture_is_mixed_by_its_share():
    current, previous = pictures()
    mixed = blend(current, previous, still(), torch.full((6, 8), 0.3), high_frequencies=False)
    torch.testing.assert_close(mixed, 0.3 * previous + 0.7 * current)


def test_what_has_no_share_is_the_current_frame():
    current, previous = pictures()
    for high_frequencies in (False, True):
        mixed = blend(current, previous, still(), torch.zeros(6, 8), high_frequencies)
        torch.testing.assert_close(mixed, current)


def test_the_previous_frame_is_carried_along_the_flow():
    current, previous = pictures()
    match = still()
    match.flow[0], match.flow[1] = 1.0, -1.0  # low pixels: four high ones to the right, four up
    mixed = blend(current, previous, match, torch.ones(6, 8), high_frequencies=False)
    torch.testing.assert_close(mixed[:, FACTOR:, :-FACTOR], previous[:, :-FACTOR, FACTOR:])


def test_light_comes_from_the_current_frame_and_detail_from_both():
    current, _ = pictures()
    y, x = torch.meshgrid(torch.arange(6 * FACTOR), torch.arange(8 * FACTOR), indexing="ij")
    checks = 0.2 * (-1.0) ** (x + y)  # without a mean over any low pixel
    light = (0.1 + 0.02 * x)[None]
    share = torch.full((6, 8), 0.6)
    mixed = blend(current, current + checks + light, still(), share, high_frequencies=True)
    difference = (mixed - current - 0.6 * checks)[:, :, 3 * FACTOR : -3 * FACTOR]  # a ramp is kept but for its ends
    assert difference.abs().max() < 1e-5


def test_smoothing_is_binomial():
    impulse = torch.zeros(1, 9, 9)
    impulse[0, 4, 4] = 256
    expected = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])
    np.testing.assert_allclose(smooth(impulse)[0, 2:7, 2:7].numpy(), expected, rtol=1e-5)
    torch.testing.assert_close(smooth(torch.ones(2, 5, 4)), torch.ones(2, 5, 4))
