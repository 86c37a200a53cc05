import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats

from imago.errors import UserError
from imago.metrics.digit_classifier import DigitClassifier
from imago.metrics.discrete_modes import (
    DiscreteModes,
    digits_to_numbers,
    modes_and_divergence,
    perfect_modes_and_divergence,
)


class Dots(DigitClassifier):
    """Reads a digit from the brightness of the first pixel."""

    def classify(self, images):
        return images[:, :, 0, 0].long()


def test_every_number_as_often():
    assert modes_and_divergence(np.tile(np.arange(1000), 3)) == (1000, pytest.approx(0, abs=1e-12))


def test_one_number_only():
    assert modes_and_divergence([417] * 50) == (1, pytest.approx(math.log(1000)))


def test_half_of_the_numbers():
    assert modes_and_divergence(torch.arange(500)) == (500, pytest.approx(math.log(2)))


def test_uneven_counts_against_scipy():
    numbers = np.random.default_rng(0).geometric(0.01, size=5000) % 1000
    counts = np.bincount(numbers, minlength=1000)
    covered, divergence = modes_and_divergence(numbers)
    assert covered == np.count_nonzero(counts)
    assert divergence == pytest.approx(stats.entropy(counts, np.ones(1000)), rel=1e-12)


@pytest.mark.parametrize(("images", "modes"), [(1, 2), (3, 2), (4, 3), (5, 4)])
def test_perfect_generator_by_enumeration(images, modes):
    """All K^N outcomes of a uniform generator, each as likely."""
    covered, divergence = Fraction(0), 0.0
    for outcome in np.ndindex(*[modes] * images):
        found = modes_and_divergence(np.array(outcome), modes)
        covered += found[0]
        divergence += found[1]
    perfect = perfect_modes_and_divergence(images, modes)
    assert perfect[0] == pytest.approx(float(covered / modes**images), rel=1e-12)
    assert perfect[1] == pytest.approx(divergence / modes**images, rel=1e-12)


def test_perfect_generator_at_the_papers_size():
    covered, divergence = perfect_modes_and_divergence()
    assert covered == pytest.approx(1000, abs=1e-7)
    assert divergence == pytest.approx(999 / (2 * 25_600), rel=0.03)
    draws = np.random.default_rng(1).integers(0, 1000, size=(20, 25_600))
    scores = [modes_and_divergence(row)[1] for row in draws]
    assert np.mean(scores) == pytest.approx(divergence, abs=4 * np.std(scores) / math.sqrt(20))
    few = [modes_and_divergence(row[:1500]) for row in draws]
    expected = perfect_modes_and_divergence(1500)
    for value, column in zip(expected, np.transpose(few), strict=True):
        assert np.mean(column) == pytest.approx(value, abs=4 * np.std(column) / math.sqrt(20))


def test_red_is_the_first_digit():
    assert digits_to_numbers(torch.tensor([[4, 1, 7], [0, 0, 9]])).tolist() == [417, 9]


def images_of(numbers):
    digits = np.stack([numbers // 100, numbers // 10 % 10, numbers % 10], axis=1).astype(np.uint8)
    return torch.from_numpy(digits)[:, :, None, None].repeat(1, 1, 8, 8)


def test_metric_equals_the_function_and_merges_processes():
    numbers = np.random.default_rng(2).integers(0, 300, size=500)
    whole, one, two = DiscreteModes(Dots()), DiscreteModes(Dots()), DiscreteModes(Dots())
    for part in np.split(numbers, [90, 333]):
        whole.update(images_of(part))
    result = whole.compute()
    assert (result["modes"], result["kl"]) == modes_and_divergence(numbers)
    assert result["images"] == 500
    assert (result["perfect_modes"], result["perfect_kl"]) == perfect_modes_and_divergence(500)
    one.update(images_of(numbers[:123]))
    two.update(images_of(numbers[123:]))
    # What torchmetrics does with the states of two processes.
    merged = DiscreteModes(
        Dots(), distributed_available_fn=lambda: True, dist_sync_fn=lambda _, group=None: [one.histogram, two.histogram]
    )
    merged.update(images_of(numbers[:1]))
    assert merged.compute() == result
    merged.reset()
    assert int(merged.histogram.sum()) == 0


def test_metric_keeps_the_classifier_out_of_its_state():
    metric = DiscreteModes(DigitClassifier())
    assert list(metric.children()) == []
    assert list(metric.state_dict()) == []


def test_errors():
    with pytest.raises(UserError, match="empty set"):
        modes_and_divergence(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(UserError, match="from 3 to 1000, but modes go from 0 to 999"):
        modes_and_divergence([3, 1000])
    with pytest.raises(UserError, match="integers"):
        modes_and_divergence([0.5])
    with pytest.raises(UserError, match="at least one of each"):
        perfect_modes_and_divergence(0)
    with pytest.raises(UserError, match="3 channels, not 1"):
        DiscreteModes(Dots()).update(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
