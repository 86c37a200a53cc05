"""Batches are functions of images_seen."""

from itertools import islice

import numpy as np
import torch
from labelled_packs import bars, pack_items
from torch.utils.data import DataLoader

from datamodules.attributes import LabelledStream
from imago.classification.images import LabelledImages
from imago.growth import GrowthSchedule


def test_a_stream_that_begins_later_goes_on_with_the_same_batches(tmp_path):
    dataset = pack_items(bars(30), tmp_path / "bars")
    labels = dataset.labels.astype(np.int64)
    images = LabelledImages([(dataset, np.arange(30))], labels, 16)
    schedule = GrowthSchedule(16, 16, batch_size=8, mbstd_group=1)

    def batches(start, count, workers=0):
        loader = DataLoader(LabelledStream(images, schedule, 5, start), batch_size=None, num_workers=workers)
        return list(islice(loader, count))

    first = batches(0, 8)
    assert [batch["images_seen"] for batch in first] == list(range(0, 64, 8))
    for later in (batches(24, 5), batches(24, 5, workers=2)):
        for one, other in zip(first[3:], later, strict=True):
            assert all(torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key])) for key in one)
    shown = torch.cat([batch["labels"] for batch in first])[:30]  # an epoch: every label once
    assert sorted(map(tuple, shown.tolist())) == sorted(map(tuple, labels.tolist()))
    # A mirrored bar is the same bar, so images and labels belong together however they were flipped.
    pixels = first[0]["images"].float()
    assert (
        (pixels[:, :, :8].mean((1, 2, 3)) > pixels[:, :, 8:].mean((1, 2, 3))) == (first[0]["labels"][:, 1] == 1)
    ).all()
