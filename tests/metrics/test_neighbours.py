import numpy as np
import pytest
import torch

from imago.errors import UserError
from imago.metrics import neighbours
from imago.metrics.neighbours import nearest_neighbours


def brute_force(queries, references, k, same_set=False):
    """All distances from differences, in float64; ties by index."""
    q, r = (np.asarray(x, dtype=np.float64) for x in (queries, references))
    distances = np.stack([np.sqrt(((row - r) ** 2).sum(axis=1)) for row in q])
    if same_set:
        np.fill_diagonal(distances, np.inf)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), order


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("same_set", [False, True])
def test_against_brute_force(k, offset, same_set):
    """The offset would drown the differences in float32 if distances came from the expanded square alone."""
    rng = np.random.default_rng(0)
    references = (rng.normal(size=(200, 24)) + offset).astype(np.float32)
    queries = references if same_set else (rng.normal(size=(70, 24)) + offset).astype(np.float32)
    distances, indices = nearest_neighbours(queries, references, k, same_set)
    expected_distances, expected_indices = brute_force(queries, references, k, same_set)
    assert distances.dtype == torch.float32
    assert indices.dtype == torch.int64
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-6)


def test_float64_stays_float64():
    rng = np.random.default_rng(1)
    queries, references = rng.normal(size=(9, 3)), rng.normal(size=(30, 3))
    distances, _ = nearest_neighbours(queries, references, 2)
    assert distances.dtype == torch.float64
    np.testing.assert_allclose(distances, brute_force(queries, references, 2)[0], rtol=1e-14)


def test_equal_features_are_exactly_zero_apart():
    features = torch.from_numpy(np.random.default_rng(2).normal(size=(40, 16)) * 1e3 + 7e3).float()
    distances, indices = nearest_neighbours(features, features)
    assert (distances == 0).all()
    assert torch.equal(indices[:, 0], torch.arange(40))


def test_same_set_leaves_out_the_query_but_not_its_double():
    features = torch.from_numpy(np.random.default_rng(3).normal(size=(10, 4)))
    features[7] = features[2]
    distances, indices = nearest_neighbours(features, features, 1, same_set=True)
    assert (distances[2], indices[2]) == (0, 7)
    assert (distances[7], indices[7]) == (0, 2)
    others = [0, 1, 3, 4, 5, 6, 8, 9]
    assert (distances[others] > 0).all()
    assert (indices[:, 0] != torch.arange(10)).all()


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(4)
    queries, references = rng.normal(size=(53, 8)), rng.normal(size=(31, 8))
    for same_set, pair in ((False, (queries, references)), (True, (queries, queries))):
        whole = nearest_neighbours(*pair, 3, same_set)
        with monkeypatch.context() as patch:
            patch.setattr(neighbours, "_CHUNK_ELEMENTS", 7 * len(pair[1]))
            in_blocks = nearest_neighbours(*pair, 3, same_set)
        assert torch.equal(whole[1], in_blocks[1])
        torch.testing.assert_close(whole[0], in_blocks[0], rtol=1e-14, atol=0)


def test_errors():
    features = torch.zeros(5, 3)
    with pytest.raises(UserError, match=r"6 nearest neighbours of 5 images: k must lie in \[1, 5\]"):
        nearest_neighbours(features, features, 6)
    with pytest.raises(UserError, match=r"must lie in \[1, 4\]"):
        nearest_neighbours(features, features, 5, same_set=True)
    with pytest.raises(UserError, match="k must lie"):
        nearest_neighbours(features, features, 0)
    with pytest.raises(UserError, match="3 and 4 components"):
        nearest_neighbours(features, torch.zeros(5, 4))
    with pytest.raises(UserError, match="queries: NaN or infinity for 5 of 5"):
        nearest_neighbours(features * torch.nan, features)
