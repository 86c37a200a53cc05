import numpy as np
import pytest
import torch
from scipy import special, stats

from imago.errors import UserError
from imago.metrics.inception_score import InceptionScore, inception_score


def logits(count, classes, seed=0, scale=2.0):
    return scale * np.random.default_rng(seed).normal(size=(count, classes))


def by_entropies(values, splits):
    """exp(H(mean p) - mean H(p)) of each part, by SciPy's entropy."""
    scores = []
    for part in np.array_split(special.softmax(values, axis=1), splits):
        scores.append(np.exp(stats.entropy(part.mean(axis=0)) - stats.entropy(part, axis=1).mean()))
    return np.mean(scores), np.std(scores)


@pytest.mark.parametrize(("count", "classes", "splits"), [(60, 10, 10), (40, 1008, 4), (7, 3, 7), (5, 2, 1)])
def test_score_is_that_of_scipys_entropies(count, classes, splits):
    values = logits(count, classes)
    assert inception_score(values, splits) == pytest.approx(by_entropies(values, splits), rel=1e-9)


def test_images_that_are_all_alike_score_one():
    assert inception_score(np.zeros((20, 8))) == pytest.approx((1, 0))
    assert inception_score(np.tile(logits(1, 8), (20, 1))) == pytest.approx((1, 0))


@pytest.mark.parametrize("size", [50.0, 1e4, 1e30])
def test_images_surely_of_all_classes_alike_score_the_number_of_classes(size):
    """However large the logits are: nothing overflows."""
    values = torch.eye(5).repeat(8, 1) * size
    assert inception_score(values, splits=4) == pytest.approx((5, 0))


def test_a_hand_computed_case():
    """p = (3/4, 1/4) and (1/4, 3/4): the mean is uniform, KL = 3/4 ln 3/2 + 1/4 ln 1/2."""
    values = np.log([[3.0, 1.0], [1.0, 3.0]])
    assert inception_score(values, 1)[0] == pytest.approx(1.5**0.75 * 0.5**0.25)


def test_a_constant_in_an_images_logits_does_not_matter():
    values = logits(30, 6)
    moved = values + np.arange(30)[:, None]
    assert inception_score(moved, 3) == pytest.approx(inception_score(values, 3), rel=1e-12)


def test_parts_are_in_order_or_drawn_whatever_the_order():
    values = np.repeat(np.eye(4) * 20, 10, axis=0)  # sorted by class: each part is of one kind
    assert inception_score(values, 4) == pytest.approx((1, 0), abs=1e-6)
    drawn = inception_score(values, 4, shuffle=0)
    assert drawn[0] > 2
    assert drawn == inception_score(values[::-1].copy(), 4, shuffle=0)
    assert drawn != inception_score(values, 4, shuffle=1)


def test_mistakes_are_told():
    values = logits(12, 3)
    with pytest.raises(UserError, match="of 12 images in 13 parts"):
        inception_score(values, 13)
    with pytest.raises(UserError, match="in 0 parts"):
        inception_score(values, 0)
    with pytest.raises(UserError, match="of 1 images in 10 parts"):
        inception_score(values[:1])
    with pytest.raises(UserError, match="logits: an empty set"):
        inception_score(values[:0])
    values[0, 0] = np.nan
    with pytest.raises(UserError, match="logits: NaN or infinity for 1 of 12"):
        inception_score(values)
    with pytest.raises(UserError, match="at least one image"):
        InceptionScore().compute()


# --- in batches and on several processes ------------------------------------------------------------------------------


def filled(values, batch, **options):
    metric = InceptionScore(splits=3, **options)
    for part in torch.from_numpy(values).split(batch):
        metric.update(part)
    return metric


def numbers(metric):
    return tuple(float(value) for value in metric.compute())


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize("shuffle", [None, 5])
def test_metric_equals_the_function_whatever_the_batches(batch, shuffle):
    values = logits(30, 4)
    assert numbers(filled(values, batch, shuffle=shuffle)) == inception_score(values, 3, shuffle)


@pytest.mark.parametrize("shuffle", [None, 5])
def test_two_processes_with_half_the_images_each_equal_one_with_all(shuffle):
    values = logits(30, 4)
    # In order, the halves must be those of the order; shuffled, any will do.
    halves = (values[:15], values[15:]) if shuffle is None else (values[::2], values[1::2])
    metric, other = (filled(half, 4, shuffle=shuffle) for half in halves)
    sent = []
    other.sync(dist_sync_fn=lambda state, group: sent.append(state) or [state], distributed_available=lambda: True)
    metric.dist_sync_fn = lambda state, group: [state, sent.pop(0)]
    metric.distributed_available_fn = lambda: True
    assert numbers(metric) == inception_score(values, 3, shuffle)


def test_reset_forgets_everything():
    metric = filled(logits(30, 4), 10)
    metric.reset()
    metric.update(torch.from_numpy(logits(6, 4, seed=1)))
    assert numbers(metric) == inception_score(logits(6, 4, seed=1), 3)
