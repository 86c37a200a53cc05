import copy

import pytest
import torch
from torch import nn

from imago.networks.batch_norm import GroupedBatchNorm2d, normalization, normalized, update_running_statistics


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def layer(channels=3):
    found = GroupedBatchNorm2d(channels).double()
    nn.init.normal_(found.weight)
    nn.init.normal_(found.bias)
    return found


def doubles(*shape):
    return 2 + 3 * torch.randn(*shape, dtype=torch.float64)


def test_groups_are_normalised_as_if_they_came_alone():
    norm, plain, x = layer(), nn.BatchNorm2d(3).double(), doubles(6, 3, 4, 5)
    plain.load_state_dict(norm.state_dict())
    expected = torch.cat([plain(x[:2]), plain(x[2:4]), plain(x[4:])])
    torch.testing.assert_close(norm(x, 2), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(norm(x), plain(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="whole groups of 4"):
        norm(x, 4)


def test_running_statistics_move_once_a_step_by_the_mean_of_all_groups():
    norm, x, y = layer(), doubles(6, 3, 4, 5), doubles(2, 3, 4, 5)
    norm(x, 2)
    norm(y)
    assert not norm.running_mean.any()  # not before the step is over
    update_running_statistics([norm])
    groups = [*x.split(2), y]
    mean = torch.stack([group.mean(dim=(0, 2, 3)) for group in groups]).mean(0)
    variance = torch.stack([group.var(dim=(0, 2, 3)) for group in groups]).mean(0)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * variance)
    before = copy.deepcopy(norm.state_dict())
    update_running_statistics([norm])  # nothing has passed
    assert all(torch.equal(before[name], tensor) for name, tensor in norm.state_dict().items())


def test_running_statistics_do_not_depend_on_micro_batches():
    whole, parts, x = layer(), layer(), doubles(8, 3, 4, 4)
    whole(x, 2)
    for micro in x.split(4):
        parts(micro, 2)
    for norm in (whole, parts):
        update_running_statistics([norm])
    torch.testing.assert_close(whole.running_mean, parts.running_mean)
    torch.testing.assert_close(whole.running_var, parts.running_var)


def test_a_step_that_is_not_finite_is_forgotten():
    norm, x = layer(), doubles(2, 3, 4, 4)
    x[0, 0, 0, 0] = float("nan")
    norm(x)
    update_running_statistics([norm])
    assert not norm.running_mean.any()
    norm(doubles(2, 3, 4, 4))
    update_running_statistics([norm])
    assert norm.running_mean.isfinite().all()


def test_evaluation_normalises_each_image_by_itself():
    norm, x = layer(), doubles(6, 3, 4, 4)
    norm(x)
    update_running_statistics([norm])
    norm.eval()
    torch.testing.assert_close(norm(x)[:1], norm(x[:1]))


def test_gradients_through_groups():
    norm, x = layer(2), doubles(4, 2, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: norm(x, 2), (x,))


@pytest.mark.parametrize("kind", ["layer", "none"])
def test_other_kinds_know_no_groups(kind):
    norm, x = normalization(kind, 3), torch.randn(6, 3, 4, 4)
    torch.testing.assert_close(normalized(norm, x, 2), torch.cat([norm(part) for part in x.split(2)]))
