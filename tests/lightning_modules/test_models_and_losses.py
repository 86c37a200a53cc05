"""Every model with every loss: a few steps of training, or a reason why not."""

import pytest
import torch

from imago.errors import UserError
from imago.growth import GrowthSchedule
from imago.losses import Began, Cramer, Hinge, Lsgan, Minimax, NonSaturating, Relativistic, Wgan, WganGp
from lightning_modules.dcgan import DCGAN
from lightning_modules.hdcgan import HDCGAN
from lightning_modules.pggan import PGGAN
from tiny_models import BATCH, SIZE, labels, make, train

LOSSES = [Minimax, NonSaturating, Lsgan, Wgan, WganGp, Hinge, Cramer, Began, Relativistic]
MODELS = [PGGAN, DCGAN, HDCGAN]


def weights_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_pair_trains(model, loss):
    loss = loss(**({"output_size": 8} if loss is Cramer else {}))
    options = {}
    if model is not PGGAN and loss.penalizes_gradients:
        with pytest.raises(UserError, match=r"take model\.discriminator_norm=layer"):
            make(model, loss)
        options["discriminator_norm"] = "layer"
    module = make(model, loss, **options)
    before = weights_of(module)
    train(module)
    assert module.images_seen == 5 * BATCH
    assert module.skipped_updates == 0
    assert all(bool(torch.isfinite(value)) for value in module.terms.values())
    after = module.state_dict()
    for network in ("generator", "discriminator", "generator_ema"):
        names = [name for name in before if name.startswith(f"{network}.") and before[name].is_floating_point()]
        assert any(not torch.equal(before[name], after[name]) for name in names), network


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_conditional_training_teaches_the_classifier(model):
    module = train(make(model, Hinge(), labels=labels()))
    assert {"real_label_error", "fake_label_error", "generator_label_error"} <= module.terms.keys()
    assert 0 <= module.terms["real_label_accuracy"] <= 1
    codes = module.draw_labels(0, 3, "samples")
    assert module.pictures(torch.randn(3, 4), codes).shape == (3, 3, SIZE, SIZE)


def test_labels_change_what_is_learnt_by_their_weight_alone():
    plain = train(make(DCGAN, Hinge(), labels=labels(), label_weight=0.0), 2)
    weighted = train(make(DCGAN, Hinge(), labels=labels(), label_weight=1.0), 2)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(plain.generator.parameters(), weighted.generator.parameters(), strict=True)
    )


def test_an_autoencoder_has_no_auxiliary_classifier():
    with pytest.raises(UserError, match="no auxiliary classifier"):
        make(DCGAN, Began(), labels=labels())


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (WganGp(), {"sync_batch_norm": True}, "SyncBatchNorm has no second derivative"),
        (Hinge(r1=1), {"batch_norm_group": 2}, "depend on the other images"),
        (Hinge(), {"generator_norm": "pixel"}, "model.generator_norm must be batch, layer or none"),
        (Hinge(), {"batch_norm_group": 1}, "at least 2"),
        (Hinge(), {"batch_norm_group": 2, "sync_batch_norm": True}, "goes without"),
        (Hinge(), {"telescope_mode": "cubic"}, "bilinear or nearest"),
        (Hinge(), {"discriminator_noise": -1}, "must not be negative"),
        (Hinge(), {"noise_decay_images": 0}, "at least 1 or null"),
        (Hinge(), {"label_weight": -1}, "model.label_weight"),
    ],
)
def test_options_that_cannot_train(loss, options, message):
    with pytest.raises(UserError, match=message):
        make(HDCGAN, loss, **options)


def test_pyramids_do_not_grow():
    with pytest.raises(UserError, match="does not grow from 4 to 16: take growth=fixed"):
        DCGAN(Hinge(), GrowthSchedule(16, 4))


# --- HDCGAN's noise and Glasses ---------------------------------------------------------------------------------------


