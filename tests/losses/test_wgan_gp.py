import pytest
import torch
from torch.func import functional_call

from imago.errors import UserError
from imago.losses import WganGp
from imago.losses.penalties import gradient_norms
from imago.networks import ProgressiveDiscriminator


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def linear_critic(norm):
    """D(x) = ⟨w, x⟩ + 0.3 with ‖w‖ = norm: its gradient is w everywhere."""
    w = doubles(1, 2, 3, 4)
    w *= norm / w.norm()
    return w, lambda x: (w * x).sum(dim=(1, 2, 3)) + 0.3


@pytest.mark.parametrize("norm", [0.2, 1.0, 5.0, 700.0])
@pytest.mark.parametrize(
    "options",
    [{}, {"gradient_target": 750.0}, {"gradient_penalty": 3.0, "gradient_target": 2.0, "drift": 0.5}, {"drift": 0.0}],
)
def test_all_terms_of_a_linear_critic_in_closed_form(norm, options):
    w, critic = linear_critic(norm)
    real, fake, uniform = doubles(5, 2, 3, 4), doubles(5, 2, 3, 4), torch.rand(5, dtype=torch.float64)
    terms = WganGp(**options).discriminator_loss(critic, real, [fake], uniform)
    weight, target, drift = (
        options.get(k, v) for k, v in (("gradient_penalty", 10), ("gradient_target", 1), ("drift", 0.001))
    )
    real_scores = [float((w[0] * x).sum()) + 0.3 for x in real]
    fake_scores = [float((w[0] * x).sum()) + 0.3 for x in fake]
    expected = {
        "real_score": sum(real_scores) / 5,
        "fake_score": sum(fake_scores) / 5,
        "gradient_penalty": (norm - target) ** 2 / target**2,
        "gradient_norm_at_interpolates": norm,
    }
    if drift:
        expected["drift"] = sum(s**2 for s in real_scores) / 5
    expected["loss"] = (
        expected["fake_score"]
        - expected["real_score"]
        + weight * expected["gradient_penalty"]
        + drift * sum(s**2 for s in real_scores) / 5
    )
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert all(value.ndim == 0 for value in terms.values())


def test_drift_counts_reals_only():
    def critic(x):
        return x.sum(dim=(1, 2, 3))

    real, uniform = doubles(3, 1, 2, 2), torch.zeros(3, dtype=torch.float64)
    for size in (1.0, 100.0):
        fake = size * doubles(3, 1, 2, 2)
        with_drift, without = (
            WganGp(drift=drift).discriminator_loss(critic, real, [fake], uniform)["loss"] for drift in (0.25, 0.0)
        )
        assert (with_drift - without).item() == pytest.approx(0.25 * critic(real).square().mean().item(), rel=1e-9)


def test_gradient_norms_are_per_sample():
    """A critic of slope k on sample k: norms 1, 2, 3, 4, not one norm of the batch nor a mean."""
    slopes = torch.arange(1.0, 5.0, dtype=torch.float64)

    def critic(x):
        return slopes * x[:, 0, 0, 0]

    torch.testing.assert_close(gradient_norms(critic, doubles(4, 3, 2, 2)), slopes, rtol=1e-12, atol=0)
    terms = WganGp().discriminator_loss(
        lambda x: critic(x) if len(x) == 4 else x[:, 0, 0, 0],
        doubles(4, 3, 2, 2),
        [doubles(4, 3, 2, 2)],
        torch.rand(4, dtype=torch.float64),
    )
    assert terms["gradient_penalty"].item() == pytest.approx((0 + 1 + 4 + 9) / 4)
    assert terms["gradient_norm_at_interpolates"].item() == pytest.approx(2.5)


def test_of_scores_of_patches_the_mean_counts():
    weights = doubles(6, 3, 2, 2)  # a linear score of each of six patches

    def critic(x):
        return torch.einsum("pchw,nchw->np", weights, x)

    norms = gradient_norms(critic, doubles(4, 3, 2, 2))
    torch.testing.assert_close(norms, weights.mean(dim=0).norm().expand(4), rtol=1e-12, atol=0)


def test_gradient_norms_of_a_quadratic_critic():
    """D(x) = ‖x‖² / 2 has the gradient x."""
    x = doubles(6, 3, 4, 4)
    norms = gradient_norms(lambda x: x.square().sum(dim=(1, 2, 3)) / 2, x)
    torch.testing.assert_close(norms, x.flatten(1).norm(dim=1), rtol=1e-12, atol=0)


