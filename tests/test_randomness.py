import hashlib
import itertools

import numpy as np
import pytest
from scipy import stats

from imago.randomness import normal, permutation, uniform

# --- the stream -------------------------------------------------------------------------------------------------------

MASK = 2**64 - 1


def philox_4x64_10(counter, key):
    """Philox-4x64 with ten rounds, from Salmon et al. (2011), section 3.3 and table 2's constants."""
    c, k = list(counter), list(key)
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(right >> 64) ^ c[1] ^ k[0], right & MASK, (left >> 64) ^ c[3] ^ k[1], left & MASK]
        k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
    return c


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
        ([MASK] * 4, [MASK] * 2, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
    ],
)
def test_this_files_philox_gives_the_published_answers(counter, key, expected):
    """The known answers of the authors' Random123 library."""
    assert " ".join(f"{word:016x}" for word in philox_4x64_10(counter, key)) == expected


def words_of_item(seed, purpose, item, size):
    """The 64-bit words of one item: it owns the same number of whole counter ticks as any other, the first being 1."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
    key = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
    ticks = (size + 3) // 4
    words = []
    for tick in range(item * ticks + 1, (item + 1) * ticks + 1):
        words += philox_4x64_10([tick >> (64 * i) & MASK for i in range(4)], key)
    return words[:size]


@pytest.mark.parametrize(
    ("seed", "purpose", "start", "size"),
    [(0, "flip", 0, 1), (1, "latents", 3, 4), (7, "interpolation", 12_000_000, 5), (2**40, "x", 2**66, 9)],
)
def test_uniforms_are_the_upper_53_bits_of_philox_words(seed, purpose, start, size):
    expected = [[(w >> 11) / 2**53 for w in words_of_item(seed, purpose, start + i, size)] for i in range(3)]
    np.testing.assert_array_equal(uniform(seed, purpose, start, 3, size), expected)


@pytest.mark.parametrize("size", [1, 2, 5, 512])
def test_normals_are_the_box_muller_transform_of_the_words(size):
    pairs = (size + 1) // 2
    u = np.array([(w >> 11) / 2**53 for w in words_of_item(3, "latents", 41, 2 * pairs)])
    z = np.sqrt(-2 * np.log(1 - u[:pairs])) * np.exp(2j * np.pi * u[pairs:])
    expected = np.concatenate([z.real, z.imag])[:size]
    np.testing.assert_allclose(normal(3, "latents", 41, 1, size)[0], expected, rtol=1e-12, atol=1e-12)


def test_permutations_order_the_words():
    expected = sorted(range(10), key=words_of_item(5, "order/2", 0, 10).__getitem__)
    assert permutation(5, "order", 2, 10).tolist() == expected


def test_the_stream_stays_as_it_is():
    """Numbers that runs and pictures depend on; a change here changes every run and every numbered picture."""
    assert uniform(0, "flip", 0, 3)[:, 0].tolist() == [0.6765005482767037, 0.7481323115655462, 0.13679772099811527]
    np.testing.assert_allclose(
        normal(0, "latents", 0, 2, 2),
        [[0.323529161341442, 2.504184695441829], [-1.5439227529918698, -0.26549114919464656]],
        rtol=1e-14,
    )
    assert permutation(0, "order", 0, 8).tolist() == [1, 4, 7, 2, 5, 6, 0, 3]


# --- distributions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 8])
def test_uniform_draws_are_uniform(size):
    u = uniform(11, "a", 0, 60_000 // size, size)
    assert u.shape == (60_000 // size, size)
    assert u.min() >= 0
    assert u.max() < 1
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    assert u.mean() == pytest.approx(1 / 2, abs=0.005)
    assert u.var() == pytest.approx(1 / 12, abs=0.002)


@pytest.mark.parametrize("size", [1, 2, 7, 512])
def test_normal_draws_are_normal(size):
    z = normal(11, "a", 0, 60_000 // size, size)
    assert z.shape == (60_000 // size, size)
    assert np.isfinite(z).all()
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    for moment, expected in ((1, 0), (2, 1), (3, 0), (4, 3)):
        assert (z**moment).mean() == pytest.approx(expected, abs=0.15)


def test_components_of_a_draw_are_uncorrelated():
    z = normal(3, "latents", 0, 20_000, 8)
    correlation = np.corrcoef(np.concatenate([z, z**2], axis=1), rowvar=False)
    assert np.abs(correlation - np.eye(16)).max() < 0.04
    assert np.abs(np.corrcoef(z[:-1, 0], z[1:, 0])[0, 1]) < 0.04


def test_seeds_and_purposes_are_independent():
    keys = [(0, "latents"), (1, "latents"), (0, "flip"), (0, "latents/generator"), (10, "latents"), (1, "0/latents")]
    draws = np.stack([uniform(seed, purpose, 0, 20_000)[:, 0] for seed, purpose in keys])
    assert np.abs(np.corrcoef(draws) - np.eye(len(keys))).max() < 0.04
    for a, b in itertools.combinations(draws, 2):
        assert not np.isin(a, b).any()


# --- addressing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [uniform, normal])
@pytest.mark.parametrize("size", [1, 2, 4, 5, 12])
def test_a_row_depends_only_on_its_position(draw, size):
    whole = draw(2, "purpose", 100, 40, size)
    for start, count in ((100, 40), (100, 1), (117, 3), (139, 1), (120, 0)):
        np.testing.assert_array_equal(draw(2, "purpose", start, count, size), whole[start - 100 :][:count])


def test_rows_do_not_repeat():
    assert len(np.unique(uniform(0, "a", 0, 50_000))) == 50_000


@pytest.mark.parametrize("length", [0, 1, 2, 7, 1000])
def test_a_permutation_holds_every_number_once(length):
    order = permutation(4, "order", 3, length)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(length))


def test_permutations_differ_by_epoch_seed_and_purpose():
    orders = [permutation(*key, 50) for key in ((0, "a", 0), (0, "a", 1), (1, "a", 0), (0, "b", 0), (0, "a", 10))]
    assert all(not np.array_equal(a, b) for a, b in itertools.combinations(orders, 2))
    np.testing.assert_array_equal(permutation(0, "a", 1, 50), orders[1])


def test_all_orders_are_equally_likely():
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    for epoch in range(2400):
        counts[tuple(permutation(9, "order", epoch, 4).tolist())] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3
