"""Sheets of pictures with captions."""

import numpy as np
import pytest

from imago.data.contact_sheet import best_and_worst, contact_sheet


def flat(value: int, height: int = 40, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_pictures_stand_in_rows_over_their_captions() -> None:
    sheet = contact_sheet([flat(50), flat(100), flat(150)], ["a", "b", "c"], columns=2, side=80)
    height = sheet.shape[0] // 2
    assert sheet.shape[1:] == (2 * 80 + 4, 3)
    assert [sheet[40, 40, 0], sheet[40, 124, 0], sheet[height + 40, 40, 0]] == [50, 100, 150]
    assert sheet[80 : height - 2, :80].max() > 150  # the caption
    assert sheet[height + 10 :, 90:].max() == 0


def test_other_shapes_are_fitted_and_grey_is_shown() -> None:
    sheet = contact_sheet([flat(200, 20, 80), flat(90)[..., :1]], ["wide", "grey"], columns=2, side=80)
    assert sheet[40, 40, 0] == 200
    assert sheet[5, 40, 0] == 0
    assert sheet[40, 124].tolist() == [90, 90, 90]


def test_the_best_come_first_and_the_worst_last() -> None:
    scores = [0.3, float("nan"), 0.9, 0.1, 0.5, 0.7]
    seen = []

    def picture(index: int) -> np.ndarray:
        seen.append(index)
        return flat(20 * index + 20)

    sheet = best_and_worst(scores, picture, count=2, columns=2, side=80)
    assert seen == [2, 5, 0, 3]
    middle = sheet.shape[0] // 2
    assert [sheet[40, 40, 0], sheet[40, 124, 0]] == [60, 120]
    assert [sheet[middle + 42, 40, 0], sheet[middle + 42, 124, 0]] == [20, 80]
    seen.clear()
    best_and_worst(scores, picture, count=99)
    assert sorted(seen) == [0, 2, 3, 4, 5]  # each once


def test_nothing_to_show_is_an_error() -> None:
    with pytest.raises(ValueError, match="pictures"):
        contact_sheet([], [])
    with pytest.raises(ValueError, match="caption"):
        contact_sheet([flat(0)], [])
    with pytest.raises(ValueError, match="score"):
        best_and_worst([float("nan")], flat)