def test_input_noise_is_standard_normal_and_fades():
    module = make(HDCGAN, Hinge(), noise_decay_images=1000, seed=3)
    images = torch.zeros(64, 3, SIZE, SIZE)
    noisy = module.perturb_images(images, "noise", 0)
    assert noisy.std().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(noisy[5:], module.perturb_images(images[5:], "noise", 5))
    module.images_seen = 750
    torch.testing.assert_close(module.perturb_images(images, "noise", 0), 0.25 * noisy)
    module.images_seen = 2000
    assert module.perturb_images(images, "noise", 0) is images
    assert make(DCGAN, Hinge()).perturb_images(images, "noise", 0) is images


@pytest.mark.parametrize(("telescope", "extent"), [(2, (32, 32)), ([2, 1], (32, 16))])
def test_glasses(telescope, extent):
    """Images twice as large reach the networks; samples are read back at the size of the data."""
    module = make(HDCGAN, Hinge(), telescope=telescope)
    seen = []
    module.discriminator.layers[0].register_forward_pre_hook(lambda layer, x: seen.append(tuple(x[0].shape[2:])))
    train(module, 2)
    assert set(seen) == {extent}
    assert module.pictures(torch.randn(2, 4)).shape == (2, 3, SIZE, SIZE)
    image = torch.rand(1, 3, SIZE, SIZE)
    nearest = make(HDCGAN, Hinge(), telescope=telescope, telescope_mode="nearest")
    torch.testing.assert_close(nearest.generator.read_back(nearest.prepare_reals(image)), image)


# --- batch statistics -------------------------------------------------------------------------------------------------


def test_batch_norm_groups_make_micro_batches_equal_to_the_whole():
    def weights(**options):
        module = make(DCGAN, Hinge(), batch_norm_group=2, **options).double()
        return train(module, 3).generator.state_dict()

    whole, parts = weights(), weights(micro_batch=2)
    for name in whole:
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(whole[name], parts[name], rtol=1e-8, atol=1e-10)


def test_the_averaged_generator_averages_the_running_statistics():
    module = make(DCGAN, Hinge(), ema_half_life=None, ema_rampup=None, ema_decay=0.5)
    name = "layers.0.norm.running_mean"
    average = module.generator_ema.state_dict()[name].clone()
    train(module, 1)
    average = 0.5 * average + 0.5 * module.generator.state_dict()[name]
    torch.testing.assert_close(module.generator_ema.state_dict()[name], average)


def test_without_an_average_the_samples_are_the_generators():
    module = train(make(DCGAN, Hinge(), ema_half_life=None, ema_rampup=None, ema_decay=0.0), 3)
    generator, average = module.generator.state_dict(), module.generator_ema.state_dict()
    assert all(torch.equal(generator[name], average[name]) for name in generator)


# --- division ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "processes", "message"),
    [
        ({"batch_norm_group": 8}, 1, "model.batch_norm_group=8 is more than the batch of 4"),
        ({"batch_norm_group": 3}, 1, "the batch of 4 at resolution 16 holds no whole groups of 3"),
        ({"batch_norm_group": 4}, 2, r"\(groups of 4\) does not divide among 2 processes"),
    ],
)
def test_groups_that_do_not_fit(options, processes, message):
    with pytest.raises(UserError, match=message):
        make(DCGAN, Hinge(), **options).check_division(processes)


def test_pairs_stay_whole_when_a_batch_is_divided():
    module = make(DCGAN, Cramer(), discriminator_norm="layer")
    module.check_division(2)
    with pytest.raises(UserError, match="compares images in pairs"):
        module.check_division(4)
    with pytest.raises(UserError, match="compares images in pairs"):
        make(DCGAN, Cramer(), discriminator_norm="layer", micro_batch=1).check_division(1)


def test_a_single_value_cannot_be_normalised():
    schedule = GrowthSchedule(16, 16, batch_size=1, learning_rate=2e-4, mbstd_group=1)
    with pytest.raises(UserError, match="nothing to average over"):
        DCGAN(Hinge(), schedule, base=(1, 1), filters=2).check_division(1)
