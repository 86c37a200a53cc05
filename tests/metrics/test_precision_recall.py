import importlib
import math

import numpy as np
import pytest
import torch

from imago.errors import UserError
from imago.metrics.precision_recall import PrecisionRecall, precision_recall

module = importlib.import_module("imago.metrics.precision_recall")  # its function has the same name


def features(count, size, seed=0, shift=0.0):
    return shift + np.random.default_rng(seed).normal(size=(count, size))


def share_among(queries, references, k):
    """Kynkäänniemi et al. 2019, equations 1 and 2, by loops."""
    radii = []
    for i, reference in enumerate(references):
        others = [math.dist(reference, other) for j, other in enumerate(references) if j != i]
        radii.append(sorted(others)[k - 1])
    among = [
        any(math.dist(query, reference) <= radius for reference, radius in zip(references, radii, strict=True))
        for query in queries
    ]
    return sum(among) / len(among)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("size", "shift"), [(1, 0.5), (4, 0.8), (32, 0.2)])
def test_numbers_are_those_of_the_loops(k, size, shift):
    real, fake = features(60, size, 0), features(45, size, 1, shift)
    expected = share_among(fake, real, k), share_among(real, fake, k)
    assert precision_recall(real, fake, k) == expected
    assert precision_recall(torch.from_numpy(real).float(), torch.from_numpy(fake).float(), k) == expected


def test_blocks_of_the_distance_matrix_do_not_show(monkeypatch):
    real, fake = features(60, 4, 0), features(45, 4, 1, 0.8)
    expected = precision_recall(real, fake)
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", 130)
    assert precision_recall(real, fake) == expected


@pytest.mark.parametrize("k", [1, 2, 3])
def test_many_exact_ties_on_a_grid(k):
    """Points of a small grid of integers: points on surfaces, and balls of radius 0 around repeated points."""
    rng = np.random.default_rng(k)
    for shift in (0, 1000):
        real, fake = (shift + rng.integers(0, 6, (40, 3)).astype(np.float64) for _ in range(2))
        assert precision_recall(real, fake, k) == (share_among(fake, real, k), share_among(real, fake, k))


def test_images_on_a_surface_are_among_the_set():
    real = np.array([[0.0], [1.0]])  # balls of radius 1
    assert precision_recall(real, np.array([[-1.0], [2.0]]), k=1)[0] == 1
    assert precision_recall(real, np.array([[-1.001], [2.001]]), k=1)[0] == 0


def test_copies_of_real_images_are_precise_even_where_balls_are_points():
    real = np.repeat(features(10, 64, 0, shift=100), 4, axis=0)  # with k = 3, every radius is 0
    fake = np.concatenate([real[:8], real[:8] + 1e-6])
    assert precision_recall(real, fake)[0] == 0.5


def test_fakes_that_are_some_of_the_real_images_are_precise_and_do_not_cover():
    real = np.concatenate([features(50, 4, 0), features(50, 4, 1, shift=100)])
    assert precision_recall(real, real[:50]) == (1, 0.5)
    assert precision_recall(real[:50], real) == (0.5, 1)
    assert precision_recall(real, real) == (1, 1)


def test_clusters_apart_share_nothing():
    assert precision_recall(features(30, 8, 0), features(30, 8, 1, shift=100)) == (0, 0)


def test_mistakes_are_told():
    x = features(20, 4)
    bad = x.copy()
    bad[3, 1] = np.nan
    with pytest.raises(UserError, match="generated features: NaN or infinity for 1 of 20"):
        precision_recall(x, bad)
    with pytest.raises(UserError, match="real features: an empty set"):
        precision_recall(x[:0], x)
    with pytest.raises(UserError, match="of 4 and 3 components"):
        precision_recall(x, x[:, :3])
    with pytest.raises(UserError, match="k=3 of 20 real and 1 generated images"):
        precision_recall(x, x[:1])
    with pytest.raises(UserError, match="k=0"):
        precision_recall(x, x, k=0)


# --- in batches and on several processes ------------------------------------------------------------------------------


def filled(real, fake, batch, **options):
    metric = PrecisionRecall(**options)
    for x, is_real in ((real, True), (fake, False)):
        for part in torch.from_numpy(x).split(batch):
            metric.update(part, real=is_real)
    return metric


def numbers(metric):
    return tuple(float(value) for value in metric.compute())


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_metric_equals_the_function_whatever_the_batches(batch):
    real, fake = features(60, 4, 0), features(45, 4, 1, 0.8)
    assert numbers(filled(real, fake, batch, k=2)) == precision_recall(real, fake, 2)


def test_two_processes_with_half_the_images_each_equal_one_with_all():
    real, fake = features(60, 4, 0), features(45, 4, 1, 0.8)
    metric, other = filled(real[::2], fake[:10], 7), filled(real[1::2], fake[10:], 9)
    sent = []
    other.sync(dist_sync_fn=lambda state, group: sent.append(state) or [state], distributed_available=lambda: True)
    metric.dist_sync_fn = lambda state, group: [state, sent.pop(0)]
    metric.distributed_available_fn = lambda: True
    assert numbers(metric) == precision_recall(real, fake)


def test_reset_keeps_the_real_side_on_request():
    real, fake, other = features(60, 4, 0), features(45, 4, 1, 0.8), features(30, 4, 2)
    for reset_real in (True, False):
        metric = filled(real, fake, 50, reset_real=reset_real)
        metric.compute()
        for _ in range(2):
            metric.reset()
            metric.update(torch.from_numpy(other), real=False)
            if reset_real:
                with pytest.raises(UserError, match="need real and generated"):
                    metric.compute()
            else:
                assert numbers(metric) == precision_recall(real, other)
