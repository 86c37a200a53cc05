"""Images of several packs as one, and their small changes."""

import numpy as np
import torch
from labelled_packs import bars, pack_items

from imago.classification.augmentation import augment
from imago.classification.images import LabelledImages


def test_images_of_two_packs(bar_pack, tmp_path):
    other = pack_items(bars(9, seed=3), tmp_path / "other")
    some, more = np.array([5, 17, 200]), np.array([0, 8])
    first = LabelledImages([(bar_pack, some)], np.arange(6).reshape(3, 2), 16)
    both = first + LabelledImages([(other, more)], np.array([[-1, -1], [-1, 7]]), 16)
    indices, mirrored = np.array([4, 0, 3, 2, 4]), np.array([True, False, False, True, False])
    found = both.images(indices, mirrored).numpy()
    expected = [other.images(more, 16)[1][..., ::-1], bar_pack.images(some, 16)[0], other.images(more, 16)[0]]
    expected += [bar_pack.images(some, 16)[2][..., ::-1], other.images(more, 16)[1]]
    np.testing.assert_array_equal(found, np.stack(expected))

    known = both.those_with_labels(both.labels)
    assert known.labels.tolist() == [[0, 1], [2, 3], [4, 5], [-1, 7]]
    np.testing.assert_array_equal(known.images(np.array([3]))[0], other.images(more, 16)[1])


def test_augmentation_depends_on_the_position_alone():
    images = torch.rand(12, 3, 16, 16) * 2 - 1
    whole = augment(images, 3, 100)
    parts = torch.cat([augment(images[:5], 3, 100), augment(images[5:], 3, 105)])
    assert torch.equal(whole, parts)
    assert not torch.equal(whole, augment(images, 4, 100))
    assert whole.min() >= -1
    assert whole.max() <= 1


def test_augmentation_moves_whole_pixels_and_keeps_grey_grey():
    """A bright pixel stays one pixel, at most a sixteenth of the height away; equal channels stay equal."""
    images = torch.full((40, 3, 32, 32), -0.5)
    images[:, :, 16, 16] = 0.5
    out = augment(images, 0, 0)
    assert torch.equal(out[:, 0], out[:, 1])
    background = out.flatten(2).median(2).values[:, :, None, None]
    places = (out > background + 0.5)[:, 0].nonzero()
    assert len(places) == 40
    moves = places[:, 1:] - 16
    assert moves.abs().max() == 2
    assert len(moves.unique(dim=0)) > 15