def test_the_penalty_is_taken_between_each_real_and_its_fake():
    """At real + u · (fake − real), with one u per sample."""
    real, fake = doubles(4, 1, 2, 2), doubles(4, 1, 2, 2)
    uniform = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    seen = []

    def critic(x):
        seen.append(x.detach().clone())
        return x.square().sum(dim=(1, 2, 3))

    WganGp().discriminator_loss(critic, real, [fake], uniform)
    expected = torch.stack([r + u * (f - r) for r, f, u in zip(real, fake, uniform, strict=True)])
    torch.testing.assert_close(seen[1], expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(seen[0], torch.cat([real, fake]))


def test_generator_loss_is_the_negative_mean_score_and_reaches_the_images():
    w, critic = linear_critic(2.0)
    fakes = doubles(5, 2, 3, 4).requires_grad_()
    terms = WganGp().generator_loss(critic, fakes)
    assert terms["loss"].item() == pytest.approx(-sum(float((w[0] * x).sum()) + 0.3 for x in fakes.detach()) / 5)
    terms["loss"].backward()
    torch.testing.assert_close(fakes.grad, -w.expand(5, -1, -1, -1) / 5)


def test_parameter_gradients_of_the_discriminator_loss():
    """Finite differences against the double backward through a growing discriminator, all terms at once."""
    D = ProgressiveDiscriminator(resolution=8, channels=1, fmap_base=8, fmap_max=2, mbstd_group=2).double()
    names = [name for name, _ in D.named_parameters()]
    parameters = [(p.detach() + 0.1 * torch.randn_like(p)).requires_grad_() for p in D.parameters()]
    real, fake, uniform = doubles(2, 1, 8, 8), doubles(2, 1, 8, 8), torch.rand(2, dtype=torch.float64)

    def loss(*values):
        state = dict(zip(names, values, strict=True))
        options = {"alpha": 0.4, "group_size": 2}
        return WganGp(drift=0.1).discriminator_loss(
            lambda x: functional_call(D, state, (x,), options), real, [fake], uniform
        )["loss"]

    assert torch.autograd.gradcheck(loss, parameters)


def test_parameter_gradients_of_a_linear_critic_in_closed_form():
    """For D(x) = ⟨w, x⟩: ∂L/∂w = mean fake − mean real + 2λ/γ² · (‖w‖ − γ) · w/‖w‖ + 2ε · E[D(real) · real]."""
    w = doubles(12).requires_grad_()
    real, fake, uniform = doubles(5, 3, 2, 2), doubles(5, 3, 2, 2), torch.rand(5, dtype=torch.float64)
    loss = WganGp(gradient_penalty=10.0, gradient_target=2.0, drift=0.01)
    loss.discriminator_loss(lambda x: x.flatten(1) @ w, real, [fake], uniform)["loss"].backward()
    v, r, f = w.detach(), real.flatten(1), fake.flatten(1)
    expected = f.mean(0) - r.mean(0) + 2 * 10 / 4 * (v.norm() - 2) * v / v.norm()
    expected = expected + 2 * 0.01 * ((r @ v)[:, None] * r).mean(0)
    torch.testing.assert_close(w.grad, expected, rtol=1e-10, atol=1e-12)


def test_means_of_micro_batches_are_those_of_the_batch():
    D = ProgressiveDiscriminator(resolution=4, channels=1, fmap_base=8, fmap_max=2, mbstd_group=2).double()
    real, fake, uniform = doubles(8, 1, 4, 4), doubles(8, 1, 4, 4), torch.rand(8, dtype=torch.float64)
    whole = WganGp().discriminator_loss(D, real, [fake], uniform)
    parts = [
        WganGp().discriminator_loss(D, real[i : i + 2], [fake[i : i + 2]], uniform[i : i + 2]) for i in range(0, 8, 2)
    ]
    for name, value in whole.items():
        assert value.item() == pytest.approx(sum(part[name].item() for part in parts) / 4, rel=1e-10)


def test_a_critic_without_gradient_gives_finite_parameter_gradients():
    """All weights zero: the gradient norm is 0, where its own derivative has no limit."""
    D = ProgressiveDiscriminator(resolution=8, fmap_base=16, fmap_max=4)
    for parameter in D.parameters():
        torch.nn.init.zeros_(parameter)
    terms = WganGp().discriminator_loss(D, torch.rand(4, 3, 8, 8), [torch.rand(4, 3, 8, 8)], torch.rand(4))
    terms["loss"].backward()
    assert terms["gradient_penalty"].item() == 1
    assert all(torch.isfinite(p.grad).all() for p in D.active_parameters(8, 1.0))


def test_the_norm_is_taken_in_float32_of_half_precision_gradients():
    images = torch.ones(2, 1, 64, 64, dtype=torch.bfloat16)
    norms = gradient_norms(lambda x: 0.01 * x.sum(dim=(1, 2, 3)), images)
    assert norms.dtype == torch.float32
    torch.testing.assert_close(norms, torch.full((2,), 0.64), rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    "options", [{"gradient_penalty": -1}, {"drift": -0.1}, {"gradient_target": 0}, {"gradient_target": -1}]
)
def test_numbers_that_make_no_loss_are_told(options):
    with pytest.raises(UserError, match=f"loss.{next(iter(options))} must be"):
        WganGp(**options)


def test_takes_one_set_of_fakes_and_keeps_no_state():
    assert WganGp.fake_sets == 1
    assert not WganGp.generator_sees_reals
    assert WganGp().state_dict() == {}
