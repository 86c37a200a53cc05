"""Splits that keep groups together."""

from collections import Counter

import numpy as np
import pytest

from imago.data.grouped_split import grouped_split
from imago.errors import UserError


def images_of(parts: dict[str, str], sizes: dict[str, int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for group, part in parts.items():
        counts[part] += sizes[group]
    return counts


SIZES = {f"owner{i}": int(n) for i, n in enumerate(np.random.default_rng(0).geometric(0.1, 500))}


def test_shares_are_met_to_the_image():
    total = sum(SIZES.values())
    for seed in range(5):
        counts = images_of(grouped_split(SIZES, 0.1, 0.2, seed), SIZES)
        assert (counts["validation"], counts["test"]) == (round(0.1 * total), round(0.2 * total))
        assert sum(counts.values()) == total


def test_only_names_and_the_seed_decide():
    parts = grouped_split(SIZES)
    assert grouped_split(dict(reversed(SIZES.items()))) == parts
    assert grouped_split(SIZES, seed=1) != parts
    # Fixed for good: a split that somebody published results on must not move.
    fixed = {"a": "validation", "b": "train", "c": "test", "d": "train"}
    assert grouped_split({"a": 1, "b": 1, "c": 1, "d": 1}, 0.25, 0.25) == fixed


def test_strata_keep_the_shares_within_each_kind():
    kinds = {group: "even" if int(group[5:]) % 2 == 0 else "odd" for group in SIZES}
    parts = grouped_split(SIZES, 0.1, 0.1, strata=kinds)
    for kind in ("even", "odd"):
        of_kind = {group: size for group, size in SIZES.items() if kinds[group] == kind}
        counts = images_of({group: parts[group] for group in of_kind}, of_kind)
        assert counts["test"] == counts["validation"] == round(0.1 * sum(of_kind.values()))


def test_extremes():
    assert set(grouped_split(SIZES, 0, 0).values()) == {"train"}
    assert set(grouped_split(SIZES, 0, 1).values()) == {"test"}
    assert grouped_split({}) == {}
    assert grouped_split({"large": 1000, "small": 1}, 0.1, 0.1)["large"] == "train"
    for shares in ((-0.1, 0.1), (0.6, 0.5)):
        with pytest.raises(UserError, match="exceed 1"):
            grouped_split(SIZES, *shares)
