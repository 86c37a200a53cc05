import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from moving_textures import FACTOR, Film, moving_disc, pool, true_warping_error
from numpy.typing import NDArray
from torch import Tensor

from imago.errors import UserError
from imago.upres.film_landmarks import smooth_landmarks
from imago.upres.film_options import MODES, FilmOptions
from imago.upres.film_report import FilmMeter
from imago.upres.temporal import stabilise, warm_up_frames


class Flickering:
    """An up-resolver that knows the truth and adds texture, another to every frame but always the same to one."""

    def __init__(self, film: Film, amount: float = 0.15) -> None:
        self.numbers = {id(low): number for number, low in enumerate(film.lows)}
        self.film, self.amount = film, amount
        self.asked: list[tuple[NDArray[np.float64] | None, Any]] = []

    def __call__(self, low: Tensor, landmarks: NDArray[np.float64] | None, variant: Any) -> tuple[Tensor, Any]:
        self.asked.append((landmarks, variant))
        number = self.numbers[id(low)]
        truth = self.film.highs[number]
        noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(number))
        noise = noise - pool(noise).repeat_interleave(FACTOR, 1).repeat_interleave(FACTOR, 2)  # detail alone
        return truth + self.amount * noise, len(self.asked) if variant is None else variant


def highs(film: Film, options: FilmOptions, amount: float = 0.15, loop: bool = False) -> list[Tensor]:
    return [high for _, high in stabilise(film.lows, Flickering(film, amount), options, loop=loop)]


def error(frames: list[Tensor], film: Film, objects_only: bool = False) -> float:
    """Mean squared distance to the truth, from the fifth frame on."""
    errors = [
        (high - truth).square().mean(dim=0)[torch.from_numpy(inside) if objects_only else ...].mean()
        for high, truth, inside in zip(frames[4:], film.highs[4:], film.objects[4:], strict=True)
    ]
    return float(torch.stack(errors).mean())


@pytest.fixture(scope="module")
def film() -> Film:
    return moving_disc(14)


@pytest.fixture(scope="module")
def short() -> Film:
    return moving_disc(14, size=96)


@pytest.fixture(scope="module")
def frame_by_frame(film: Film) -> list[Tensor]:
    return highs(film, FilmOptions(mode="frame_by_frame"))


@pytest.mark.parametrize("options", [FilmOptions(), FilmOptions(mode="blended"), FilmOptions(mode="every_kth")])
def test_warping_error_along_the_true_motion_is_at_most_half(film, frame_by_frame, options):
    assert true_warping_error(film, highs(film, options)) <= 0.5 * true_warping_error(film, frame_by_frame)


def test_the_default_more_than_halves_what_the_meter_shows(film, frame_by_frame):
    meters = FilmMeter(), FilmMeter()
    for meter, frames in zip(meters, (frame_by_frame, highs(film, FilmOptions())), strict=True):
        for low, high in zip(film.lows, frames, strict=True):
            meter.add(low, high)
    assert meters[1].report().warping_error <= 0.3 * meters[0].report().warping_error
    assert meters[1].report().absolute_warping_error <= 0.5 * meters[0].report().absolute_warping_error


def test_a_moving_object_is_not_smeared(film, frame_by_frame):
    """Blending takes away more flicker than it adds blur, also where things move."""
    stable = highs(film, FilmOptions())
    assert error(stable, film, objects_only=True) < 0.7 * error(frame_by_frame, film, objects_only=True)
    assert error(stable, film) < 0.7 * error(frame_by_frame, film)
    perfect = highs(film, FilmOptions(), amount=0.0)
    contrast = float(torch.stack(film.highs).var())
    assert error(perfect, film) < 0.02 * contrast
    assert error(perfect, film, objects_only=True) < 0.04 * contrast  # it moves four pixels a frame


def test_detail_lost_behind_the_object_does_not_come_back(film):
    """Where the background is revealed, the frame is its own: no ghost of the disc."""
    perfect = highs(film, FilmOptions(), amount=0.0)
    for t in range(4, 14):
        revealed = torch.from_numpy(~film.visible[t])
        ghost = (perfect[t] - film.highs[t]).square().mean(dim=0)[revealed].mean()
        assert ghost < 0.1 * float(film.highs[t].var())


@pytest.mark.parametrize("strength", [0.5, 0.8])
def test_flicker_of_a_still_film_shrinks_as_a_recursive_mean_does(strength):
    still = moving_disc(1, size=64)
    frames = 60
    film = Film(still.highs * frames, [still.lows[0].clone() for _ in range(frames)], [], [], [])
    blended = torch.stack(highs(film, FilmOptions(mode="blended", strength=strength), amount=0.2, loop=True))
    noise = blended - still.highs[0]
    variance = 0.2**2 * (1 - 1 / FACTOR**2)
    assert noise.var() == pytest.approx(variance * (1 - strength) / (1 + strength), rel=0.1)
    steps = noise.diff(dim=0)
    assert steps.square().mean() == pytest.approx(2 * variance * (1 - strength) ** 2 / (1 + strength), rel=0.1)


def test_high_frequencies_leave_light_to_the_current_frame():
    still = moving_disc(1, size=64)
    lights = [0.02 * number for number in range(12)]
    film = Film(
        [still.highs[0] / 2 + light for light in lights], [still.lows[0] / 2 + light for light in lights], [], [], []
    )
    followed = highs(film, FilmOptions(colour_tolerance=1.0), amount=0.0)
    lagging = highs(film, FilmOptions(mode="blended", colour_tolerance=1.0), amount=0.0)
    assert abs(float((followed[-1] - film.highs[-1]).mean())) < 1e-4
    assert float((lagging[-1] - film.highs[-1]).mean()) < -0.03  # 0.02 · strength / (1 - strength) behind


