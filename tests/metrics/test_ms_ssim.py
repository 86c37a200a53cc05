import copy
import importlib

import numpy as np
import pytest
import reference_metrics as reference
import torch

from imago.errors import UserError
from imago.metrics.ms_ssim import MultiScaleSsim, ms_ssim, pairs

module = importlib.import_module("imago.metrics.ms_ssim")  # its function has the same name


def random_images(count, height, width, seed, channels=3):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, -(-height // 4), -(-width // 4), generator=generator)
    images = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., :height, :width]
    return (235 * images + 20 * torch.rand(images.shape, generator=generator)).to(torch.uint8)


@pytest.mark.parametrize(
    ("resolution", "others", "mixtures"),
    [
        (64, 0.07652161170435287, 0.8719573044954005),
        (128, 0.01818773217690064, 0.8733163597190841),
        (256, 0.019277854679353435, 0.8706317291938046),
    ],
)
def test_the_values_are_those_of_the_official_code(resolution, others, mixtures):
    """Numbers that the authors' code gives, in float32, for eight pairs."""
    a, b = (reference.blocky_images(8, resolution, seed) for seed in (10, 11))
    mixed = np.uint8(0.7 * a.astype(np.float64) + 0.3 * b.astype(np.float64))
    a, b, mixed = map(torch.from_numpy, (a, b, mixed))
    assert ms_ssim(a, b).mean().item() == pytest.approx(others, abs=2e-7)
    assert ms_ssim(a, mixed).mean().item() == pytest.approx(mixtures, abs=2e-7)


# The window shrinks at the first scale below 11 pixels a side, and from the second scale on below 22, and so forth.
@pytest.mark.parametrize("size", [(64, 64), (40, 100), (33, 47), (16, 16), (11, 9), (8, 8), (4, 4), (2, 3)])
def test_every_pair_is_as_scipy_has_it_in_float64(size):
    a, b = random_images(5, *size, seed=0), random_images(5, *size, seed=1)
    b = (0.4 * b.float() + 0.6 * a.float()).to(torch.uint8)
    expected = reference.ms_ssim(a.numpy(), b.numpy())
    values = ms_ssim(a, b)
    assert values.dtype == torch.float64
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", [0, 3, 250, 255])
def test_faint_pictures_on_any_brightness_are_as_in_float64(level):
    """Where squared means are a million times as large as variances."""
    rng = np.random.default_rng(level)
    a, b = (np.uint8(np.clip(level + rng.integers(-1, 2, (2, 3, 64, 64)), 0, 255)) for _ in range(2))
    values = ms_ssim(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(values, reference.ms_ssim(a, b), rtol=0, atol=1e-6)


def test_single_pixels_compare_luminance_alone():
    a, b = torch.full((1, 1, 1, 1), 100, dtype=torch.uint8), torch.full((1, 1, 1, 1), 50, dtype=torch.uint8)
    luminance = (2 * 100 * 50 + 2.55**2) / (100**2 + 50**2 + 2.55**2)
    assert ms_ssim(a, b).item() == pytest.approx(luminance**0.1333, abs=1e-6)


def test_equal_images_have_similarity_one():
    images = random_images(3, 64, 64, seed=2)
    np.testing.assert_allclose(ms_ssim(images, images), 1, rtol=0, atol=1e-7)


def test_it_is_symmetric_and_blind_to_mirrors_and_turns():
    a, b = random_images(3, 48, 48, seed=3), random_images(3, 48, 48, seed=4)
    b = (0.4 * b.float() + 0.6 * a.float()).to(torch.uint8)
    values = ms_ssim(a, b)
    for x, y in ((b, a), (a.flip(3), b.flip(3)), (a.transpose(2, 3), b.transpose(2, 3))):
        torch.testing.assert_close(ms_ssim(x, y), values, rtol=0, atol=1e-6)


def test_negatives_have_similarity_zero():
    """Their structure is negative, which is cut off before the power is taken."""
    images = torch.from_numpy(reference.blocky_images(2, 64, 0))
    assert ms_ssim(images, 255 - images).tolist() == [0, 0]


def test_grey_images_are_those_with_equal_channels():
    a, b = (random_images(3, 32, 32, seed, channels=1) for seed in (0, 1))
    expected = ms_ssim(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1))
    torch.testing.assert_close(ms_ssim(a, b), expected, rtol=0, atol=1e-7)


def test_the_pieces_that_are_dealt_with_at_once_do_not_matter(monkeypatch):
    a, b = random_images(7, 32, 32, seed=0), random_images(7, 32, 32, seed=1)
    values = ms_ssim(a, b)
    monkeypatch.setattr(module, "_PIECE_PIXELS", {"cpu": 2 * 3 * 32 * 32})
    torch.testing.assert_close(ms_ssim(a, b), values, rtol=0, atol=1e-9)


def test_neighbours_make_pairs():
    first, second = pairs(torch.arange(6))
    assert first.tolist() == [0, 2, 4]
    assert second.tolist() == [1, 3, 5]
    with pytest.raises(UserError, match="5 images do not make pairs"):
        pairs(torch.arange(5))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8), "uint8"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 3, 8, 9, dtype=torch.uint8), "2×3×8×8 and 2×3×8×9"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), torch.zeros(0, 3, 8, 8, dtype=torch.uint8), "an empty set"),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, message):
    with pytest.raises(UserError, match=message):
        ms_ssim(a, b)


# --- the metric -------------------------------------------------------------------------------------------------------


def test_batches_add_up_to_the_mean():
    a, b = random_images(7, 32, 32, seed=0), random_images(7, 32, 32, seed=1)
    metric = MultiScaleSsim()
    for part in (slice(0, 3), slice(3, 4), slice(4, 7)):
        metric.update(a[part], b[part])
    torch.testing.assert_close(metric.compute(), ms_ssim(a, b).mean(), rtol=0, atol=1e-9)
    metric.reset()
    metric.update(a[:1], b[:1])
    torch.testing.assert_close(metric.compute(), ms_ssim(a[:1], b[:1])[0], rtol=0, atol=1e-9)


def test_two_processes_are_as_one():
    a, b = random_images(6, 32, 32, seed=0), random_images(6, 32, 32, seed=1)
    other = MultiScaleSsim()
    other.update(a[4:], b[4:])
    states = iter([copy.deepcopy(other.total), copy.deepcopy(other.count)])  # in the order they were added
    metric = MultiScaleSsim(
        dist_sync_fn=lambda state, group: [state, next(states)], distributed_available_fn=lambda: True
    )
    metric.update(a[:4], b[:4])
    torch.testing.assert_close(metric.compute(), ms_ssim(a, b).mean(), rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_a_mean_of_nothing_is_refused():
    with pytest.raises(UserError, match="at least one pair"):
        MultiScaleSsim().compute()
