"""Batches as a function of images_seen, whoever makes them."""

import threading
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.packed import BatchStream, PackedDataModule
from datamodules.upres_pairs import UpresPairsDataModule
from imago.data import PackedDataset
from imago.data.sampler import flips, sample_indices
from imago.errors import UserError
from imago.growth import GrowthSchedule

SCHEDULE = GrowthSchedule(16, 4, stabilize_images=32, fade_images=32, final_images=64, batch_size={4: 16, 8: 8})


@pytest.fixture
def dataset(blobs):
    return PackedDataset(blobs)


def first(count, *arguments, **options):
    stream = iter(BatchStream(*arguments, **options))
    return [next(stream) for _ in range(count)]


def test_batches_are_the_images_that_the_order_names(dataset):
    (batch,) = first(1, dataset, SCHEDULE, seed=3, images_seen=64)
    expected = dataset.images(sample_indices(3, 48, 64, 8), 8)
    flipped = flips(3, 64, 8)
    expected[flipped] = expected[flipped][..., ::-1]
    assert batch["images_seen"] == 64
    assert batch["images"].dtype == torch.uint8
    assert np.array_equal(batch["images"][0].numpy(), expected)


def test_resolution_and_batch_follow_the_schedule(dataset):
    batches = first(8, dataset, SCHEDULE, seed=0)
    assert [batch["images_seen"] for batch in batches] == [0, 16, 32, 40, 48, 56, 64, 72]
    assert [tuple(batch["images"].shape) for batch in batches[1:3]] == [(1, 16, 3, 4, 4), (1, 8, 3, 8, 8)]


def test_stream_begins_anywhere_as_if_it_had_come_there(dataset):
    whole = first(12, dataset, SCHEDULE, seed=0, n_critic=2)
    for position in (3, 7):
        rest = first(3, dataset, SCHEDULE, seed=0, images_seen=whole[position]["images_seen"], n_critic=2)
        for batch, expected in zip(rest, whole[position:], strict=False):
            assert batch["images_seen"] == expected["images_seen"]
            assert torch.equal(batch["images"], expected["images"])


@pytest.mark.parametrize("processes", [2, 4])
def test_shares_of_the_processes_make_up_the_batch(dataset, processes):
    whole = first(10, dataset, SCHEDULE, seed=0)
    shares = [first(10, dataset, SCHEDULE, seed=0, rank=rank, processes=processes) for rank in range(processes)]
    for i, batch in enumerate(whole):
        assert torch.equal(torch.cat([share[i]["images"] for share in shares], dim=1), batch["images"])


@pytest.mark.parametrize("workers", [1, 2])
def test_loader_workers_change_nothing(dataset, workers):
    whole = first(10, dataset, SCHEDULE, seed=0)
    loader = DataLoader(BatchStream(dataset, SCHEDULE, 0), batch_size=None, num_workers=workers)
    for expected, batch in zip(whole, loader, strict=False):
        assert batch["images_seen"] == expected["images_seen"]
        assert torch.equal(batch["images"], expected["images"])


@pytest.fixture
def compressed(compressed_blobs):
    return PackedDataset(compressed_blobs)


@pytest.mark.parametrize(("threads", "workers"), [(1, 0), (3, 0), (2, 1)])
def test_decoding_threads_change_nothing(compressed, threads, workers):
    whole = first(14, compressed, SCHEDULE, seed=0, n_critic=2)
    stream = BatchStream(compressed, SCHEDULE, 0, n_critic=2, threads=threads)
    batches = list(islice(DataLoader(stream, batch_size=None, num_workers=workers), 14))
    assert {batch["images"].shape[-1] for batch in batches} == {4, 8, 16}
    for expected, batch in zip(whole, batches, strict=True):
        assert batch["images_seen"] == expected["images_seen"]
        assert torch.equal(batch["images"], expected["images"])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_an_error_in_a_thread_is_told(compressed, monkeypatch):
    def damaged(*arguments):
        raise UserError("img00000001.png is damaged")

    monkeypatch.setattr(compressed, "_decode", damaged)
    with pytest.raises(UserError, match="is damaged"):
        first(3, compressed, SCHEDULE, seed=0, images_seen=64, threads=2)


def test_mirroring_can_be_turned_off(dataset):
    (batch,) = first(1, dataset, SCHEDULE, seed=3, images_seen=64, mirror=False)
    assert np.array_equal(batch["images"][0].numpy(), dataset.images(sample_indices(3, 48, 64, 8), 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 1}, "has 3 channels and data.channels=1"),
        ({"base": (4, 3)}, "was packed with base"),
        ({"resolution": 32}, "holds no resolution 32"),
        ({"expected_checksum": "other"}, "is not the data that this run began with"),
    ],
)
def test_data_that_do_not_fit_the_run_are_refused(blobs, options, message):
    expected_checksum = options.pop("expected_checksum", None)
    module = PackedDataModule(**{"resolution": 16, "base": (4, 4), "seed": 0, "path": str(blobs), **options})
    module.expected_checksum = expected_checksum
    with pytest.raises(UserError, match=message):
        module.prepare_data()


@pytest.mark.parametrize("kind", [PackedDataModule, UpresPairsDataModule])
@pytest.mark.parametrize(("option", "value", "least"), [("workers", -1, 0), ("threads", -1, 0), ("prefetch", 0, 1)])
def test_the_count_that_makes_no_sense_is_named(kind, option, value, least):
    with pytest.raises(UserError, match=rf"^data\.{option} must be at least {least}, not {value}$"):
        kind(resolution=16, base=(4, 4), seed=0, path="pack", **{option: value})
