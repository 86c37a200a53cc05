import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from imago.data.nearest_pixels import NearestPixels
from imago.data.packed import PackedDataset
from imago.data.packing import pack
from imago.data.sources.source import Item
from imago.errors import UserError


class Noise:
    """40 smooth pictures of 64², the last one a mirrored copy of the first, the one before it a copy of the second."""

    name = "noise"

    def __len__(self):
        return 40

    def fingerprint(self):
        return "noise"

    def item_name(self, index):
        return str(index)

    def read(self, index):
        if index == 39:
            return Item(self.read(0).image[:, ::-1].copy(), "39")
        rng = np.random.default_rng(1 if index == 38 else index)
        small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        return Item(small.repeat(8, 0).repeat(8, 1), str(index))


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    return pack(Noise(), tmp_path_factory.mktemp("data") / "noise", resolution=64)


def means(images):
    """(n, C, 64, 64) to the 2×2 means (n, C · 32 · 32), in float64."""
    halves = images.astype(np.float64).reshape(len(images), 3, 32, 2, 32, 2)
    return halves.mean((3, 5)).reshape(len(images), -1)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("block", [7, 64])
def test_the_distances_of_scipy(noise, mirror, block):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (9, 3, 64, 64), dtype=np.uint8)
    pictures[:2] = noise.images(np.array([5, 0]), 64)
    everything = noise.images(np.arange(40), 64)
    expected = cdist(means(pictures), means(everything))
    if mirror:
        expected = np.minimum(expected, cdist(means(pictures), means(everything[..., ::-1])))
    found = NearestPixels(noise, 64, mirror, block).distances(torch.from_numpy(pictures), 3)
    assert found.shape == (9, 3)
    np.testing.assert_allclose(found, np.sort(expected, axis=1)[:, :3], rtol=1e-12)
    assert found[0, 0] == found[1, 0] == 0
    assert found[1, 1] == 0 if mirror else found[1, 1] > 0  # image 39 is its mirror image


def test_a_copy_in_the_pack_is_its_second_neighbour(noise):
    second = NearestPixels(noise, 64, mirror=False).distances(torch.from_numpy(noise.images(np.arange(40), 64)), 2)[
        :, 1
    ]
    assert np.flatnonzero(second == 0).tolist() == [1, 38]


def test_pictures_of_another_shape(noise, blobs):
    nearest = NearestPixels(noise, 64, mirror=False)
    with pytest.raises(UserError, match="pictures are 1×64×64, the images of noise 3×64×64"):
        nearest.distances(torch.zeros(1, 1, 64, 64, dtype=torch.uint8))
    with pytest.raises(UserError, match="holds no resolution 32"):
        NearestPixels(PackedDataset(blobs), 32, mirror=False)
