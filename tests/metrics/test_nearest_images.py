import numpy as np
import pytest
import torch

from imago.errors import UserError
from imago.metrics.features.vgg16 import Vgg16
from imago.metrics.nearest_images import (
    NearestImages,
    PixelDistance,
    VggDistance,
    centre_crop,
    crop_box,
    merge_nearest,
    nearest_images,
)


def pictures(seed, count, size=20):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8))


def in_batches(images, size):
    return [(first, images[first : first + size]) for first in range(0, len(images), size)]


def brute_force(queries, training, crop, mirror):
    """Every distance on its own, in float64."""
    first = round((1 - crop) * queries.shape[2] / 2)
    inside = slice(first, queries.shape[2] - first)
    q, t = (x.double().numpy()[:, :, inside, inside] for x in (queries, training))
    plain = np.array([[np.linalg.norm(a - b) for b in t] for a in q])
    flipped = np.array([[np.linalg.norm(a - b[:, :, ::-1]) for b in t] for a in q])
    return (np.minimum(plain, flipped), flipped < plain) if mirror else (plain, np.zeros_like(plain, dtype=bool))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("crop", "batch"), [(1.0, 50), (0.6, 7), (0.5, 1)])
def test_pixels_against_brute_force(crop, batch, mirror):
    queries, training = pictures(0, 6), pictures(1, 50)
    found = nearest_images(queries, in_batches(training, batch), PixelDistance(), k=4, crop=crop, mirror=mirror)
    distances, mirrored = brute_force(queries, training, crop, mirror)
    order = np.argsort(distances, axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_allclose(found.distances, np.take_along_axis(distances, order, 1), rtol=1e-14)
    np.testing.assert_array_equal(found.mirrored, np.take_along_axis(mirrored, order, 1))


@pytest.mark.parametrize("size", [13, 18, 20])
def test_a_copy_and_a_mirrored_copy_are_found(size):
    training = pictures(2, 30, size)
    queries = torch.stack([training[11], training[23].flip(2)])
    found = nearest_images(queries, in_batches(training, 8), PixelDistance(), k=1, mirror=True)
    assert found.indices[:, 0].tolist() == [11, 23]
    assert found.mirrored[:, 0].tolist() == [False, True]
    assert found.distances[:, 0].tolist() == [0, 0]


def test_what_lies_outside_of_the_crop_does_not_count():
    query, training = pictures(3, 1), pictures(4, 5)
    top, left, height, width = crop_box(20, 20, 0.6)
    assert (top, left, height, width) == (4, 4, 12, 12)
    training[3, :, top : top + height, left : left + width] = centre_crop(query, 0.6)[0]
    found = nearest_images(query, in_batches(training, 5), PixelDistance(), k=1, crop=0.6)
    assert (found.indices.item(), found.distances.item()) == (3, 0)
    assert nearest_images(query, in_batches(training, 5), PixelDistance(), k=1, crop=1.0).distances.item() > 0


@pytest.mark.parametrize("crop", [0.01, 0.35, 0.6, 1.0])
@pytest.mark.parametrize("side", [1, 2, 9, 18, 128, 129])
def test_the_crop_has_the_same_margins_on_both_sides(side, crop):
    top, left, height, width = crop_box(side, side + 3, crop)
    assert (2 * top + height, 2 * left + width) == (side, side + 3)
    assert abs(height - crop * side) <= 1 or height <= 2
    assert min(height, width) >= 1


def test_order_batches_and_processes_change_nothing():
    queries, training = pictures(5, 3), pictures(6, 40)
    training[31] = training[4]  # equally near: the lower index comes first
    queries[0] = training[4]
    whole = nearest_images(queries, [(0, training)], PixelDistance(), k=3)
    assert whole.indices[0, :2].tolist() == [4, 31]
    backwards = nearest_images(queries, in_batches(training, 9)[::-1], PixelDistance(), k=3)
    processes = [NearestImages(queries, PixelDistance(), k=3) for _ in range(2)]
    for turn, batch in enumerate(in_batches(training, 5)):
        processes[turn % 2].update(*batch)
    merged = merge_nearest([process.result() for process in processes], k=3)
    for other in (backwards, merged):
        assert torch.equal(whole.indices, other.indices)
        assert torch.equal(whole.distances, other.distances)
        assert torch.equal(whole.mirrored, other.mirrored)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    with torch.device("meta"):
        network = Vgg16()
    network.features.to_empty(device="cpu")
    for layer in network.features:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
            torch.nn.init.normal_(layer.bias, std=0.1)
    return network.eval()


def test_vgg_distance_against_its_definition(network):
    queries, training = pictures(7, 2, 32), pictures(8, 3, 32)
    distance = VggDistance(network)
    found = distance.between(distance.prepare(queries), distance.prepare(training))
    layers = ["conv1_2", "conv2_2", "conv3_2", "conv4_2", "conv5_2"]
    with torch.device("meta"):
        double = Vgg16()
    double.features.load_state_dict({k: v.double() for k, v in network.features.state_dict().items()}, assign=True)
    for q in range(2):
        for t in range(3):
            a = double(queries[q : q + 1].double() / 127.5 - 1, layers)
            b = double(training[t : t + 1].double() / 127.5 - 1, layers)
            expected = sum((a[name] - b[name]).abs().mean() / a[name].mean() for name in layers)
            assert found[q, t].item() == pytest.approx(expected.item(), rel=1e-5)


def test_vgg_finds_copies_in_large_images(network):
    training = pictures(9, 4, 240)
    queries = training[[3, 1]].clone()
    queries[1] = queries[1].flip(2)
    found = nearest_images(queries, in_batches(training, 3), VggDistance(network), k=2, mirror=True)
    assert found.indices[:, 0].tolist() == [3, 1]
    assert found.mirrored[:, 0].tolist() == [False, True]
    assert (found.distances[:, 0] < 1e-4).all()
    assert (found.distances[:, 1] > 0.1).all()


def test_errors():
    queries, training = pictures(0, 1), pictures(1, 4)
    with pytest.raises(UserError, match="5 nearest images of 4 training images"):
        nearest_images(queries, [(0, training)], PixelDistance())
    with pytest.raises(UserError, match="at least 1"):
        nearest_images(queries, [(0, training)], PixelDistance(), k=0)
    with pytest.raises(UserError, match="training images are 10×10, generated ones 20×20"):
        nearest_images(queries, [(0, pictures(1, 4, 10))], PixelDistance(), k=1)
    with pytest.raises(UserError, match="crop=0"):
        nearest_images(queries, [(0, training)], PixelDistance(), crop=0)
    with pytest.raises(UserError, match="must be uint8"):
        nearest_images(queries.float(), [(0, training)], PixelDistance())
