import logging
import math

import numpy as np
import pytest
import torch
from scipy import linalg

from imago.errors import UserError
from imago.metrics import frechet
from imago.metrics.frechet import FrechetDistance, frechet_distance, frechet_distance_of_moments


def features(count, size, seed=0, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    return shift + scale * rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) / math.sqrt(size)


def covariance(size, seed, rank=None):
    factor = np.random.default_rng(seed).normal(size=(size, rank or size))
    return factor @ factor.T / size


def reference(mean1, cov1, mean2, cov2):
    """Equation 6 of Heusel et al. 2017 by SciPy's matrix root."""
    root = linalg.sqrtm(cov1 @ cov2)
    assert np.abs(root.imag).max() < 1e-6
    return np.sum((mean1 - mean2) ** 2) + np.trace(cov1 + cov2 - 2 * root.real)


def moments(x):
    return x.mean(axis=0), np.cov(x, rowvar=False)


@pytest.fixture(autouse=True)
def _fresh_warnings():
    frechet._warn_if_singular.cache_clear()


@pytest.mark.parametrize("size", [2, 8, 64])
def test_distance_is_that_of_scipys_matrix_root(size):
    real, fake = features(300, size, 0), features(200, size, 1, scale=1.5, shift=0.3)
    expected = reference(*moments(real), *moments(fake))
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(torch.from_numpy(real).float(), torch.from_numpy(fake).float()) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("size", [1, 5, 40])
def test_distance_of_gaussians_that_commute_is_known(size):
    """Σ = diag(s²): |μ₁ - μ₂|² + Σ (s₁ - s₂)²."""
    rng = np.random.default_rng(size)
    mean1, mean2, s1, s2 = (
        rng.normal(size=size),
        rng.normal(size=size),
        rng.uniform(0, 3, size),
        rng.uniform(0, 3, size),
    )
    s1[0] = 0  # singular
    expected = np.sum((mean1 - mean2) ** 2) + np.sum((s1 - s2) ** 2)
    rotation = linalg.qr(rng.normal(size=(size, size)))[0]
    cov1, cov2 = ((rotation * s**2) @ rotation.T for s in (s1, s2))
    assert frechet_distance_of_moments(mean1, cov1, mean2, cov2) == pytest.approx(expected, rel=1e-9)


def test_distance_of_large_samples_approaches_that_of_their_gaussians():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(50_000, 4)), 2 * rng.normal(size=(50_000, 4)) + 1
    assert frechet_distance(real, fake) == pytest.approx(4 * (1 + 1), rel=0.02)


@pytest.mark.parametrize(("rank1", "rank2"), [(3, 40), (40, 3), (3, 3), (20, 30)])
def test_singular_covariances_give_the_nuclear_norm(rank1, rank2):
    """With Σᵢ = XᵢXᵢᵀ the trace of the root is the sum of the singular values of X₁ᵀX₂: no root of a root."""
    rng = np.random.default_rng(rank1 * 100 + rank2)
    x1, x2 = rng.normal(size=(40, rank1)), rng.normal(size=(40, rank2))
    nuclear = linalg.svdvals(x1.T @ x2).sum()
    expected = np.trace(x1 @ x1.T + x2 @ x2.T) - 2 * nuclear
    zero = np.zeros(40)
    assert frechet_distance_of_moments(zero, x1 @ x1.T, zero, x2 @ x2.T) == pytest.approx(expected, rel=1e-10)


def test_covariances_without_any_variance():
    zero, one = np.zeros(3), np.ones(3)
    assert frechet_distance_of_moments(zero, np.zeros((3, 3)), one, np.zeros((3, 3))) == pytest.approx(3)
    assert frechet_distance_of_moments(zero, np.zeros((3, 3)), zero, np.eye(3)) == pytest.approx(3)


