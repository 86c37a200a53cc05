import logging

import numpy as np
import pytest
import torch

from imago.errors import UserError
from imago.metrics.kernel import KernelDistance, kernel_distance, order_by_content


def features(count, size, seed=0, shift=0.0):
    return shift + np.random.default_rng(seed).normal(size=(count, size))


def brute_force(x, y):
    """Bińkowski et al. 2018, section 4, by a double loop."""

    def kernel(a, b):
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    m, n = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    xy = sum(kernel(a, b) for a in x for b in y) / (m * n)
    return xx + yy - 2 * xy


@pytest.mark.parametrize(("count", "size"), [(2, 1), (2, 7), (9, 3), (20, 16)])
def test_distance_of_whole_sets_is_that_of_the_double_loop(count, size):
    real, fake = features(count, size, 0), features(count, size, 1, shift=0.5)
    mean, deviation = kernel_distance(real, fake, subsets=5, subset_size=count)
    assert mean == pytest.approx(brute_force(real, fake), rel=1e-9, abs=1e-12)
    assert deviation == 0


def test_distance_of_a_hand_computed_case():
    """Two points at 0 and two at 1, D = 1: k(0, 0) = 1, k(1, 1) = 8, k(0, 1) = 1."""
    mean, _ = kernel_distance(np.zeros((2, 1)), np.ones((2, 1)), subset_size=2)
    assert mean == pytest.approx(1 + 8 - 2 * 1)


def test_mean_over_subsets_approaches_the_distance_of_whole_sets():
    """A subset's estimate of the sets that it is drawn from is unbiased."""
    real, fake = features(40, 4, 0), features(30, 4, 1, shift=0.4)
    mean, deviation = kernel_distance(real, fake, subsets=2000, subset_size=10)
    assert deviation > 0
    assert mean == pytest.approx(brute_force(real, fake), abs=4 * deviation / np.sqrt(2000))


@pytest.mark.parametrize("count", [10, 100])
def test_distance_of_samples_of_one_distribution_is_expected_to_be_nothing(count):
    """At any number of images: the bias that the Fréchet distance has is not there."""
    values = [
        kernel_distance(features(count, 3, 2 * i), features(count, 3, 2 * i + 1), subset_size=count)[0]
        for i in range(400)
    ]
    assert np.mean(values) == pytest.approx(0, abs=3 * np.std(values) / np.sqrt(len(values)))
    assert min(values) < 0


def test_distance_of_shifted_gaussians_is_known():
    """D = 1, N(0, 1) against N(1, 1): E (xy + 1)³ = 1 + 3 E x E y + 3 E x² E y² + E x³ E y³."""
    raw = np.array([[0, 1, 0], [1, 2, 4]])  # the first three moments of each

    def expected(a, b):
        return 1 + 3 * a[0] * b[0] + 3 * a[1] * b[1] + a[2] * b[2]

    exact = expected(raw[0], raw[0]) + expected(raw[1], raw[1]) - 2 * expected(raw[0], raw[1])
    mean, deviation = kernel_distance(features(30_000, 1, 0), features(30_000, 1, 1, shift=1), 50, 500)
    assert mean == pytest.approx(exact, abs=5 * deviation / np.sqrt(50))
    assert mean == pytest.approx(exact, rel=0.1)


def test_number_depends_on_the_seed_and_not_on_the_order_of_images():
    real, fake = features(60, 5, 0), features(50, 5, 1)
    value = kernel_distance(real, fake, 10, 20)
    assert kernel_distance(real[::-1].copy(), np.roll(fake, 7, axis=0), 10, 20) == value
    assert kernel_distance(real, fake, 10, 20, seed=1) != value


def test_order_by_content_tells_rows_apart_by_all_their_components():
    rows = torch.tensor([[0.0, 1.0], [0.0, -0.0], [0.0, 0.0], [-1.0, 5.0]])
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        one = rows.to(dtype)
        other = one[[2, 3, 1, 0]]
        assert torch.equal(one[order_by_content(one)], other[order_by_content(other)])
    assert order_by_content(rows)[:2].tolist() == [1, 2]  # equal rows, by position


def test_subsets_larger_than_a_set_are_reduced_with_a_warning(caplog):
    real, fake = features(30, 3, 0), features(12, 3, 1)
    with caplog.at_level(logging.WARNING, logger="imago"):
        assert kernel_distance(real, fake, 10, 1000) == kernel_distance(real, fake, 10, 12)
    assert [record.getMessage() for record in caplog.records] == [
        "kernel distance: subsets of 12 images instead of 1000, as there are 30 real and 12 generated ones"
    ]


def test_mistakes_are_told():
    x = features(20, 4)
    bad = x.copy()
    bad[3, 1] = np.inf
    with pytest.raises(UserError, match="real features: NaN or infinity for 1 of 20"):
        kernel_distance(bad, x)
    with pytest.raises(UserError, match="generated features: an empty set"):
        kernel_distance(x, x[:0])
    with pytest.raises(UserError, match="of 4 and 3 components"):
        kernel_distance(x, x[:, :3])
    with pytest.raises(UserError, match="at least two real and two generated"):
        kernel_distance(x, x[:1])
    with pytest.raises(UserError, match="subsets=0"):
        kernel_distance(x, x, subsets=0)
    with pytest.raises(UserError, match="at least two real"):
        KernelDistance().compute()


# --- in batches and on several processes ------------------------------------------------------------------------------


def filled(real, fake, batch, **options):
    metric = KernelDistance(subsets=8, subset_size=20, seed=3, **options)
    for x, is_real in ((real, True), (fake, False)):
        for part in torch.from_numpy(x).split(batch):
            metric.update(part, real=is_real)
    return metric


def numbers(metric):
    return tuple(float(value) for value in metric.compute())


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_metric_equals_the_function_whatever_the_batches(batch):
    real, fake = features(50, 6, 0), features(40, 6, 1)
    assert numbers(filled(real, fake, batch)) == pytest.approx(kernel_distance(real, fake, 8, 20, 3), rel=1e-12)


def synchronised(metric, other):
    """The metric, which on `compute` gathers its states from two processes, the other one's being `other`."""
    sent = []
    other.sync(dist_sync_fn=lambda state, group: sent.append(state) or [state], distributed_available=lambda: True)
    metric.dist_sync_fn = lambda state, group: [state, sent.pop(0)]
    metric.distributed_available_fn = lambda: True
    return metric


def test_two_processes_with_half_the_images_each_equal_one_with_all():
    real, fake = features(50, 6, 0), features(40, 6, 1)
    halves = filled(real[::2], fake[:10], 7), filled(real[1::2], fake[10:], 9)
    assert numbers(synchronised(*halves)) == numbers(filled(real, fake, 10))


def test_reset_keeps_the_real_side_on_request():
    real, fake, other = features(50, 6, 0), features(40, 6, 1), features(30, 6, 2)
    for reset_real in (True, False):
        metric = filled(real, fake, 50, reset_real=reset_real)
        metric.compute()
        for _ in range(2):
            metric.reset()
            metric.update(torch.from_numpy(other), real=False)
            if reset_real:
                with pytest.raises(UserError, match="at least two real"):
                    metric.compute()
            else:
                assert numbers(metric) == kernel_distance(real, other, 8, 20, 3)
