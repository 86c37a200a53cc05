"""Up-resolution in the adversarial step: every loss, the generator's loss in float64, what is refused."""

import types

import pytest
import torch
import torch.nn.functional as F

from imago.errors import UserError
from imago.growth import GrowthSchedule
from imago.losses import Began, Cramer, Hinge, Lsgan, Minimax, NonSaturating, Relativistic, Wgan, WganGp
from imago.networks.patch_discriminator import PatchAutoencoder
from lightning_modules.upres import Upres
from tiny_models import BATCH, Crops, train

LOSSES = [Minimax, NonSaturating, Lsgan, Wgan, WganGp, Hinge, Cramer, Began, Relativistic]


def make(loss, learning_rate=2e-4, **options):
    """Of 64², crops of 16² enlarged 4 times."""
    schedule = GrowthSchedule(64, 64, batch_size=BATCH, learning_rate=learning_rate, mbstd_group=1)
    sizes = {"low_size": 16, "face_size": 32, "crop": 16, "depth": 2, "filters": 2, "discriminator_filters": 2}
    return Upres(loss, schedule, **{**sizes, **options})


def fitted(module, steps=5, precision="32-true"):
    return train(module, steps, data=Crops, precision=precision)


def first_batch(module):
    batch = next(iter(Crops(module)))
    return batch["images"][0], batch["stacks"][0]


# --- every loss -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_every_loss_trains(loss):
    loss = loss(**({"output_size": 8} if loss is Cramer else {}))
    options = {}
    if loss.penalizes_gradients:
        with pytest.raises(UserError, match=r"take model\.discriminator_norm=layer"):
            make(loss)
        options["discriminator_norm"] = "layer"
    module = make(loss, **options)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    fitted(module)
    assert module.images_seen == 5 * BATCH
    assert module.skipped_updates == 0
    assert all(bool(torch.isfinite(value)) for value in module.terms.values())
    after = module.state_dict()
    for network in ("generator", "discriminator", "generator_ema"):
        weights = [name for name in before if name.startswith(f"{network}.") and before[name].is_floating_point()]
        unchanged = [name for name in weights if torch.equal(before[name], after[name])]
        assert len(unchanged) < len(weights) / 2, network


def test_a_penalty_that_is_asked_for_is_one_of_gradients():
    with pytest.raises(UserError, match="batch normalisation makes a discriminator's score"):
        make(Hinge(r1=1))
    make(Hinge(r1=1), discriminator_norm="none")


@pytest.mark.parametrize("options", [{"factor": 2}, {"guide": "channels"}, {"guide": "none"}, {"norm": "batch"}])
def test_other_networks_train(options):
    if options.pop("factor", 4) == 2:
        options = {"low_size": 32, "crop": 16}
    module = fitted(make(NonSaturating(), **options), 2)
    assert module.skipped_updates == 0
    assert module.geometry.factor == (2 if "low_size" in options else 4)
    for network in (module.generator, module.discriminator):
        assert all(bool(p.isfinite().all()) for p in network.parameters())


def test_several_discriminator_steps_and_micro_batches():
    module = fitted(make(WganGp(), discriminator_norm="layer", n_critic=2, micro_batch=2), 3)
    assert module.images_seen == 3 * 2 * BATCH
    assert module.skipped_updates == 0


