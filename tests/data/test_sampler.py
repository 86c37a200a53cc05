from itertools import pairwise

import numpy as np
import pytest

from imago.data.sampler import flips, sample_indices
from imago.randomness import permutation


def test_every_epoch_is_a_permutation():
    order = sample_indices(seed=3, count=101, start=0, number=101 * 4).reshape(4, 101)
    for epoch in order:
        assert sorted(epoch) == list(range(101))
    assert not np.array_equal(order[0], order[1])
    np.testing.assert_array_equal(order[2], permutation(3, "data order", 2, 101))


@pytest.mark.parametrize("count", [1, 7, 64])
def test_slices_join_to_the_whole(count: int):
    whole = sample_indices(seed=0, count=count, start=0, number=200)
    assert whole.dtype == np.int64
    starts = [0, 5, 6, 6, 63, 64, 130, 200]
    parts = [sample_indices(0, count, a, b - a) for a, b in pairwise(starts)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_far_positions_need_no_history():
    np.testing.assert_array_equal(
        sample_indices(1, 1000, 25_000_998, 4)[2:], permutation(1, "data order", 25_001, 1000)[:2]
    )


def test_seeds_differ_and_results_are_the_callers_own():
    first = sample_indices(0, 50, 0, 50)
    assert not np.array_equal(first, sample_indices(1, 50, 0, 50))
    first[:] = 0
    assert sample_indices(0, 50, 0, 50).any()


def test_nonsense_is_refused():
    for arguments in [(0, 0, 0, 1), (0, 5, -1, 1), (0, 5, 0, -1)]:
        with pytest.raises(ValueError, match="count"):
            sample_indices(*arguments)


def test_flips_are_fair_and_cut_anywhere():
    coins = flips(0, 0, 20_000)
    assert coins.dtype == bool
    assert abs(coins.mean() - 0.5) < 4 * 0.5 / np.sqrt(20_000)
    np.testing.assert_array_equal(flips(0, 12_345, 100), coins[12_345:12_445])
    assert not np.array_equal(flips(1, 0, 100), coins[:100])