@pytest.mark.parametrize("mode", ["blended", "high_frequencies"])
def test_a_cut_is_not_blended_over(mode):
    one, two = moving_disc(4), moving_disc(4, seed=5)
    film = Film(one.highs + two.highs, one.lows + two.lows, [], [], [])
    options = FilmOptions(mode=mode)
    made, alone = highs(film, options), highs(film, FilmOptions(mode="frame_by_frame"))
    assert torch.equal(made[4], alone[4])
    assert not torch.equal(made[5], alone[5])


def circling(frames: int) -> Film:
    """The background goes back and forth: a closed film of which each frame is close to the next."""
    there = moving_disc(frames // 2 + 1, size=96, disc=(0, 0))
    numbers = [*range(frames // 2 + 1), *range(frames // 2 - 1, 0, -1)]
    lows = [there.lows[number].clone() for number in numbers]
    return Film([there.highs[number] for number in numbers], lows, [], [], [])


@pytest.mark.parametrize("mode", ["blended", "high_frequencies", "every_kth"])
def test_the_seam_of_a_closed_film_is_like_any_other_step(mode):
    film = circling(16)
    options = FilmOptions(mode=mode)
    steps = {}
    for loop in (False, True):
        meter = FilmMeter(loop=True)
        frames = highs(film, options, loop=loop)
        for low, high in zip(film.lows, frames, strict=True):
            meter.add(low, high)
        before_seam = meter.sums[0] / meter.pairs
        whole = meter.report()
        steps[loop] = (whole.warping_error * whole.pairs - before_seam * (whole.pairs - 1)) / before_seam
    assert steps[True] < 1.6
    assert steps[True] < 0.5 * steps[False]


def test_a_closed_film_is_warmed_up(short):
    upres = Flickering(short)
    list(stabilise(short.lows, upres, FilmOptions(strength=0.5), loop=True))
    assert len(upres.asked) == len(short.lows) + warm_up_frames(0.5)
    assert warm_up_frames(0.5) == 5  # 1/32 < 1/20 < 1/16
    assert warm_up_frames(0.0) == 0


@pytest.mark.parametrize("mode", MODES)
def test_the_first_choice_of_a_variant_is_kept_or_each_frame_chooses(short, mode):
    for one_variant in (True, False):
        upres = Flickering(short)
        list(stabilise(short.lows, upres, FilmOptions(mode=mode, one_variant=one_variant)))
        variants = [variant for _, variant in upres.asked]
        assert variants == [None] + [1 if one_variant else None] * (len(variants) - 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loop", [False, True])
def test_each_frame_gets_its_own_landmarks_smoothed(short, mode, loop):
    rng = np.random.default_rng(0)
    tracks = rng.uniform(10, 40, (68, 2)) + 0.1 * rng.normal(size=(14, 68, 2))
    tracks[3:9] = np.nan
    options = FilmOptions(mode=mode, landmark_sigma=1.5, landmark_hold=2)
    smooth = smooth_landmarks(tracks, 1.5, loop, 2)

    def upres(low: Tensor, landmarks: NDArray[np.float64] | None, variant: Any) -> tuple[Tensor, Any]:
        number = next(n for n, other in enumerate(short.lows) if other is low)
        if number in (5, 6, 7, 8):
            assert landmarks is None
        else:
            np.testing.assert_array_equal(landmarks, smooth[number])
        return short.highs[number], 0

    assert len(list(stabilise(short.lows, upres, options, tracks, loop))) == 14


@pytest.mark.parametrize("mode", MODES)
def test_films_stream(mode):
    """No more low frames are taken than the next high one needs, and no high frame is kept for long."""
    film = moving_disc(10, size=128)
    taken = 0

    def lows() -> Iterator[Tensor]:
        nonlocal taken
        for low in film.lows:
            taken += 1
            yield low

    flickering = Flickering(film)
    made: list[weakref.ref[Tensor]] = []

    def upres(*arguments: Any) -> tuple[Tensor, Any]:
        high, variant = flickering(*arguments)
        made.append(weakref.ref(high))
        return high, variant

    for number, (low, high) in enumerate(stabilise(lows(), upres, FilmOptions(mode=mode, k=3))):
        made.append(weakref.ref(high))
        assert low is film.lows[number]
        assert high.shape == (3, 128, 128)
        assert taken - number <= (3 if mode == "every_kth" else 1)
        assert len({id(alive) for reference in made if (alive := reference()) is not None}) <= 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loop", [False, True])
def test_films_of_one_frame_and_of_none(short, mode, loop):
    upres = Flickering(short, amount=0.0)
    assert list(stabilise([], upres, FilmOptions(mode=mode), loop=loop)) == []
    [(low, high)] = stabilise(short.lows[:1], upres, FilmOptions(mode=mode), loop=loop)
    assert low is short.lows[0]
    torch.testing.assert_close(high, short.highs[0])


def test_nonsense_is_refused(short):
    upres = Flickering(short)
    with pytest.raises(UserError, match="sequence"):
        stabilise(iter(short.lows), upres, loop=True)
    with pytest.raises(UserError, match="more frames than landmarks"):
        list(stabilise(short.lows, upres, landmarks=np.zeros((3, 68, 2))))
    with pytest.raises(UserError, match="differ in extent"):
        list(stabilise([short.lows[0], moving_disc(1, size=128).lows[0]], lambda low, *_: (torch.zeros(3, 96, 96), 0)))
