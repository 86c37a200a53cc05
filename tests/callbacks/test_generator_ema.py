from types import SimpleNamespace

import pytest
import torch
from torch import nn

from callbacks.generator_ema import GeneratorEMA
from imago.errors import UserError
from imago.networks import ProgressiveGenerator


class Stub:
    """As much of an AdversarialModule as the callback sees: two generators and the clock."""

    def __init__(self, resolution=4, alpha=1.0):
        torch.manual_seed(0)
        self.generator = ProgressiveGenerator(8, latent_size=3, fmap_base=16, fmap_max=3).double()
        self.generator_ema = ProgressiveGenerator(8, latent_size=3, fmap_base=16, fmap_max=3).double()
        for parameter in [*self.generator.parameters(), *self.generator_ema.parameters()]:
            nn.init.normal_(parameter)  # biases too, which start at zero in both
        self.stage = SimpleNamespace(resolution=resolution, alpha=alpha)
        self.images_seen = self.step_started_at = 0

    def active_parameters(self, network):
        return network.active_parameters(self.stage.resolution, self.stage.alpha)

    def step(self, ema, images):
        self.step_started_at, self.images_seen = self.images_seen, self.images_seen + images
        ema.on_train_batch_end(None, self, None, None, 0)

    def distances(self):
        pairs = zip(self.generator_ema.parameters(), self.generator.parameters(), strict=True)
        return [(old - new).detach().clone() for old, new in pairs]


@pytest.mark.parametrize("batch_size", [1, 4, 16, 100, 400, 800])
def test_after_a_half_life_the_distance_to_constant_weights_has_halved(batch_size):
    module, ema = Stub(resolution=8, alpha=0.5), GeneratorEMA(half_life=400)
    before = module.distances()
    for _ in range(800 // batch_size):
        module.step(ema, batch_size)
    for start, end in zip(before, module.distances(), strict=True):
        torch.testing.assert_close(end, start / 4, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 64])
def test_a_decay_counts_steps_whatever_their_size(batch_size):
    module, ema = Stub(resolution=8, alpha=0.5), GeneratorEMA(half_life=None, decay=0.999)
    before = module.distances()
    for _ in range(3):
        module.step(ema, batch_size)
    for start, end in zip(before, module.distances(), strict=True):
        torch.testing.assert_close(end, 0.999**3 * start, rtol=1e-9, atol=1e-12)


def test_the_papers_decay_has_a_half_life_of_693_steps():
    """Official code: 0.999 a step, hence 2.8 thousand images at batch 4 and 11.1 thousand at batch 16."""
    by_step = GeneratorEMA(half_life=None, decay=0.999).decay_for(16, 10**6)
    by_images = GeneratorEMA(half_life=11_090).decay_for(16, 10**6)
    assert by_step**693 == pytest.approx(0.5, abs=2e-4)
    assert by_images == pytest.approx(by_step, rel=1e-6)


def test_changing_weights_are_averaged():
    """average ← decay · average + (1 − decay) · weight, by hand for one number."""
    module, ema = Stub(resolution=8, alpha=0.5), GeneratorEMA(half_life=None, decay=0.9)
    old, new = module.generator_ema.blocks[0].first.bias, module.generator.blocks[0].first.bias
    expected = 2.0
    with torch.no_grad():
        old.fill_(expected)
        for weight in (1.0, -3.0, 0.5):
            new.fill_(weight)
            module.step(ema, 4)
            expected = 0.9 * expected + 0.1 * weight
    torch.testing.assert_close(old, torch.full_like(old, expected), rtol=1e-12, atol=0)


def test_ramp_up_limits_the_half_life_to_a_share_of_images_seen():
    ema = GeneratorEMA(half_life=1000, rampup=0.05)
    for images_seen, half_life in ((16, 0.8), (1600, 80), (20_000, 1000), (10**6, 1000)):
        assert ema.decay_for(16, images_seen) == pytest.approx(2 ** (-16 / half_life), rel=1e-12)
    module = Stub(resolution=8, alpha=0.5)
    module.images_seen = 1600 - 16
    before = module.distances()
    module.step(ema, 16)
    for start, end in zip(before, module.distances(), strict=True):
        torch.testing.assert_close(end, start * 2 ** (-16 / 80), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("resolution", "alpha"), [(4, 1.0), (8, 0.5), (8, 1.0)])
def test_inactive_blocks_are_left_alone(resolution, alpha):
    module, ema = Stub(resolution, alpha), GeneratorEMA(half_life=10)
    state = {name: value.clone() for name, value in module.generator_ema.state_dict().items()}
    module.step(ema, 16)
    changed = {name for name, value in module.generator_ema.state_dict().items() if not torch.equal(value, state[name])}
    layers = ["blocks.0", *(["blocks.1", "to_rgb.1"] if resolution == 8 else ["to_rgb.0"])]
    layers += ["to_rgb.0"] if alpha < 1 else []
    assert changed == {name for name in state if name.startswith(tuple(layers))}


def test_running_statistics_are_averaged_and_counters_copied():
    """They belong to the weights of their moment, so they follow them at the same rate."""

    class Normalised(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))
            self.register_buffer("running_mean", torch.full((2,), value))
            self.register_buffer("num_batches_tracked", torch.tensor(int(value)))

    module = Stub()
    module.generator, module.generator_ema = Normalised(3.0), Normalised(1.0)
    module.active_parameters = lambda network: list(network.parameters())
    module.step(GeneratorEMA(half_life=10), 10)
    assert (module.generator_ema.running_mean == 2).all()
    assert module.generator_ema.num_batches_tracked == 3


def test_no_graph_is_kept():
    module = Stub(resolution=8)
    module.step(GeneratorEMA(), 16)
    assert all(p.grad_fn is None for p in module.generator_ema.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": 0.999}, "give either model.ema_half_life .* or model.ema_decay"),
        ({"half_life": None}, "give either model.ema_half_life .* or model.ema_decay"),
        ({"half_life": 0}, "model.ema_half_life must be above 0, not 0"),
        ({"half_life": -5}, "model.ema_half_life must be above 0, not -5"),
        ({"half_life": None, "decay": 1.0}, r"model.ema_decay must lie in \[0, 1\)"),
        ({"half_life": None, "decay": -0.1}, r"model.ema_decay must lie in \[0, 1\)"),
        ({"half_life": None, "decay": 0.9, "rampup": 0.05}, "takes no ema_rampup"),
        ({"rampup": 0}, "model.ema_rampup must be above 0, not 0"),
    ],
)
def test_options_that_contradict_each_other_are_told(options, message):
    with pytest.raises(UserError, match=message):
        GeneratorEMA(**options)
