"""Labels travel with their images, whoever makes the batches."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.packed import BatchStream, PackedDataModule
from imago.data import PackedDataset
from imago.data.sampler import sample_indices
from imago.errors import UserError
from imago.growth import GrowthSchedule
from imago.labels import LabelDistribution

SCHEDULE = GrowthSchedule(16, 4, stabilize_images=32, fade_images=32, final_images=64, batch_size={4: 16, 8: 8})


@pytest.fixture(scope="module")
def dataset(labelled_blobs):
    return PackedDataset(labelled_blobs)


def first(count, *arguments, **options):
    return list(islice(BatchStream(*arguments, **options), count))


def module(path, labels, **options):
    return PackedDataModule(resolution=16, base=(4, 4), seed=0, path=str(path), labels=labels, **options)


def test_each_image_comes_with_its_own_labels(dataset):
    batch = first(3, dataset, SCHEDULE, seed=3, n_critic=2, labels=dataset.labels)[2]
    assert batch["labels"].dtype == torch.int64
    assert batch["labels"].shape == (2, 8, 2)
    position = batch["images_seen"]
    for i in range(2):
        indices = sample_indices(3, 48, position + 8 * i, 8)
        texts = [dataset.label_texts(int(index)) for index in indices]
        for text, index, codes in zip(texts, indices, batch["labels"][i].tolist(), strict=True):
            assert text["Glasses"] == ("no", "eyeglasses", "sunglasses")[index % 3]
            values = [column.values for column in dataset.label_columns]
            assert [v[c] if c >= 0 else "" for v, c in zip(values, codes, strict=True)] == list(text.values())
            assert (text["Smile"] == "") == (index % 8 == 0)


def test_without_chosen_labels_there_are_none(dataset):
    assert first(1, dataset, SCHEDULE, seed=3)[0].keys() == {"images", "images_seen"}


def test_processes_and_loader_workers_share_them_out(dataset):
    whole = first(10, dataset, SCHEDULE, seed=0, labels=dataset.labels)
    shares = [first(10, dataset, SCHEDULE, seed=0, rank=rank, processes=2, labels=dataset.labels) for rank in range(2)]
    stream = BatchStream(dataset, SCHEDULE, seed=0, labels=dataset.labels)
    loaded = list(islice(DataLoader(stream, batch_size=None, num_workers=2), 10))
    for i, batch in enumerate(whole):
        assert torch.equal(torch.cat([share[i]["labels"] for share in shares], dim=1), batch["labels"])
        assert torch.equal(loaded[i]["labels"], batch["labels"])


@pytest.mark.parametrize(
    ("names", "columns"),
    [(["smile"], ["Smile"]), (["SMILE", "glasses"], ["Smile", "Glasses"]), (["all"], ["Glasses", "Smile"])],
)
def test_columns_are_chosen_by_name(labelled_blobs, dataset, names, columns):
    distribution = module(labelled_blobs, names).label_distribution()
    assert [column.name for column in distribution.coding.columns] == columns
    places = [[c.name for c in dataset.label_columns].index(name) for name in columns]
    assert np.array_equal(distribution.codes, dataset.labels[:, places])


@pytest.mark.parametrize("names", [None, []])
def test_no_labels_chosen(labelled_blobs, names):
    data = module(labelled_blobs, names)
    assert data.label_distribution() is None
    assert data.dataset is None  # nothing was opened for it


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["smiel"], "labelled has no labels 'smiel'; it has glasses, smile; did you mean smile?"),
        (["smile", "Smile"], "give each column once"),
    ],
)
def test_columns_that_there_are_not(labelled_blobs, names, message):
    with pytest.raises(UserError, match=message):
        module(labelled_blobs, names).label_distribution()


def test_a_pack_without_labels(blobs):
    with pytest.raises(UserError, match=r"data\.labels: blobs has no labels"):
        module(blobs, ["all"]).label_distribution()


def test_looking_at_the_labels_spares_no_check(labelled_blobs):
    data = module(labelled_blobs, ["smile"], channels=1)
    data.label_distribution()
    with pytest.raises(UserError, match=r"has 3 channels and data\.channels=1"):
        data.prepare_data()
    data = module(labelled_blobs, ["smile"])
    assert isinstance(data.label_distribution(), LabelDistribution)
    data.expected_checksum = "other"
    with pytest.raises(UserError, match="is not the data that this run began with"):
        data.prepare_data()
