import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy import stats

from imago.errors import UserError
from imago.metrics.memorisation import MemorisationMetric, memorisation, memorisation_of_distances


def normals(seed, count, size=6):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, size)))


def test_copies():
    training = normals(0, 300)
    result = memorisation(training, normals(1, 100), training[:50] + 1e-6)
    assert (result.share, result.close) == (1, 1)
    assert result.z > 8
    assert (result.held_out, result.generated) == (100, 50)


def test_images_far_from_the_data():
    result = memorisation(normals(0, 300), normals(1, 100), normals(2, 80) + 50)
    assert (result.share, result.close) == (0, 0)
    assert result.z < -8


def test_a_generator_that_draws_from_the_distribution_has_one_half():
    training = normals(0, 500)
    results = [memorisation(training, normals(2 * i, 200), normals(2 * i + 1, 150), 0.05) for i in range(1, 201)]
    z = np.array([result.z for result in results])
    assert abs(z.mean()) < 4 / math.sqrt(200)
    assert z.std() == pytest.approx(1, abs=0.2)  # 4 standard errors of a standard deviation of 200
    close = np.array([result.close for result in results])
    expected, error = results[0].expected_close, results[0].close_standard_error
    assert expected == 10 / 201
    assert close.mean() == pytest.approx(expected, abs=4 * error / math.sqrt(200))
    assert close.std() == pytest.approx(error, rel=0.25)


def test_half_copies_and_half_poor_images_show_as_close_ones():
    training = normals(0, 400)
    generated = torch.cat([training[:60] + 1e-5, normals(3, 60) + 30])
    result = memorisation(training, normals(1, 200), generated)
    assert result.share == 0.5
    assert result.z == 0
    assert result.close == 0.5
    assert (result.close - result.expected_close) / result.close_standard_error > 20


@pytest.mark.parametrize("decimals", [1, 12])
def test_share_and_its_error_against_scipy(decimals):
    """With one decimal, many distances are equal."""
    rng = np.random.default_rng(4)
    held_out, generated = rng.gamma(3, size=90).round(decimals), (rng.gamma(3, size=130) * 0.9).round(decimals)
    result = memorisation_of_distances(torch.from_numpy(held_out), torch.from_numpy(generated))
    test = stats.mannwhitneyu(held_out, generated, alternative="two-sided", method="asymptotic", use_continuity=False)
    assert result.share == pytest.approx(test.statistic / (90 * 130), rel=1e-12)
    assert 2 * stats.norm.sf(abs(result.z)) == pytest.approx(test.pvalue, rel=1e-9)


def test_close_against_its_definition():
    held_out, generated = torch.arange(1.0, 200.0), torch.tensor([0.5, 2.0, 1.9, 100.0, 1e9])
    result = memorisation_of_distances(held_out, generated)  # k = 0.01 · 200: below the second smallest, 2
    assert result.close == 2 / 5
    assert result.expected_close == 2 / 200
    exact = stats.betabinom(5, 2, 198).std() / 5
    assert result.close_standard_error == pytest.approx(exact, rel=1e-12)


def test_equal_distances_everywhere():
    result = memorisation_of_distances(torch.ones(5), torch.ones(7))
    assert (result.share, result.standard_error, result.z, result.close) == (0.5, 0, 0, 0)


def test_metric_equals_the_function_and_merges_processes():
    training, held_out, generated = normals(0, 100), normals(1, 41), normals(2, 33)
    expected = asdict(memorisation(training, held_out, generated))
    whole = MemorisationMetric(training)
    for part in held_out.split(7):
        whole.update(part, real=True)
    for part in generated.split(5):
        whole.update(part, real=False)
    assert whole.compute() == expected

    one, two = MemorisationMetric(training), MemorisationMetric(training)
    one.update(held_out[:20], real=True)
    one.update(generated[:1], real=False)
    two.update(held_out[20:], real=True)
    two.update(generated[1:], real=False)
    states = {id(one.held_out[0]): "held_out", id(one.generated[0]): "generated"}

    def gather(state, group=None):
        """What each process gets of every process's state."""
        return [getattr(process, states[id(state)])[0] for process in (one, two)]

    one.dist_sync_fn, one.distributed_available_fn = gather, lambda: True
    assert one.compute() == expected


def in_a_process(rank: int, folder: str) -> None:
    """The second process has no generated images."""
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", world_size=2, rank=rank)
    try:
        metric = MemorisationMetric(normals(0, 100))
        metric.update(normals(1, 41)[rank::2], real=True)
        if rank == 0:
            metric.update(normals(2, 33), real=False)
        torch.save(metric.compute(), f"{folder}/{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.ddp
def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(in_a_process, (str(tmp_path),), nprocs=2)
    expected = asdict(memorisation(normals(0, 100), normals(1, 41), normals(2, 33)))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found == pytest.approx(expected, rel=1e-12)


def test_reset_may_keep_the_held_out_images():
    training = normals(0, 100)
    metric = MemorisationMetric(training, reset_real=False)
    metric.update(normals(1, 30), real=True)
    for seed in (2, 3):
        metric.update(normals(seed, 20), real=False)
        assert metric.compute() == asdict(memorisation(training, normals(1, 30), normals(seed, 20)))
        metric.reset()
    forgetful = MemorisationMetric(training)
    forgetful.update(normals(1, 30), real=True)
    forgetful.reset()
    with pytest.raises(UserError, match="no held-out images"):
        forgetful.compute()
    with pytest.raises(UserError, match="no generated images"):
        metric.compute()


def test_errors():
    distances = torch.ones(3)
    with pytest.raises(UserError, match="closest=1"):
        memorisation_of_distances(distances, distances, 1)
    with pytest.raises(UserError, match="generated images must be"):
        memorisation_of_distances(distances, torch.ones(0))
    with pytest.raises(UserError, match="held-out images: NaN"):
        memorisation_of_distances(distances * torch.nan, distances)
    with pytest.raises(UserError, match="components"):
        memorisation(normals(0, 5), normals(1, 5), normals(2, 5, 3))
