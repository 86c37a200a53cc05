"""Every loss against its formula, written out in NumPy, and its gradients against differences."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit

from imago.errors import UserError
from imago.losses import Began, Cramer, Hinge, Lsgan, Minimax, NonSaturating, Relativistic, Wgan, WganGp

N = 6


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64)


REAL = np.array([0.3, -1.2, 2.5, 0.9, -0.1, 1.7])
FAKE = np.array([-0.4, 0.8, -2.2, 0.1, -1.5, 1.3])


def bce(probability):
    return -np.log(probability).mean()


FORMULAS = {
    # loss: (discriminator's, generator's), of scores
    "minimax": (
        Minimax(),
        0.5 * bce(expit(REAL)) + 0.5 * bce(1 - expit(FAKE)),
        np.log(1 - expit(FAKE)).mean(),
    ),
    "non_saturating": (NonSaturating(), 0.5 * bce(expit(REAL)) + 0.5 * bce(1 - expit(FAKE)), bce(expit(FAKE))),
    "hinge": (Hinge(), np.maximum(0, 1 - REAL).mean() + np.maximum(0, 1 + FAKE).mean(), -FAKE.mean()),
    "lsgan": (
        Lsgan(),
        0.5 * ((REAL - 1) ** 2).mean() + 0.5 * (FAKE**2).mean(),
        0.5 * ((FAKE - 1) ** 2).mean(),
    ),
    "lsgan, official": (
        Lsgan(real_target=0, fake_target=1, real_weight=1, fake_weight=0.1),
        (REAL**2).mean() + 0.1 * ((FAKE - 1) ** 2).mean(),
        (FAKE**2).mean(),
    ),
    "wgan": (Wgan(), FAKE.mean() - REAL.mean(), -FAKE.mean()),
    "wgan_gp": (
        WganGp(gradient_penalty=0),
        FAKE.mean() - REAL.mean() + 0.001 * (REAL**2).mean(),
        -FAKE.mean(),
    ),
    "relativistic": (
        Relativistic(r1=0, r2=0),
        np.log1p(np.exp(-(REAL - FAKE))).mean(),
        np.log1p(np.exp(-(FAKE - REAL))).mean(),
    ),
}


def first_pixel(images):
    return images[:, 0, 0, 0]


def pictures_of(scores):
    images = torch.zeros(len(scores), 1, 2, 2, dtype=torch.float64)
    images[:, 0, 0, 0] = torch.from_numpy(scores)
    return images


@pytest.mark.parametrize("name", FORMULAS)
def test_losses_of_scores(name):
    loss, of_discriminator, of_generator = FORMULAS[name]
    real, fake = pictures_of(REAL), pictures_of(FAKE)
    terms = loss.discriminator_loss(first_pixel, real, [fake], torch.zeros(N))
    assert terms["loss"].item() == pytest.approx(of_discriminator, rel=1e-12)
    assert terms["real_score"].item() == pytest.approx(REAL.mean())
    assert terms["fake_score"].item() == pytest.approx(FAKE.mean())
    terms = loss.generator_loss(first_pixel, fake, real if loss.generator_sees_reals else None)
    assert terms["loss"].item() == pytest.approx(of_generator, rel=1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_first_call_shows_all_images(name):
    loss, shown = FORMULAS[name][0], []

    def critic(images):
        shown.append(len(images))
        return first_pixel(images)

    loss.discriminator_loss(critic, pictures_of(REAL), [pictures_of(FAKE)], torch.zeros(N))
    assert shown[0] == 2 * N


def critic_of(weights):
    """A smooth critic with second derivatives, of parameters as a tensor."""
    return lambda images: torch.tanh(images.flatten(1) @ weights[:4]) @ weights[4]


ALL_LOSSES = [
    Minimax(r1=0.7),
    NonSaturating(r2=0.4, drift=0.1),
    Hinge(gradient_penalty=2, gradient_target=3),
    Lsgan(r1=0.1, r2=0.2, gradient_penalty=1),
    Wgan(drift=0.3),
    WganGp(),
    Relativistic(),
]


@pytest.mark.parametrize("loss", ALL_LOSSES, ids=lambda loss: type(loss).__name__)
def test_gradients_with_every_kind_of_penalty(loss):
    weights = (0.5 * doubles(5, 4)).requires_grad_()
    real, fake, uniform = doubles(4, 1, 2, 2), doubles(4, 1, 2, 2), torch.rand(4, dtype=torch.float64)

    def of_weights(w):
        return loss.discriminator_loss(critic_of(w), real, [fake], uniform)["loss"]

    def of_fakes(images):
        return loss.generator_loss(critic_of(weights.detach()), images, real)["loss"]

    assert torch.autograd.gradcheck(of_weights, (weights,))
    assert torch.autograd.gradcheck(of_fakes, (fake.clone().requires_grad_(),))


# --- penalties --------------------------------------------------------------------------------------------------------


def linear(w):
    return lambda images: images.flatten(1) @ w


@pytest.mark.parametrize("name", ["r1", "r2"])
def test_r1_and_r2_of_a_linear_critic(name):
    """½ γ ‖w‖² (Mescheder et al. 2018)."""
    w = doubles(4)
    images, zeros = doubles(5, 1, 2, 2), torch.zeros(5, 1, 2, 2, dtype=torch.float64)
    with_penalty = Hinge(**{name: 3.0}).discriminator_loss(linear(w), images, [zeros], torch.zeros(5))
    without = Hinge().discriminator_loss(linear(w), images, [zeros], torch.zeros(5))
    expected = 1.5 * float(w @ w)
    assert (with_penalty["loss"] - without["loss"]).item() == pytest.approx(expected, rel=1e-12)
    assert with_penalty[name].item() == pytest.approx(float(w @ w), rel=1e-12)


def test_r1_looks_at_reals_and_r2_at_fakes():
    def quadratic(images):
        return images.flatten(1).square().sum(dim=1) / 2  # its gradient is the image

    real, fake = doubles(5, 1, 2, 2), 3 + doubles(5, 1, 2, 2)
    terms = Hinge(r1=1, r2=1).discriminator_loss(quadratic, real, [fake], torch.zeros(5))
    assert terms["r1"].item() == pytest.approx(real.flatten(1).square().sum(1).mean().item())
    assert terms["r2"].item() == pytest.approx(fake.flatten(1).square().sum(1).mean().item())


def test_a_lazy_penalty_is_due_every_nth_step_and_n_times_as_strong():
    w, images = doubles(4), doubles(5, 1, 2, 2)
    lazy, plain, bare = Hinge(r1=2.0, penalty_interval=3), Hinge(r1=2.0), Hinge()

    def value(loss):
        return loss.discriminator_loss(linear(w), images, [images], torch.zeros(5))["loss"].item()

    penalty = value(plain) - value(bare)
    found = []
    for _ in range(6):
        found.append((value(lazy) - value(bare)) / penalty)
        assert value(lazy) == value(lazy)  # micro-batches of one step agree
        lazy.after_discriminator_step(torch.nn.Identity(), {})
    assert found == pytest.approx([3, 0, 0, 3, 0, 0], abs=1e-12)
    again = Hinge(r1=2.0, penalty_interval=3)
    lazy.after_discriminator_step(torch.nn.Identity(), {})
    again.load_state_dict(lazy.state_dict())
    assert value(again) == value(bare)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (Hinge(), False),
        (Hinge(drift=1), False),
        (Hinge(r1=1), True),
        (Minimax(r2=0.1), True),
        (WganGp(), True),
        (WganGp(gradient_penalty=0), False),
        (Cramer(), True),
        (Began(), False),
        (Began(gradient_penalty=1), True),
        (Relativistic(), True),
    ],
)
def test_who_penalizes_gradients(loss, expected):
    assert loss.penalizes_gradients is expected


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_penalty": -1},
        {"gradient_target": 0},
        {"r1": math.nan},
        {"r2": math.inf},
        {"drift": -0.1},
        {"penalty_interval": 0},
    ],
)
@pytest.mark.parametrize("loss", [Minimax, Lsgan, Wgan, Cramer, Began])
def test_penalties_out_of_range(loss, options):
    with pytest.raises(UserError, match=f"loss.{next(iter(options))} must be"):
        loss(**options)


def test_micro_batches_average_to_the_whole():
    w = doubles(4)
    real, fake, uniform = doubles(8, 1, 2, 2), doubles(8, 1, 2, 2), torch.rand(8, dtype=torch.float64)
    for loss in (Lsgan(r1=1), Hinge(gradient_penalty=1), Relativistic(), Began(), Cramer(output_size=4)):

        def critic(images, loss=loss):
            x = images.flatten(1)
            return {"score": x @ w, "vector": torch.tanh(x * w), "image": images * w.view(1, 2, 2)}[loss.output]

        def value(part, loss=loss, critic=critic):
            fakes = [fake[part], fake.flip(2)[part]][: loss.fake_sets]
            return loss.discriminator_loss(critic, real[part], fakes, uniform[part])["loss"]

        parts = [value(slice(i, i + 2)) for i in range(0, 8, 2)]
        torch.testing.assert_close(torch.stack(parts).mean(), value(slice(0, 8)), rtol=1e-10, atol=1e-12)
