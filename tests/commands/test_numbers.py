"""Lists of numbers as people write them."""

import pytest
from omegaconf import OmegaConf

from commands.numbers import parse_numbers
from imago.errors import UserError


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        (5, [5]),
        ("5", [5]),
        ("0-3", [0, 1, 2, 3]),
        ("3 - 5", [3, 4, 5]),
        ("7-7", [7]),
        ([0, 3], [0, 3]),
        (["9-11", 2, "10"], [9, 10, 11, 2]),
        ("0-2,8", [0, 1, 2, 8]),
        (OmegaConf.create(["0-1", 4]), [0, 1, 4]),
    ],
)
def test_numbers_and_ranges(given, numbers):
    assert parse_numbers("seeds", given) == numbers


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a", "seeds=a: a is no number"),
        (-1, "seeds=-1: -1 is no number"),
        ("0-", "0- is no number"),
        ("0..9", "write 5, 0-9"),
        (1.5, "1.5"),
        (True, "no number"),
        (["0-3", "x"], r"seeds=\[0-3,x\]: x is no number"),
        ("9-0", "runs backwards; write 0-9"),
        ([], "at least one"),
        (None, "at least one"),
        ("", "nothing is no number"),
        ("0-1000000", "more than 1000000"),
    ],
)
def test_other_words_are_refused_in_one_line(given, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_numbers("seeds", given)
    assert "\n" not in str(caught.value)
