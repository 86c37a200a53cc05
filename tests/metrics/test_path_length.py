import math

import numpy as np
import pytest
import torch
from scipy import integrate, special

from imago import randomness
from imago.errors import UserError
from imago.metrics.features.vgg16 import Vgg16
from imago.metrics.lpips import LAYERS, Lpips, published_channel_weights
from imago.metrics.path_length import (
    PerceptualPathLength,
    for_distance,
    perceptual_path_length,
    step_latents,
    trimmed_mean,
)

SIZE = 48


def as_images(latents):
    """A generator that only rearranges its latents: distances stay what they were."""
    return latents.double().view(-1, 3, 4, 4)


def stretched(latents):
    """Each component times a factor of its own."""
    return as_images(latents.double() * torch.linspace(0, 2, SIZE, dtype=torch.float64))


def squared(a, b):
    return (a - b).square().sum(dim=(1, 2, 3))


def ends(seed, count, path, epsilon):
    """Both ends of each step by Shoemake's formula."""
    a, b = (randomness.normal(seed, f"path_length/{end}", 0, count, SIZE) for end in ("from", "to"))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    t = randomness.uniform(seed, "path_length/place", 0, count) if path == "full" else np.zeros((count, 1))
    angle = np.arccos((a * b).sum(axis=1, keepdims=True))
    return angle[:, 0], [
        math.sqrt(SIZE) * (np.sin((1 - p) * angle) * a + np.sin(p * angle) * b) / np.sin(angle)
        for p in (t, t + epsilon)
    ]


@pytest.mark.parametrize("path", ["full", "end"])
def test_latents_against_shoemakes_formula(path):
    _, expected = ends(7, 200, path, 0.01)
    found = step_latents(7, 0, 200, SIZE, path, 0.01)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), math.sqrt(SIZE), rtol=1e-6)
    np.testing.assert_array_equal(step_latents(7, 150, 20, SIZE, path, 0.01), found[:, 150:170])


@pytest.mark.parametrize("path", ["full", "end"])
def test_a_linear_generator_against_its_own_formula(path):
    epsilon, samples = 0.02, 300
    _, (first, second) = ends(3, samples, path, epsilon)
    factors = np.linspace(0, 2, SIZE)
    values = np.sort(((factors * (second - first)) ** 2).sum(axis=1)) / epsilon**2
    # Percentiles 1 and 99 of 300 values lie between the 3rd and the 4th, and between the 297th and the 298th.
    expected = values[2:298].mean()
    found = perceptual_path_length(stretched, SIZE, squared, samples, batch=64, path=path, epsilon=epsilon, seed=3)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("epsilon", [1e-2, 1e-4])
def test_closed_form_on_the_sphere(epsilon):
    """Latents √n long, ω apart: a step moves 2√n sin(ωε/2), so the values are nω² for small ε."""
    samples = 4000
    found = perceptual_path_length(as_images, SIZE, squared, samples, batch=500, epsilon=epsilon)
    angles, _ = ends(0, samples, "full", epsilon)
    exact = np.sort(SIZE * (2 * np.sin(angles * epsilon / 2) / epsilon) ** 2)
    assert found == pytest.approx(exact[39:3961].mean(), rel=2e-3 if epsilon < 1e-3 else 1e-5)  # float32 latents

    def density(angle):  # of the angle between two random directions in n dimensions
        return math.sin(angle) ** (SIZE - 2) * special.gamma(SIZE / 2) / special.gamma((SIZE - 1) / 2) / math.pi**0.5

    mean = SIZE * integrate.quad(lambda w: w**2 * density(w), 0, math.pi)[0]
    spread = SIZE * math.sqrt(integrate.quad(lambda w: (w**2 - mean / SIZE) ** 2 * density(w), 0, math.pi)[0])
    assert found == pytest.approx(mean, abs=4 * spread / math.sqrt(samples) + 0.002 * mean)


def test_trimming_leaves_out_the_extremes():
    values = np.random.default_rng(0).permutation(np.arange(1000.0))
    values[values == 999] = 1e12
    # Linear positions of the percentiles are 9.99 and 989.01: values 9 to 990 stay.
    assert trimmed_mean(values) == np.arange(9, 991).mean()
    assert trimmed_mean(np.array([5.0])) == 5


def test_batches_and_processes_change_nothing():
    arguments = (stretched, SIZE, squared)
    expected = perceptual_path_length(*arguments, samples=101, batch=101)
    assert perceptual_path_length(*arguments, samples=101, batch=7) == pytest.approx(expected, rel=1e-12)
    one, two = PerceptualPathLength(*arguments), PerceptualPathLength(*arguments)
    one.update(0, 40)
    two.update(40, 61)
    one.dist_sync_fn = lambda state, group=None: [state, two.lengths[0]]
    one.distributed_available_fn = lambda: True
    assert one.compute() == pytest.approx(expected, rel=1e-12)


