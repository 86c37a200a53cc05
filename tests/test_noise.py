import torch
from scipy import stats

from imago.noise import normal_tensors


def test_an_item_depends_on_its_position_alone():
    whole = normal_tensors(1, "noise", 100, 8, (3, 4, 4))
    assert torch.equal(whole[5:], normal_tensors(1, "noise", 105, 3, (3, 4, 4)))


def test_items_purposes_and_seeds_are_independent_standard_normals():
    draws = [normal_tensors(seed, purpose, 0, 4, (50, 50)) for seed, purpose in ((0, "a"), (0, "b"), (1, "a"))]
    items = torch.cat(draws).flatten(1).double()
    assert torch.corrcoef(items).fill_diagonal_(0).abs().max() < 5 / 50  # five standard errors
    assert stats.kstest(items.flatten().numpy(), "norm").pvalue > 1e-3


def test_drawing_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    normal_tensors(0, "noise", 0, 2, (2,))
    assert torch.equal(torch.get_rng_state(), before)
