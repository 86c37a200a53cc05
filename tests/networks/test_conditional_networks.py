"""Labels in the progressive networks: beside the latents in, as logits of an auxiliary classifier out."""

import hashlib

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from imago.errors import UserError
from imago.networks import ProgressiveDiscriminator, ProgressiveGenerator

OPTIONS = {"resolution": 16, "fmap_base": 64, "fmap_max": 8}


def generator(label_size=3, seed=0):
    torch.manual_seed(seed)
    return ProgressiveGenerator(**OPTIONS, latent_size=5, label_size=label_size).double()


def discriminator(**options):
    torch.manual_seed(0)
    return ProgressiveDiscriminator(**OPTIONS, **options).double()


def latents(count=4):
    return torch.linspace(-2, 2, 5 * count, dtype=torch.float64).reshape(count, 5)


def labels(*codes):
    return one_hot(torch.tensor(codes), 3)


def images(count=8):
    return torch.randn(count, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


# --- without labels nothing has changed -------------------------------------------------------------------------------


def test_networks_without_labels_are_those_of_before_there_were_labels():
    """Names, draws and outputs recorded from the networks that knew of no labels."""
    torch.manual_seed(0)
    G, D = ProgressiveGenerator(**OPTIONS, latent_size=5), ProgressiveDiscriminator(**OPTIONS)
    assert torch.rand(1).item() == 0.13976556062698364  # as many random numbers were drawn
    names = repr([*G.state_dict(), *D.state_dict()])
    assert hashlib.sha256(names.encode()).hexdigest()[:16] == "b943bf173250fdbb"
    G, D = G.double(), D.double()
    made = G(latents(), resolution=16, alpha=0.25)
    assert made.sum().item() == pytest.approx(-242.948353, abs=1e-3)
    # The weights are float32 draws, whose last bits differ between processors.
    recorded = [-0.188037978795, -0.194157936881, -0.214868200579, -0.213906544804]
    assert D(made, alpha=0.25).tolist() == pytest.approx(recorded, abs=1e-5)
    assert G.config.keys() == {"resolution", "channels", "base", "fmap_base", "fmap_max", "latent_size"}
    assert D.config.keys() == {"resolution", "channels", "base", "fmap_base", "fmap_max", "mbstd_group"}


# --- generator --------------------------------------------------------------------------------------------------------


def test_latents_and_labels_are_normalised_together():
    """The first layer in NumPy, from the concatenation on."""
    G, z, y = generator(), latents(), labels(0, 2, 1, 2)
    x = np.concatenate([z.numpy(), y.numpy()], axis=1)
    x /= np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-8)
    first = G.blocks[0].first
    weight = first.linear.weight.detach().numpy() * (np.sqrt(2) / 4 / np.sqrt(8))
    expected = (x @ weight.T).reshape(4, 8, 4, 4) + first.bias.detach().numpy()[:, None, None]
    seen = []
    first.register_forward_hook(lambda module, inputs, output: seen.append(output.detach().clone()))
    G(z, y)
    np.testing.assert_allclose(seen[0].numpy(), expected, rtol=1e-12)


def test_an_image_depends_on_its_own_label_only():
    G, z = generator(), latents()
    together = G(z, labels(0, 1, 2, 0), resolution=8, alpha=0.5)
    for i, code in enumerate((0, 1, 2, 0)):
        alone = G(z[i : i + 1], labels(code), resolution=8, alpha=0.5)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)
    assert not torch.allclose(together, G(z, labels(1, 1, 2, 0), resolution=8, alpha=0.5))


def test_labels_of_any_type_of_number():
    G, y = generator(), labels(0, 1, 2, 0)
    assert torch.equal(G(latents(), y.float()), G(latents(), y))


@pytest.mark.parametrize(
    ("label_size", "given", "message"),
    [
        (3, None, "this generator needs labels: 4 × 3, one-hot"),
        (0, torch.zeros(4, 3), "this generator was built without labels"),
        (3, torch.zeros(4, 2), r"labels of \(4, 2\): this generator needs \(4, 3\), one-hot"),
        (3, torch.zeros(5, 3), r"labels of \(5, 3\)"),
        (3, torch.zeros(4), r"labels of \(4,\)"),
    ],
)
def test_labels_that_do_not_fit_are_told_in_one_line(label_size, given, message):
    with pytest.raises(UserError, match=message) as caught:
        generator(label_size)(latents(), given)
    assert "\n" not in str(caught.value)


def test_a_conditional_generator_is_built_again_from_its_config():
    G = generator()
    again = ProgressiveGenerator(**G.config).double()
    again.load_state_dict(G.state_dict())
    assert torch.equal(again(latents(), labels(0, 1, 2, 0)), G(latents(), labels(0, 1, 2, 0)))
    assert G.read_back(images()) is not None
    assert torch.equal(G.read_back(images()), images())


# --- discriminator ----------------------------------------------------------------------------------------------------


def test_the_official_head_one_layer_of_score_and_logits():
    D = discriminator(label_logits=4)
    assert D.output.output.weight.shape == (5, 8)
    scores, logits = D.outputs_and_logits(images(), alpha=0.25)
    assert scores.shape == (8,)
    assert logits.shape == (8, 4)
    assert torch.equal(D(images(), alpha=0.25), scores)


def test_the_score_is_that_of_the_same_network_without_a_classifier():
    D, plain = discriminator(label_logits=4), discriminator()
    state = D.state_dict()
    state["output.output.weight"], state["output.output.bias"] = D.output.output.weight[:1], D.output.output.bias[:1]
    plain.load_state_dict(state)
    torch.testing.assert_close(D(images()), plain(images()), rtol=0, atol=1e-12)
    outputs, logits = plain.outputs_and_logits(images())
    assert logits is None
    assert torch.equal(outputs, plain(images()))


@pytest.mark.parametrize(("size", "logits"), [(1, 0), (6, 0), (6, 3)])
def test_vectors_and_logits(size, logits):
    D = discriminator(output_size=size, label_logits=logits)
    vectors, found = D.outputs_and_logits(images())
    assert vectors.shape == (8, size)
    assert (found is None) == (logits == 0)
    assert found is None or found.shape == (8, logits)
    again = ProgressiveDiscriminator(**D.config).double()
    again.load_state_dict(D.state_dict())
    assert torch.equal(again(images()), vectors)


def test_logits_depend_on_the_images_of_their_minibatch_only():
    D = discriminator(label_logits=4)
    together = D.outputs_and_logits(images(8))[1]
    torch.testing.assert_close(together[4:], D.outputs_and_logits(images(8)[4:])[1], rtol=0, atol=1e-12)


def test_gradients_reach_the_images_through_the_logits():
    D = discriminator(label_logits=2)
    x = images(4)[:, :, :4, :4].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: D.outputs_and_logits(x)[1], (x,), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{"output_size": 0}, {"label_logits": -1}])
def test_outputs_that_make_no_sense(options):
    with pytest.raises(UserError, match="output_size must be at least 1 and label_logits not negative"):
        discriminator(**options)
    with pytest.raises(UserError, match="label_size must not be negative"):
        generator(-1)
