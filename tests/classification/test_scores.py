"""Scores against closed forms and NumPy."""

import numpy as np
import pytest
import torch

from imago.classification.scores import majority, score


def by_hand(predicted, labels, values):
    """Accuracy, balanced accuracy and macro-F1 over the values that occur, from counts."""
    predicted, labels = predicted[labels >= 0], labels[labels >= 0]
    recalls, f1 = [], []
    for value in range(values):
        if not (labels == value).any():
            continue
        hits = ((predicted == value) & (labels == value)).sum()
        recalls.append(hits / (labels == value).sum())
        f1.append(2 * hits / ((predicted == value).sum() + (labels == value).sum()))
    return (predicted == labels).mean(), np.mean(recalls), np.mean(f1)


@pytest.mark.parametrize("values", [2, 3, 9])
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_the_counts(values, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, values, 200)
    predicted = np.where(rng.random(200) < 0.5, labels, rng.integers(0, values, 200)).clip(0)
    labels[labels == values - 1] = 0  # one value does not occur, but is predicted
    found = score(torch.from_numpy(predicted), torch.from_numpy(labels), values)
    expected = by_hand(predicted, labels, values)
    assert (found.accuracy, found.balanced_accuracy, found.macro_f1) == pytest.approx(expected, abs=1e-6)
    assert (found.count, found.present) == ((labels >= 0).sum(), len(np.unique(labels[labels >= 0])))
    confusion = np.array(found.confusion)
    assert confusion.sum() == found.count
    assert confusion.trace() == round(found.accuracy * found.count)
    assert confusion[0, 1] == ((labels == 0) & (predicted == 1)).sum()  # rows are true


def test_a_value_that_does_not_occur_is_no_part_of_the_means():
    """Two values right, a third never there but predicted once: its false alarm costs the others, no more."""
    found = score(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 1, 1]), 4)
    assert found.present == 2
    assert found.balanced_accuracy == pytest.approx((1 + 1 / 2) / 2)
    assert found.macro_f1 == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("counts", [(70, 20, 10), (70, 30, 0), (5, 5, 90)])
def test_the_majority_has_closed_forms(counts):
    training = torch.tensor([-1] * 50 + [0] * 3 + [1] * 2 + [2])
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    found = majority(training, torch.cat([labels, torch.tensor([-1, -1])]), 3)
    share, present = counts[0] / 100, sum(count > 0 for count in counts)
    assert found.accuracy == pytest.approx(share)
    assert found.balanced_accuracy == pytest.approx(1 / present)
    assert found.macro_f1 == pytest.approx(2 * share / (1 + share) / present)


def test_a_majority_that_the_labels_lack_scores_nothing():
    found = majority(torch.tensor([2, 2, 0]), torch.tensor([0, 1, 0]), 3)
    assert (found.accuracy, found.balanced_accuracy, found.macro_f1) == (0, 0, 0)
