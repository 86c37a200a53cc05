"""The nearest of images and their mirror images: each image counts once."""

import torch

from commands.neighbours import _nearest_of_both


def test_each_image_counts_once():
    plain = torch.tensor([[0.0], [10.0], [20.0], [30.0]])
    mirrored = torch.tensor([[0.5], [11.0], [19.0], [4.0]])
    nearest = _nearest_of_both(torch.tensor([[0.1], [18.0]]), [plain, mirrored], 3)
    assert nearest.indices.tolist() == [[0, 3, 1], [2, 1, 3]]
    assert nearest.mirrored.tolist() == [[False, True, False], [True, True, False]]
    torch.testing.assert_close(
        nearest.distances, torch.tensor([[0.1, 3.9, 9.9], [1.0, 7.0, 12.0]]).double(), atol=1e-5, rtol=0
    )


def test_without_mirror_images():
    plain = torch.tensor([[0.0], [10.0], [20.0]])
    nearest = _nearest_of_both(torch.tensor([[9.0]]), [plain], 2)
    assert nearest.indices.tolist() == [[1, 0]]
    assert not nearest.mirrored.any()
