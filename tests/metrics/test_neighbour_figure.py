import numpy as np
import pytest
import torch
from PIL import Image

from imago.errors import UserError
from imago.images import save_image
from imago.metrics.nearest_images import Nearest, PixelDistance, nearest_images
from imago.metrics.neighbour_figure import neighbour_figure, neighbour_images, outlined


def pictures(seed, count, size=10, channels=3):
    shape = (count, channels, size, size)
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def test_every_image_stands_in_its_place(tmp_path):
    training, generated = pictures(0, 30), pictures(1, 4)
    nearest = nearest_images(generated, [(0, training)], PixelDistance(), k=5, mirror=True)
    assert nearest.mirrored.any()
    figure = neighbour_figure(generated, neighbour_images(nearest, lambda indices: training[indices]), padding=2)
    assert figure.shape == (3, 6 * 10 + 5 * 2, 4 * 10 + 3 * 2)
    for query in range(4):
        for row in range(6):
            shown = figure[:, row * 12 : row * 12 + 10, query * 12 : query * 12 + 10]
            expected = generated[query]
            if row:
                expected = training[nearest.indices[query, row - 1]]
                if nearest.mirrored[query, row - 1]:
                    expected = expected.flip(2)
            assert torch.equal(shown, expected)
    path = save_image(tmp_path / "neighbours", figure)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), figure.permute(1, 2, 0))


def test_grey_images():
    figure = neighbour_figure(pictures(0, 2, channels=1), pictures(1, 6, channels=1).unflatten(0, (2, 3)))
    assert figure.shape == (3, 40, 20)
    assert torch.equal(figure[0], figure[2])


def test_outline_of_the_crop_at_the_bottom_right():
    generated, neighbours = pictures(2, 2), pictures(3, 4).unflatten(0, (2, 2))
    plain = neighbour_figure(generated, neighbours)
    figure = neighbour_figure(generated, neighbours, outline=0.6)
    different = (plain != figure).any(dim=0)
    assert not different[:20].any()
    assert not different[:, :10].any()
    assert torch.equal(figure[:, 20:, 10:], outlined(neighbours[1, 1], 0.6))
    frame = (outlined(torch.zeros(3, 10, 10, dtype=torch.uint8), 0.6) > 0).any(dim=0)
    expected = torch.zeros(10, 10, dtype=torch.bool)
    expected[2:8, 2:8] = True
    expected[3:7, 3:7] = False
    assert torch.equal(frame, expected)


def test_neighbours_are_read_in_their_order():
    nearest = Nearest(torch.zeros(2, 2).double(), torch.tensor([[3, 1], [0, 3]]), torch.zeros(2, 2, dtype=torch.bool))
    images = pictures(4, 5)
    assert torch.equal(neighbour_images(nearest, lambda indices: images[indices])[1, 1], images[3])


def test_errors():
    with pytest.raises(UserError, match="a figure needs"):
        neighbour_figure(pictures(0, 3), pictures(1, 4).unflatten(0, (2, 2)))
    with pytest.raises(UserError, match="generated images are 10×10, their neighbours 8×8"):
        neighbour_figure(pictures(0, 2), pictures(1, 4, 8).unflatten(0, (2, 2)))
    with pytest.raises(UserError, match="crop=2"):
        neighbour_figure(pictures(0, 2), pictures(1, 4).unflatten(0, (2, 2)), outline=2)
