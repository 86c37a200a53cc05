import pytest
import torch
from moving_textures import FACTOR, moving_disc

from imago.errors import UserError
from imago.upres.film_comparison import SETTINGS, as_table, compare_settings, profiles
from imago.upres.film_options import FilmOptions


@pytest.fixture(scope="module")
def measured():
    film = moving_disc(5, size=96)
    numbers = {id(low): number for number, low in enumerate(film.lows)}
    asked = []

    def upres(low, landmarks, variant):
        asked.append(variant)
        number = numbers[id(low)]
        noise = torch.randn(film.highs[0].shape, generator=torch.Generator().manual_seed(number))
        return film.highs[number] + 0.15 * noise, 0

    return compare_settings(film.lows, upres, stretch=2), asked


def test_each_setting_is_measured(measured):
    films, asked = measured
    assert list(films) == list(SETTINGS)
    assert len(asked) == 4 * 5 + 3 + 2  # each frame; 0, 2, 4; 0, 4
    assert asked[:5] == [None] * 5
    assert asked[5:10] == [None, 0, 0, 0, 0]
    errors = {name: film.report.warping_error for name, film in films.items()}
    assert errors["nothing done"] == errors["frame by frame"]  # this network takes no landmarks and has one variant
    assert errors["high frequencies"] < 0.5 * errors["nothing done"]
    for film in films.values():
        assert film.profile.shape == (3, 5 * 2, 24 * FACTOR)


def test_the_table_has_a_row_for_each(measured):
    films, _ = measured
    rows = as_table(films).splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert [row.split(" | ")[0].strip("| ") for row in rows[2:]] == list(SETTINGS)
    cells = rows[5].split(" | ")
    report, first = films["high frequencies"].report, films["nothing done"].report
    assert float(cells[1]) == pytest.approx(1e4 * report.warping_error, abs=6e-4)
    assert float(cells[2]) == pytest.approx(report.warping_error / first.warping_error, abs=6e-3)


def test_profiles_lie_below_each_other(measured):
    films, _ = measured
    picture = profiles(films)
    assert picture.shape == (3, len(SETTINGS) * 10 + (len(SETTINGS) - 1) * 4, 24 * FACTOR)
    assert torch.equal(picture[:, 28:38], films["blended"].profile)


def test_a_film_of_no_frame_is_refused():
    with pytest.raises(UserError, match="without frames"):
        compare_settings([], lambda low, landmarks, variant: (low, 0), {"only": FilmOptions()})
