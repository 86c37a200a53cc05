"""The learning rate and the dropout of a classifier are functions of images_seen."""

import math

import pytest
import torch

from imago.growth import GrowthSchedule
from imago.networks.attribute_classifier import AttributeClassifier
from lightning_modules.attribute_classifier import AttributeClassifierModule


def module_of(**options):
    schedule = GrowthSchedule(16, 16, batch_size=8, learning_rate=0.01, mbstd_group=1)
    network = AttributeClassifier({"Hat": ("yes", "no")}, 16, base_width=8, max_width=16)
    return AttributeClassifierModule(network, schedule, total_images=800, seed=0, **options)


def test_the_learning_rate_falls_along_half_a_cosine():
    module = module_of()
    assert module.learning_rate(0) == 0.01
    assert module.learning_rate(200) == pytest.approx(0.01 * (1 + math.sqrt(0.5)) / 2)
    assert module.learning_rate(400) == pytest.approx(0.005)
    assert module.learning_rate(800) == pytest.approx(0, abs=1e-12)
    assert module.learning_rate(900) == pytest.approx(0, abs=1e-12)
    assert module_of(decay="none").learning_rate(800) == 0.01
    module.step_started_at = 400
    assert module.stage.learning_rate == pytest.approx(0.005)


def test_dropout_is_keyed_by_the_position_of_an_image():
    module = module_of(dropout=0.25)
    module.images_seen = 96
    whole = module._dropout_mask(16, torch.float32)
    module.images_seen = 104
    assert torch.equal(module._dropout_mask(8, torch.float32), whole[8:])
    assert whole.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(whole.mean()) == pytest.approx(1, abs=0.05)
    assert module_of(dropout=0.0)._dropout_mask(16, torch.float32) is None