def test_bfloat16_leaves_weights_and_terms_whole():
    module = fitted(make(NonSaturating()), 1, "bf16-mixed")
    assert module.skipped_updates == 0
    assert all(bool(torch.isfinite(value)) for value in module.terms.values())
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_the_seed_sets_the_initial_weights():
    first, second, other = (make(Hinge(), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["generator.to_image.weight"], other["generator.to_image.weight"])
    assert torch.equal(first["generator.to_image.weight"], first["generator_ema.to_image.weight"])


# --- the generator's loss ---------------------------------------------------------------------------------------------

STILL = 1e-30  # a learning rate that changes no weight, so that the step can be computed again after it


def expected_terms(module, loss):
    """Adversarial loss, L1 of means over 4 × 4 pixels, and the norm of the gradient of their weighted sum."""
    images, stacks = first_batch(module)
    stacks = stacks.double()
    module.discriminator.requires_grad_(False)
    fakes = module.generator(stacks)
    scores = module.discriminator(fakes, stacks)
    adversarial = loss(scores)
    means = [
        x.unflatten(2, (16, 4)).unflatten(4, (16, 4)).mean(dim=(3, 5)) for x in (fakes, images.double() / 127.5 - 1)
    ]
    distance = (means[0] - means[1]).abs().mean()
    total = module.gan_weight * adversarial + module.l1_weight * distance
    gradients = torch.autograd.grad(total, list(module.generator.parameters()))
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    return {
        "generator_loss": total,
        "generator_adversarial": adversarial,
        "low_resolution_l1": distance,
        "generator_gradient_norm": norm,
    }


FORMULAS = {
    NonSaturating: lambda scores: F.softplus(-scores).mean(),
    Lsgan: lambda scores: 0.5 * (scores - 1).square().mean(),
    Hinge: lambda scores: -scores.mean(),
}


@pytest.mark.parametrize(
    ("loss", "gan_weight", "l1_weight", "norm"),
    [
        (NonSaturating, 1.0, 100.0, "batch"),
        (NonSaturating, 0.3, 7.0, "layer"),
        (Lsgan, 0.3, 7.0, "batch"),
        (Hinge, 2.0, 0.0, "batch"),
        (Hinge, 0.0, 1.0, "none"),
    ],
)
def test_the_generator_minimises_adversarial_loss_and_l1_at_low_resolution(loss, gan_weight, l1_weight, norm):
    options = {"gan_weight": gan_weight, "l1_weight": l1_weight, "discriminator_norm": norm}
    module = fitted(make(loss(), STILL, **options).double(), 1, "64-true")
    for name, value in expected_terms(module, FORMULAS[loss]).items():
        torch.testing.assert_close(module.terms[name], value.detach(), rtol=1e-9, atol=1e-12)


def test_micro_batches_give_the_terms_of_the_whole_batch():
    whole, parts = (
        fitted(make(NonSaturating(), STILL, discriminator_norm="layer", micro_batch=size).double(), 1, "64-true").terms
        for size in (None, 2)
    )
    for name in ("generator_loss", "low_resolution_l1", "discriminator_loss"):
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-10, atol=1e-12)


def test_the_l1_distance_alone_can_be_learnt():
    module = make(NonSaturating(), 2e-2, gan_weight=0.0, l1_weight=1.0)
    images = torch.full((1, BATCH, 3, 64, 64), 200, dtype=torch.uint8)

    class Still(Crops):
        def __iter__(self):
            for batch in super().__iter__():
                yield {**batch, "images": images}

    train(module, 25, data=Still)
    assert module.terms["low_resolution_l1"] < 0.1  # of 0.57 from grey


def test_each_image_is_judged_beside_the_stack_it_was_made_from():
    module = make(Hinge(), discriminator_norm="none")
    images, stacks = first_batch(module)
    reals = images / 127.5 - 1
    fakes = module.generate(module.generator, stacks).detach()
    both, _ = module.discriminate(torch.cat([reals, fakes]), BATCH, stacks)
    apart = [module.discriminator(reals, stacks), module.discriminator(fakes, stacks)]
    torch.testing.assert_close(both, torch.cat(apart), rtol=0, atol=1e-6)


def test_reals_and_fakes_have_batch_statistics_of_their_own():
    module = make(Hinge())
    images, stacks = first_batch(module)
    reals = images / 127.5 - 1
    both, _ = module.discriminate(torch.cat([reals, 0.1 * reals]), BATCH, stacks)
    torch.testing.assert_close(both[:BATCH], module.discriminator(reals, stacks), rtol=0, atol=1e-5)


