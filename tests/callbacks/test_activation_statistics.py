import pytest
import torch

from callbacks.activation_statistics import ActivationStatistics, layers_of, moments
from callbacks.csv_table import read_rows
from imago.losses import Began, Hinge
from imago.networks import ProgressiveDiscriminator
from lightning_modules.dcgan import DCGAN
from lightning_modules.hdcgan import HDCGAN
from lightning_modules.pggan import PGGAN
from tiny_models import BATCH, make, train


def test_moments_are_of_all_numbers():
    x = torch.randn(3, 4, 5, 5)
    assert moments(x).tolist() == pytest.approx([x.numpy().mean(), x.numpy().astype("float64").var()], rel=1e-5)


@pytest.mark.parametrize("model", [PGGAN, DCGAN, HDCGAN])
def test_a_run_is_the_same_with_and_without(model, tmp_path):
    plain = train(make(model, Hinge()), 4).state_dict()
    watched = train(make(model, Hinge()), 4, [ActivationStatistics(2 * BATCH)], tmp_path).state_dict()
    assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_rows_of_bs_layers(tmp_path):
    """Batch normalisation and SELU: mean and variance near (0, 1) in all layers that are normalised."""
    train(make(HDCGAN, Hinge()), 6, [ActivationStatistics(2 * BATCH)], tmp_path)
    rows = read_rows(tmp_path / "activations.csv")
    assert [int(row["images_seen"]) for row in rows] == [BATCH, 2 * BATCH, 4 * BATCH, 6 * BATCH]
    layers = {name.rpartition("/")[0] for name in rows[0] if name != "images_seen"}
    assert layers == {"generator/0", "generator/1", "discriminator/0", "discriminator/1"}
    for name in layers - {"discriminator/0"}:  # which has no normalisation
        assert abs(float(rows[-1][f"{name}/mean"])) < 0.3
        assert 0.6 < float(rows[-1][f"{name}/variance"]) < 1.5


def test_layers_come_from_the_input_on():
    network = ProgressiveDiscriminator(32, fmap_base=64, fmap_max=8)
    assert layers_of(network) == list(network.blocks)[::-1]


def test_an_autoencoders_layers_come_from_the_input_on():
    network = make(PGGAN, Began()).discriminator
    assert layers_of(network) == [*list(network.encoder.blocks)[::-1], *network.decoder.blocks]
