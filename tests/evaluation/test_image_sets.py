"""The two sets that an evaluation compares: every image is a function of the seed and its number."""

import numpy as np
import pytest
import torch

from imago.data import PackedDataset
from imago.errors import UserError
from imago.evaluation.image_sets import AllImages, GeneratedImages, PooledImages, RealImages, batches, images_of
from imago.networks import ProgressiveGenerator
from imago.networks.serialization import LoadedGenerator


@pytest.fixture(scope="module")
def dataset(blobs):
    return PackedDataset(blobs)


def in_a_row(images, count, size):
    return torch.cat([batch for _, batch in batches(images, count, size)])


def test_real_images_are_each_image_once_in_an_order_of_the_seed(dataset):
    sample = in_a_row(RealImages(dataset, 16, seed=3), 48, 7)
    everything = in_a_row(AllImages(dataset, 16), 48, 48)
    assert sorted(image.numpy().tobytes() for image in sample) == sorted(i.numpy().tobytes() for i in everything)
    assert not torch.equal(sample, everything)
    assert torch.equal(sample, in_a_row(RealImages(dataset, 16, seed=3), 48, 48))
    assert not torch.equal(sample, in_a_row(RealImages(dataset, 16, seed=4), 48, 48))


def test_the_first_half_of_both_directions_is_disjoint(dataset):
    forwards, backwards = (RealImages(dataset, 16, backwards=b).images(0, 24) for b in (False, True))
    together = {image.numpy().tobytes() for image in torch.cat([forwards, backwards])}
    assert len(together) == 48


def test_half_of_the_images_are_mirrored_whatever_the_batches(dataset):
    plain, mirrored = (in_a_row(RealImages(dataset, 16, mirror=m), 48, 5) for m in (False, True))
    flipped = [not torch.equal(a, b) for a, b in zip(plain, mirrored, strict=True)]
    assert 12 < sum(flipped) < 36  # 24 ± 3.5 σ
    for i, flip in enumerate(flipped):
        assert torch.equal(mirrored[i], plain[i].flip(-1) if flip else plain[i])
    assert torch.equal(mirrored, in_a_row(RealImages(dataset, 16, mirror=True), 48, 48))


def test_more_images_than_there_are(dataset):
    with pytest.raises(UserError, match="48 images, 49 were asked for"):
        RealImages(dataset, 16).images(40, 9)


def test_processes_share_the_batches():
    class Numbers:
        def images(self, first, count):
            return torch.arange(first, first + count)

    shares = [list(batches(Numbers(), 23, 4, rank, 3)) for rank in range(3)]
    assert sorted(n for share in shares for _, batch in share for n in batch.tolist()) == list(range(23))
    assert [first for first, _ in shares[1]] == [4, 16]


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return ProgressiveGenerator(resolution=16, latent_size=8, fmap_base=64, fmap_max=8).eval()


def loaded(generator, resolution, alpha=1.0):
    return LoadedGenerator(generator, resolution, alpha, 0, {})


def test_generated_images_depend_on_their_number_only(generator):
    images = images_of(loaded(generator, 16), 16, seed=1, device="cpu", batch_size=4)
    everything = images.images(0, 10)
    assert everything.dtype == torch.uint8
    assert everything.shape == (10, 3, 16, 16)
    difference = (images.images(3, 5).int() - everything[3:8].int()).abs()
    assert difference.max() <= 1  # sums ordered otherwise may round otherwise
    assert not torch.equal(everything, images_of(loaded(generator, 16), 16, 2, "cpu", 4).images(0, 10))


def test_a_smaller_generator_is_enlarged_by_repeating_pixels(generator):
    small = images_of(loaded(generator, 8, 0.5), 8, 0, "cpu", 4).images(0, 3)
    large = images_of(loaded(generator, 8, 0.5), 32, 0, "cpu", 4).images(0, 3)
    assert np.array_equal(large.numpy(), np.kron(small.numpy(), np.ones((1, 1, 4, 4), np.uint8)))
    with torch.no_grad():
        latents = GeneratedImages(generator, 8, 8).latents(0, 3)
        expected = generator(latents, None, 8, 0.5)
    assert torch.equal(small, (expected * 127.5 + 127.5).round().clamp(0, 255).byte())


def test_a_resolution_that_does_not_fit(generator):
    with pytest.raises(UserError, match="multiple of 16"):
        images_of(loaded(generator, 16), 24, 0, "cpu", 4)


def test_a_generator_that_has_diverged():
    broken = GeneratedImages(lambda latents, codes: torch.full((len(latents), 3, 4, 4), torch.nan), 8, 4)
    with pytest.raises(UserError, match="not finite"):
        broken.images(0, 2)


def test_pooled_generators_take_turns():
    def constant(value):
        return GeneratedImages(lambda latents, codes: torch.full((len(latents), 1, 4, 4), value), 8, 4)

    pool = PooledImages([constant(-1.0), constant(0.0), constant(1.0)])
    assert pool.images(0, 7)[:, 0, 0, 0].tolist() == [0, 128, 255, 0, 128, 255, 0]
    assert pool.images(4, 2)[:, 0, 0, 0].tolist() == [128, 255]
    images = GeneratedImages(lambda z, codes: z.reshape(-1, 1, 2, 4), 8, 2, seed=5)
    numbered = PooledImages([images, images])
    assert torch.equal(numbered.images(0, 6)[0::2], images.images(0, 3))
    assert torch.equal(numbered.images(3, 3)[1:2], images.images(2, 1))
