"""The step outside of a run: its state and its all-reduce."""

import pytest
import torch

from imago.distributed import average_over_processes
from imago.errors import UserError
from imago.growth import GrowthSchedule
from imago.losses import WganGp
from lightning_modules.adversarial import spread
from lightning_modules.pggan import PGGAN


def make(seed=0, **options):
    schedule = GrowthSchedule(16, 4, 64, 64, 64, batch_size=8)
    return PGGAN(WganGp(), schedule, seed=seed, latent_size=8, fmap_base=64, fmap_max=8, **options)


def test_initial_weights_are_a_function_of_the_seed():
    torch.manual_seed(1)
    first = make().state_dict()
    torch.manual_seed(2)
    second, other = make().state_dict(), make(seed=1).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_making_networks_leaves_the_global_random_state_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    make()
    assert torch.equal(torch.get_rng_state(), before)


def test_averaged_generator_starts_as_the_generator_and_takes_no_gradients():
    module = make()
    average, generator = module.generator_ema.state_dict(), module.generator.state_dict()
    assert all(torch.equal(average[name], generator[name]) for name in generator)
    assert not any(parameter.requires_grad for parameter in module.generator_ema.parameters())


def test_growth_and_averaging_come_with_the_model():
    assert [type(callback).__name__ for callback in make().configure_callbacks()] == [
        "ProgressiveGrowing",
        "GeneratorEMA",
    ]


def test_averaging_over_a_single_process_changes_nothing():
    tensors = [torch.tensor([1.0, 2.0]), torch.tensor(3.0)]
    average_over_processes(tensors)
    assert torch.equal(tensors[0], torch.tensor([1.0, 2.0]))
    assert tensors[1] == 3


@pytest.mark.parametrize("options", [{"n_critic": 0}, {"betas": [0.5]}, {"betas": [0.0, 1.0]}, {"eps": 0.0}])
def test_options_that_cannot_train_are_refused(options):
    with pytest.raises(UserError, match=f"model.{next(iter(options))}"):
        make(**options)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_spread_is_numpys_standard_deviation(memory_format):
    images = 3 + 2 * torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = images.double().numpy().std(axis=0).mean()
    assert float(spread(images.contiguous(memory_format=memory_format))) == pytest.approx(expected, rel=1e-6)
    assert spread(images[:1]) == 0
    images[0, 0, 0, 0] = float("nan")
    assert spread(images).isnan()
