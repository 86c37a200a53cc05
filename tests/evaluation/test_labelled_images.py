"""Images of conditional generators: what an evaluation asks them for is a draw from the training labels."""

import numpy as np
import pytest
import torch

from imago.data.packed import LabelColumn
from imago.evaluation.image_sets import GeneratedImages, images_of
from imago.evaluation.other_measures import PathLengthMeasure
from imago.labels import LabelCoding, LabelDistribution
from imago.networks import ProgressiveGenerator
from imago.networks.serialization import LoadedGenerator

CODING = LabelCoding((LabelColumn("Glasses", ("no", "eyeglasses", "sunglasses")),))
LABELS = LabelDistribution(CODING, np.array([[0]] * 6 + [[1]] * 3 + [[2]], dtype=np.int16))


@pytest.fixture(scope="module")
def loaded():
    torch.manual_seed(0)
    generator = ProgressiveGenerator(8, latent_size=4, fmap_base=16, fmap_max=4, label_size=3).eval()
    return LoadedGenerator(generator, 8, 1.0, 0, {}, LABELS)


def test_images_have_the_labels_of_the_training_set(loaded):
    images = images_of(loaded, 8, seed=1, device="cpu", batch_size=4)
    codes = images.codes(0, 5000)[:, 0]
    shares = torch.bincount(codes).double() / 5000
    assert shares.tolist() == pytest.approx([0.6, 0.3, 0.1], abs=0.035)  # 5 σ
    expected = loaded.generator(images.latents(0, 7), CODING.one_hot(codes[:7, None]))
    difference = images.images(0, 7).int() - (expected * 127.5 + 127.5).round().clamp(0, 255).int()
    assert difference.abs().max() <= 1


def test_image_and_label_depend_on_the_number_only(loaded):
    one, other = (images_of(loaded, 8, seed=1, device="cpu", batch_size=size) for size in (4, 3))
    assert torch.equal(one.codes(3, 5), other.codes(0, 8)[3:])
    assert (one.images(3, 5).int() - other.images(0, 8)[3:].int()).abs().max() <= 1
    assert not torch.equal(one.codes(0, 50), images_of(loaded, 8, 2, "cpu", 4).codes(0, 50))


def test_path_length_keeps_the_labels_along_a_step():
    """Images that are nothing but their label's number: only a change of label would make a length."""
    images = GeneratedImages(
        lambda z, codes: codes.double().reshape(-1, 1, 1, 1).expand(-1, 1, 16, 16) + 0 * z.sum(),
        4,
        16,
        labels=LABELS,
    )
    seen = []

    def distance(first, second):
        seen.append(first[:, 0, 0, 0])
        return (first - second).abs().mean(dim=(1, 2, 3))

    measure = PathLengthMeasure(20, distance, batch_size=8)
    measure.begin(images)
    assert measure.rows()[0].value == 0
    assert torch.cat(seen).tolist() == images.codes(0, 20)[:, 0].tolist()
