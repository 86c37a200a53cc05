from pathlib import Path

import numpy as np
import pytest
import reference_metrics as reference
import torch
from scipy import stats

from imago.errors import UserError
from imago.metrics import descriptors
from imago.metrics.descriptors import DescriptorFile, channel_sums, draw_corners, extract_patches
from imago.metrics.laplacian import laplacian_pyramid

CPU = torch.device("cpu")


def test_patches_are_cut_out_where_they_begin():
    level = torch.randn(3, 3, 20, 31, generator=torch.Generator().manual_seed(0))
    corners = draw_corners(0, "a", (20, 31), 5, 3, 40, CPU)
    expected = reference.patches_at(level.numpy(), corners.numpy()).reshape(3 * 40, -1)
    np.testing.assert_array_equal(extract_patches(level, corners), expected)


def test_corners_are_uniform_over_all_places():
    corners = draw_corners(0, "a", (16, 8), 0, 500, 128, CPU)
    assert corners.shape == (500, 128, 2)
    counts = torch.bincount((corners[..., 0] * 2 + corners[..., 1]).flatten(), minlength=20)
    assert corners.amin(dim=(0, 1)).tolist() == [0, 0]
    assert corners.amax(dim=(0, 1)).tolist() == [9, 1]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_corners_depend_on_the_index_of_an_image_alone():
    whole = draw_corners(1, "a", (16, 16), 100, 10, 5, CPU)
    assert torch.equal(draw_corners(1, "a", (16, 16), 103, 2, 5, CPU), whole[3:5])
    assert not torch.equal(draw_corners(1, "b", (16, 16), 100, 10, 5, CPU), whole)


def test_normalised_descriptors_have_the_statistics_of_the_official_code():
    """4,096 descriptors of 32 images: mean -4.2e-9, standard deviation 1.00000002 there, wherever the patches lie."""
    level = laplacian_pyramid(torch.from_numpy(reference.blocky_images(32, 64, 1)))[0]
    found = extract_patches(level, draw_corners(0, "a", (64, 64), 0, 32, 128, CPU))
    assert found.shape == (4096, 147)
    expected = reference.normalise(found.numpy().reshape(-1, 3, 7, 7).astype(np.float64))
    sums, squares = (channel_sums(found, 3) / (4096 * 49)).numpy()
    std = np.sqrt(squares - sums**2)
    normalised = (found.double().numpy() - sums.repeat(49)) / std.repeat(49)
    np.testing.assert_allclose(normalised, expected, rtol=0, atol=1e-9)
    assert normalised.mean() == pytest.approx(0, abs=1e-9)
    assert normalised.std() == pytest.approx(1, abs=1e-9)


def test_a_file_gives_back_what_it_was_given(monkeypatch):
    monkeypatch.setattr(descriptors, "_READ_ROWS", 7)
    file = DescriptorFile(5)
    blocks = [torch.randn(rows, 5) for rows in (3, 20, 1)]
    for i, block in enumerate(blocks):
        file.append(block)
        for _ in range(2):
            assert torch.equal(torch.cat([part.clone() for part in file.blocks()]), torch.cat(blocks[: i + 1]))
    assert file.rows == 24


def test_a_full_disk_is_told_in_one_line(monkeypatch):
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - as a temporary file stays open
    monkeypatch.setattr(descriptors.tempfile, "TemporaryFile", lambda **kwargs: full)
    with pytest.raises(UserError, match=r"descriptors do not fit into .* \(No space left on device\); set TMPDIR"):
        DescriptorFile(5).append(torch.zeros(1, 5))