def test_images_for_the_distance():
    images = torch.rand(2, 1, 512, 512)
    shrunk = for_distance(images)
    assert shrunk.shape == (2, 3, 256, 256)
    torch.testing.assert_close(shrunk[:, 1], images[:, 0].unflatten(1, (256, 2)).unflatten(3, (256, 2)).mean((2, 4)))
    face = for_distance(images, face_crop=True)
    torch.testing.assert_close(face, shrunk[:, :, 96:224, 64:192])
    assert torch.equal(for_distance(shrunk), shrunk)


def test_errors_of_path_length():
    with pytest.raises(UserError, match="path='w': must be full or end"):
        perceptual_path_length(as_images, SIZE, squared, 10, path="w")
    with pytest.raises(UserError, match="epsilon=0"):
        perceptual_path_length(as_images, SIZE, squared, 10, epsilon=0)
    with pytest.raises(UserError, match="samples=0"):
        perceptual_path_length(as_images, SIZE, squared, 0)
    with pytest.raises(UserError, match=r"floating point .* not uint8"):
        perceptual_path_length(lambda z: as_images(z).to(torch.uint8), SIZE, squared, 10)
    with pytest.raises(UserError, match="NaN or infinity among samples 0 to 9"):
        perceptual_path_length(lambda z: as_images(z) * torch.nan, SIZE, squared, 10)
    with pytest.raises(UserError, match="no sample"):
        PerceptualPathLength(as_images, SIZE, squared).compute()


# --- LPIPS ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    with torch.device("meta"):
        network = Vgg16()
    network.features.to_empty(device="cpu")
    for layer in network.features:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
            torch.nn.init.normal_(layer.bias, std=0.1)
    network.classifier = torch.nn.Sequential()  # not needed here
    return network.eval().requires_grad_(False)


def test_published_weights():
    weights = published_channel_weights()
    assert [len(weight) for weight in weights] == [64, 128, 256, 512, 512]
    assert all((weight >= 0).all() and weight.max() > 0.4 for weight in weights)


def test_lpips_against_torchmetrics(network, monkeypatch):
    """Its own code, over the same convolutions: it would fetch them by torchvision."""
    from torchmetrics.functional.image import lpips as theirs

    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda net, pretrained: network.features)
    reference = theirs._LPIPS(net="vgg")
    a, b = torch.rand(2, 3, 3, 64, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = reference(a, b).flatten()
    found = Lpips(network)(a, b)
    assert found.shape == (3,)
    assert (found > 0.01).all()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_lpips_against_its_definition_in_float64(network):
    a, b = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.device("meta"):
        double = Vgg16()
    double.features.load_state_dict({k: v.double() for k, v in network.features.state_dict().items()}, assign=True)
    first, second = (double(x.double(), LAYERS) for x in (a, b))
    expected = np.zeros(2)
    for name, weight in zip(LAYERS, published_channel_weights(), strict=True):
        x, y = (activations[name].detach().numpy() for activations in (first, second))
        x, y = (v / np.linalg.norm(v, axis=1, keepdims=True).clip(1e-12) for v in (x, y))
        expected += (weight.double().numpy()[:, None, None] * (x - y) ** 2).sum(axis=1).mean(axis=(1, 2))
    found = Lpips(network)(a, b)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (Lpips(network)(a, a) == 0).all()
    swapped = Lpips(network)(b, a)
    torch.testing.assert_close(found, swapped)


def test_path_length_by_lpips(network):
    generator = torch.nn.Sequential(
        torch.nn.Linear(8, 3 * 32 * 32), torch.nn.Tanh(), torch.nn.Unflatten(1, (3, 32, 32))
    )
    found = [
        perceptual_path_length(generator, 8, Lpips(network), samples=8, batch=4, epsilon=epsilon)
        for epsilon in (1e-3, 1e-4)
    ]
    assert found[0] == pytest.approx(found[1], rel=0.05)  # quadratic in small steps, and float32 suffices
    assert found[0] > 0.01


def test_errors_of_lpips(network, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        published_channel_weights(tmp_path / "absent.pth")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="not the weights of LPIPS"):
        published_channel_weights(tmp_path / "other.pth")
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(UserError, match="not the weights of LPIPS"):
        published_channel_weights(tmp_path / "page.pth")
    with pytest.raises(UserError, match="needs weights of"):
        Lpips(network, [torch.zeros(64)])
    with pytest.raises(UserError, match="one shape"):
        Lpips(network)(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 64, 64))