# --- samples and state ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("guide", "parts"), [("rgb", 4), ("channels", 4), ("none", 3)])
def test_samples_show_input_guide_output_and_real(guide, parts):
    module = make(Hinge(), guide=guide)
    images, stacks = first_batch(module)
    stacks[:, 3:] = stacks[:, 3:].abs()
    data = types.SimpleNamespace(held_out_pairs=lambda count: (images[:count], stacks[:count]))
    trainer = types.SimpleNamespace(datamodule=data)
    module.trainer = trainer
    samples = module.samples(2)
    assert samples.dtype == torch.uint8
    assert samples.shape == (2, 3, 64, parts * 64)
    shown = samples.split(64, dim=3)
    assert torch.equal(shown[-1], images[:2])

    def levels(values):
        return ((values + 1) * 127.5).clamp(0, 255)

    large = stacks[:2].repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    torch.testing.assert_close(shown[0].float(), levels(large[:, :3]), rtol=0, atol=1)
    if guide != "none":
        torch.testing.assert_close(shown[1].float(), 255 * large[:, 3:6], rtol=0, atol=1)
    with torch.no_grad():
        output = module.generator_ema(stacks[:2])
    torch.testing.assert_close(shown[-2].float(), levels(output), rtol=0, atol=1)


def test_the_state_says_how_to_build_the_discriminator_unless_it_is_an_autoencoder():
    state = fitted(make(Hinge()), 1).training_state()
    assert state["discriminator_description"]["network"] == "PatchDiscriminator"
    assert state["discriminator_description"]["config"]["factor"] == 4
    module = fitted(make(Began()), 1)
    assert isinstance(module.discriminator, PatchAutoencoder)
    assert "discriminator_description" not in module.training_state()


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low_size": 24}, r"resolution=64 is not model\.low_size=24 times 2, 4, 8 or 16; .* may be 32, 16, 8, 4"),
        ({"low_size": 64}, r"may be 32, 16, 8, 4"),
        ({"face_size": 65}, r"model\.face_size=65: must be at most the resolution 64"),
        ({"crop": 17}, r"model\.crop=17 does not fit .* 16 × 16: take at most 16"),
        ({"crop": 12, "depth": 3}, r"model\.depth=3: a crop of 12² cannot be halved 3 times"),
        ({"base": (4, 3), "face_size": 33}, r"model\.face_size=33: .*whole pixels of the aspect 4:3"),
        ({"channels": 1}, r"data\.channels=1: pictures are up-resolved in RGB"),
        ({"guide": "grey"}, "a guide must be one of rgb, channels, none"),
        ({"l1_weight": -1}, r"model\.l1_weight and model\.gan_weight must not be negative, nor both 0"),
        ({"l1_weight": 0, "gan_weight": 0}, "nor both 0"),
        ({"gan_weight": float("nan")}, r"model\.gan_weight"),
        ({"discriminator_norm": "sample"}, r"model\.discriminator_norm must be batch, layer or none"),
        ({"norm": "layer"}, r"model\.norm"),
        ({"filters": 0}, r"model\.filters"),
        ({"discriminator_filters": 0}, r"model\.discriminator_filters"),
        ({"batch_norm_group": 1}, r"model\.batch_norm_group must be at least 2"),
    ],
)
def test_what_cannot_be_trained_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        make(Hinge(), **options)


def test_a_schedule_that_grows_is_refused():
    with pytest.raises(UserError, match="does not grow: take growth=fixed"):
        Upres(Hinge(), GrowthSchedule(64, 16), low_size=16, face_size=32, crop=8)


@pytest.mark.parametrize(
    ("options", "processes", "message"),
    [
        ({"batch_norm_group": 3}, 1, "holds no whole groups of 3"),
        ({"batch_norm_group": 4}, 2, "does not divide among 2 processes"),
        ({}, 3, "does not divide among 3 processes"),
    ],
)
def test_batches_that_do_not_divide(options, processes, message):
    with pytest.raises(UserError, match=message):
        make(Hinge(), **options).check_division(processes)
    make(Hinge(), batch_norm_group=2).check_division(2)
