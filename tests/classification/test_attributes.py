"""Choosing columns by name, and labels of other packs in their terms."""

import numpy as np
import pytest
from labelled_packs import bars, pack_items

from imago.classification.attributes import choose_attributes, labels_of, same_name
from imago.data.sources.source import Item
from imago.errors import UserError

PIXELS = np.zeros((16, 16, 3), np.uint8)


def test_all_columns_or_those_that_are_named(bar_pack):
    assert [a.name for a in choose_attributes(bar_pack, None)] == ["Main Colour", "Bar"]
    assert [a.name for a in choose_attributes(bar_pack, None, ["Bar"])] == ["Main Colour"]
    for name in ("main_colour", "MAIN COLOUR", "Main-Colour"):
        (attribute,) = choose_attributes(bar_pack, [name], ["Main Colour"])
        assert (attribute.name, attribute.values) == ("Main Colour", ("blue", "green", "red"))
    assert [a.name for a in choose_attributes(bar_pack, ["bar", "main_colour"])] == ["Main Colour", "Bar"]
    assert same_name("Eyes Color") == same_name("eyes_color")


def test_mistakes(bar_pack, tmp_path):
    with pytest.raises(UserError, match=r"no label column 'main_color'; did you mean Main Colour\? valid here: Main"):
        choose_attributes(bar_pack, ["main_color"])
    bare = pack_items(bars(3, labelled=False), tmp_path / "bare")
    with pytest.raises(UserError, match="has no labels to classify"):
        choose_attributes(bare, None)


def test_labels_of_another_pack_are_matched_by_name(bar_pack, tmp_path):
    """Another order of columns and values, other spelling, a column and a value that are not ours."""
    rows = [{"bar": "Top", "hat": "yes", "main_colour": "red"}, {"bar": "sideways"}, None]
    other = pack_items([Item(PIXELS, f"{i}.png", row) for i, row in enumerate(rows)], tmp_path / "other")
    attributes = choose_attributes(bar_pack, None)
    labels, strange = labels_of(other, attributes)
    assert labels.tolist() == [[2, 1], [-1, -1], [-1, -1]]
    assert strange == ["Bar sideways"]
    own, none = labels_of(bar_pack, attributes)
    np.testing.assert_array_equal(own, bar_pack.labels)
    assert none == []


def test_a_minus_sign_is_part_of_a_value(tmp_path):
    """CelebA's values are -1 and 1."""
    rows = [{"Smiling": "-1"}, {"Smiling": "1"}, {"Smiling": ""}]
    celeba = pack_items([Item(PIXELS, f"{i}.png", row) for i, row in enumerate(rows)], tmp_path / "celeba")
    labels, _ = labels_of(celeba, choose_attributes(celeba, ["smiling"]))
    assert labels[:, 0].tolist() == [0, 1, -1]