@pytest.mark.parametrize("count", [10, 200])
def test_a_set_is_at_distance_nothing_from_itself_and_the_order_of_sets_and_images_does_not_matter(count):
    real, fake = features(count, 32, 0), features(count, 32, 1)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(real, fake) == pytest.approx(frechet_distance(fake, real), rel=1e-9)
    assert frechet_distance(real[::-1].copy(), fake) == pytest.approx(frechet_distance(real, fake), rel=1e-9)


def test_few_images_are_warned_about_once(caplog):
    few, many = features(16, 16, 0), features(17, 16, 1)
    with caplog.at_level(logging.WARNING, logger="imago"):
        frechet_distance(many, many)
        assert not caplog.records
        value = frechet_distance(few, many)
        frechet_distance(few, many)
    assert value == pytest.approx(reference(*moments(few), *moments(many)), rel=1e-6)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "16 images" in message
    assert "singular" in message
    assert "more than 16 images" in message
    assert "\n" not in message


def test_mistakes_are_told():
    x = features(20, 4)
    bad = x.copy()
    bad[3, 1] = np.nan
    with pytest.raises(UserError, match="generated features: NaN or infinity for 1 of 20"):
        frechet_distance(x, bad)
    with pytest.raises(UserError, match="real features: an empty set"):
        frechet_distance(x[:0], x)
    with pytest.raises(UserError, match="of 4 and 3 components"):
        frechet_distance(x, x[:, :3])
    with pytest.raises(UserError, match="of 1 generated images: a covariance needs at least two"):
        frechet_distance(x, x[:1])
    with pytest.raises(UserError, match=r"\(D,\), \(D, D\)"):
        frechet_distance_of_moments(x[0], x, x[0], x)
    with pytest.raises(UserError, match="NaN"):
        frechet_distance_of_moments(x[0], np.full((4, 4), np.nan), x[0], np.eye(4))
    with pytest.raises(UserError, match="at least one"):
        FrechetDistance(0)
    with pytest.raises(UserError, match="3 components, where 4"):
        FrechetDistance(4).update(torch.from_numpy(x[:, :3]), real=True)


# --- in batches and on several processes ------------------------------------------------------------------------------


def filled(real, fake, batch, **options):
    metric = FrechetDistance(real.shape[1], **options)
    for x, is_real in ((real, True), (fake, False)):
        for part in torch.from_numpy(x).split(batch):
            metric.update(part, real=is_real)
    return metric


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_metric_equals_the_function_whatever_the_batches(batch):
    real, fake = features(90, 8, 0, shift=50), features(70, 8, 1, shift=51)
    assert float(filled(real, fake, batch).compute()) == pytest.approx(frechet_distance(real, fake), rel=1e-8)


def synchronised(metric, other):
    """The metric, which on `compute` gathers its states from two processes, the other one's being `other`."""
    sent = []
    other.sync(dist_sync_fn=lambda state, group: sent.append(state) or [state], distributed_available=lambda: True)
    metric.dist_sync_fn = lambda state, group: [state, sent.pop(0)]
    metric.distributed_available_fn = lambda: True
    return metric


def test_two_processes_with_half_the_images_each_equal_one_with_all():
    real, fake = features(90, 8, 0), features(70, 8, 1)
    whole = filled(real, fake, 10)
    halves = filled(real[::2], fake[:20], 10), filled(real[1::2], fake[20:], 10)
    assert float(synchronised(*halves).compute()) == pytest.approx(float(whole.compute()), rel=1e-10)


def test_reset_keeps_the_real_side_on_request():
    real, fake, other = features(90, 8, 0), features(70, 8, 1), features(70, 8, 2)
    for reset_real in (True, False):
        metric = filled(real, fake, 50, reset_real=reset_real)
        metric.compute()
        for _ in range(2):
            metric.reset()
            metric.update(torch.from_numpy(other), real=False)
            if reset_real:
                with pytest.raises(UserError, match="0 real images"):
                    metric.compute()
            else:
                assert float(metric.compute()) == pytest.approx(frechet_distance(real, other), rel=1e-9)
