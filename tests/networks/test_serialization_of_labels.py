"""A conditional generator's file says what the generator can be asked for."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from imago.data.packed import LabelColumn
from imago.errors import UserError
from imago.labels import LabelCoding, LabelDistribution
from imago.networks import DCGANGenerator, HDCGANGenerator, ProgressiveGenerator
from imago.networks.serialization import describe_generator, load_generator, read_description, save_generator

CODING = LabelCoding((LabelColumn("Glasses", ("no", "eyeglasses", "sunglasses")), LabelColumn("Smile", ("no", "yes"))))
ROWS = np.stack([np.arange(5000) % 3, np.arange(5000) % 5 % 2], axis=1).astype(np.int16)


def progressive(label_size=5):
    torch.manual_seed(0)
    return ProgressiveGenerator(8, latent_size=4, fmap_base=16, fmap_max=4, label_size=label_size)


def saved(path, generator, labels=True):
    description = describe_generator(generator, 8, 0.5, 1000, LabelDistribution(CODING, ROWS) if labels else None)
    save_generator(path, generator, description)
    return path


@pytest.fixture
def file(tmp_path):
    return saved(tmp_path / "generator.safetensors", progressive())


def rewritten(file, change):
    with safe_open(file, framework="pt") as opened:
        description = json.loads(opened.metadata()["imago"])
    change(description)
    save_file(load_file(file), file, metadata={"imago": json.dumps(description)})
    return file


def test_labels_come_back_as_a_sample_of_rows(file):
    labels = load_generator(file).labels
    assert labels.coding == CODING
    assert len(labels.codes) == 1000
    assert len(np.unique(labels.codes, axis=0)) == 6  # evenly spaced rows: every combination is among them
    assert file.stat().st_size < 40_000


def test_a_checkpoint_holds_the_same(file, tmp_path):
    checkpoint = {"description": read_description(file), "generator_ema": progressive().state_dict()}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    labels = load_generator(tmp_path / "last.ckpt").labels
    assert np.array_equal(labels.codes, load_generator(file).labels.codes)


def test_pictures_are_the_networks_at_the_saved_stage(file):
    loaded, z, codes = load_generator(file), torch.randn(3, 4), torch.tensor([[0, 1], [2, -1], [-1, 0]])
    one_hot = torch.tensor([[1.0, 0, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]])
    assert torch.equal(loaded.pictures(z, codes), progressive()(z, one_hot, 8, 0.5))


@pytest.mark.parametrize("network", [DCGANGenerator, HDCGANGenerator])
def test_other_generators(tmp_path, network):
    G = network(resolution=8, latent_size=4, filters=4, label_size=5).eval()
    loaded = load_generator(saved(tmp_path / "g.safetensors", G))
    z, codes = torch.randn(3, 4), torch.tensor([[0, 1], [2, 0], [1, 0]])
    assert torch.equal(loaded.pictures(z, codes), G(z, CODING.one_hot(codes)))


def test_labels_where_there_are_none_and_none_where_there_are_some(file, tmp_path):
    with pytest.raises(UserError, match="this generator needs labels"):
        load_generator(file).pictures(torch.randn(3, 4))
    plain = load_generator(saved(tmp_path / "plain.safetensors", progressive(0), labels=False))
    assert plain.labels is None
    with pytest.raises(UserError, match="was trained without labels"):
        plain.pictures(torch.randn(3, 4), torch.zeros(3, 2, dtype=torch.int64))
    assert "labels" not in read_description(tmp_path / "plain.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("labels"),
        lambda d: d.update(labels=None),
        lambda d: d.update(labels=[1, 2]),
        lambda d: d["labels"].update(rows=[]),
        lambda d: d["labels"].update(rows=[[0, 1], [0]]),
        lambda d: d["labels"].update(rows=[[0, 7]]),
        lambda d: d["labels"].update(rows=[[0, 10**9]]),
        lambda d: d["labels"].update(columns=[]),
        lambda d: d["labels"]["columns"].pop(),
        lambda d: d["labels"]["columns"][0][1].append("monocle"),
        lambda d: d["config"].update(label_size=4),
        lambda d: d["config"].pop("label_size"),
    ],
)
def test_descriptions_that_do_not_fit_are_told(file, change):
    with pytest.raises(UserError, match=r"generator.safetensors: the network in it cannot be built: .+") as caught:
        load_generator(rewritten(file, change))
    assert "\n" not in str(caught.value)
