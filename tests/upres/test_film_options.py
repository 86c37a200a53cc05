import pytest

from imago.errors import UserError
from imago.upres.film_options import MODES, FilmOptions


def test_every_mode_is_accepted():
    assert [FilmOptions(mode=mode).mode for mode in MODES] == list(MODES)


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "smooth"},
        {"strength": 1.0},
        {"strength": -0.1},
        {"strength": float("nan")},
        {"strength": "much"},
        {"motion": 0},
        {"k": 1},
        {"k": 2.5},
        {"one_variant": 1},
        {"landmark_sigma": -1},
        {"landmark_sigma": float("inf")},
        {"landmark_hold": -1},
        {"flow_tolerance": 0},
        {"colour_tolerance": -0.1},
        {"cut": 1.5},
        {"cut": None},
    ],
)
def test_nonsense_is_refused_by_name(change):
    with pytest.raises(UserError, match=next(iter(change))):
        FilmOptions(**change)
