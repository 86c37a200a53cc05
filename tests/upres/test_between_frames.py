from collections.abc import Iterator

import pytest
import torch
from moving_textures import Film, moving_disc

from imago.upres.between_frames import KeyFrame, between, every_kth
from imago.upres.film_options import FilmOptions


@pytest.fixture(scope="module")
def film() -> Film:
    return moving_disc(9)


def run(film: Film, k: int, loop: bool = False) -> tuple[list[int], list[torch.Tensor]]:
    """The numbers of the frames that were up-resolved (perfectly), and the film."""
    asked: list[int] = []

    def upres(number: int, low: torch.Tensor) -> torch.Tensor:
        assert low is film.lows[number]
        asked.append(number)
        return film.highs[number]

    pairs = list(every_kth(film.lows, upres, FilmOptions(mode="every_kth", k=k), loop))
    assert [low is other for (low, _), other in zip(pairs, film.lows, strict=True)] == [True] * len(film.lows)
    return asked, [high for _, high in pairs]


@pytest.mark.parametrize(
    ("k", "loop", "expected"),
    [
        (4, False, [0, 4, 8]),
        (3, False, [0, 3, 6, 8]),
        (2, True, [0, 2, 4, 6, 8]),
        (5, True, [0, 5]),
        (20, False, [0, 8]),
    ],
)
def test_only_key_frames_are_up_resolved(film, k, loop, expected):
    asked, highs = run(film, k, loop)
    assert [number for number in asked if number in expected] == expected
    if k <= 4:  # further off, a loop's end resembles nothing, and is up-resolved as well
        assert asked == expected
    for number in asked:
        assert highs[number] is film.highs[number]


def test_frames_between_are_close_to_the_truth(film):
    _, highs = run(film, 4)
    for number in (1, 2, 3, 5, 6, 7):
        error = (highs[number] - film.highs[number])[:, 8:-8, 8:-8]
        still = (film.highs[4 * round(number / 4)] - film.highs[number])[:, 8:-8, 8:-8]  # the nearest key frame, held
        assert error.square().mean() < 0.15 * still.square().mean()


def test_light_that_fades_is_followed():
    film = moving_disc(1)
    low, high = film.lows[0], film.highs[0]
    before, after = KeyFrame(0, 0.5 * low, 0.5 * high), KeyFrame(2, 0.5 * low - 0.2, 0.5 * high - 0.2)
    made = between(before, after, 0.5 * low - 0.05, 0.5, FilmOptions(flow_tolerance=10, colour_tolerance=10))
    assert made is not None
    assert (made - (0.5 * high - 0.05)).abs().mean() < 0.02


def test_what_neither_neighbour_shows_is_the_enlarged_low_frame():
    film, other = moving_disc(1), moving_disc(1, seed=5)
    low = film.lows[0].clone()
    low[:, :24] = other.lows[0][:, :24]
    key = KeyFrame(0, film.lows[0], film.highs[0])
    made = between(key, key, low, 0.5, FilmOptions())
    enlarged = torch.nn.functional.interpolate(low[None], scale_factor=4, mode="bicubic", align_corners=False)[0]
    assert made is not None
    assert (made - enlarged)[:, :64].square().mean() < 0.1 * (film.highs[0] - enlarged)[:, :64].square().mean()
    assert (made - film.highs[0])[:, 128:].abs().max() < 0.01


def test_nothing_crosses_a_cut():
    one, two = moving_disc(3), moving_disc(2, seed=5)
    lows, highs = one.lows + two.lows, one.highs + two.highs
    film = Film(highs, lows, [], [], [])
    asked, made = run(film, 4)
    assert asked == [0, 4]
    for number in range(5):
        across = highs[3] if number < 3 else highs[2]
        assert (made[number] - highs[number]).square().mean() < 0.1 * (made[number] - across).square().mean()


def test_a_frame_like_neither_neighbour_is_up_resolved():
    one, two, three = moving_disc(1), moving_disc(1, seed=5), moving_disc(1, seed=6)
    film = Film(one.highs + two.highs + three.highs, one.lows + two.lows + three.lows, [], [], [])
    asked, highs = run(film, 2)
    assert sorted(asked) == [0, 1, 2]
    assert highs[1] is two.highs[0]


def test_frames_come_as_soon_as_they_can():
    film = moving_disc(9, size=128)
    taken = 0

    def lows() -> Iterator[torch.Tensor]:
        nonlocal taken
        for low in film.lows:
            taken += 1
            yield low

    pairs = every_kth(lows(), lambda number, low: film.highs[number], FilmOptions(mode="every_kth", k=3))
    ahead = [taken - number for number, _ in enumerate(pairs)]
    assert max(ahead) <= 3


@pytest.mark.parametrize("loop", [False, True])
def test_films_of_one_frame_and_of_none(film, loop):
    options = FilmOptions(mode="every_kth")
    assert list(every_kth([], lambda number, low: low, options, loop)) == []
    [(low, high)] = every_kth(film.lows[:1], lambda number, low: film.highs[number], options, loop)
    assert low is film.lows[0]
    assert high is film.highs[0]
