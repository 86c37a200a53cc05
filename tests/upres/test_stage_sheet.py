from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from imago.upres.contact_sheet import Shown, StageSheet, area_mean


def mean_by_area(plane, extent):
    """Brute force, in fractions: every pixel's share in every cell."""
    height, width = plane.shape
    result = np.zeros(extent)
    for i in range(extent[0]):
        for j in range(extent[1]):
            top, bottom = Fraction(i * height, extent[0]), Fraction((i + 1) * height, extent[0])
            left, right = Fraction(j * width, extent[1]), Fraction((j + 1) * width, extent[1])
            total = Fraction(0)
            for y in range(height):
                for x in range(width):
                    share_y = max(Fraction(0), min(bottom, Fraction(y + 1)) - max(top, Fraction(y)))
                    share_x = max(Fraction(0), min(right, Fraction(x + 1)) - max(left, Fraction(x)))
                    total += share_y * share_x * int(plane[y, x])
            result[i, j] = total / ((bottom - top) * (right - left))
    return result


@pytest.mark.parametrize("extent", [(4, 5), (3, 3), (10, 7), (12, 21), (1, 1)])
def test_area_means_by_brute_force(extent):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 10, 7)).astype(np.uint8)
    result = area_mean(pixels, extent)
    assert (result.shape, result.dtype) == ((*extent, 3), np.uint8)
    for channel in range(3):
        assert np.abs(result[..., channel] - mean_by_area(pixels[channel], extent)).max() <= 0.51


def test_area_means_of_a_memory_map_of_many_blocks(tmp_path):
    plane = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint16, (3, 2048, 4096))
    plane[:] = np.random.default_rng(0).integers(0, 65536, plane.shape)
    result = area_mean(plane, (16, 32))
    expected = plane.reshape(3, 16, 128, 32, 128).mean(axis=(2, 4)) / 257
    assert np.abs(result - expected.transpose(1, 2, 0)).max() <= 0.51


def test_grey_floats_and_transparency():
    grey = area_mean(torch.linspace(-1, 1, 4).reshape(1, 2, 2), (2, 2))
    assert grey[..., 0].ravel().tolist() == [0, 85, 170, 255]
    assert (grey == grey[..., :1]).all()
    assert area_mean(np.full((4, 2, 2), 7, np.uint8), (1, 1)).tolist() == [[[7, 7, 7]]]


def scene(side):
    """The same smooth scene at any extent, float ``(3, side, side)`` in [-1, 1]."""
    t = (torch.arange(side) + 0.5) / side
    return torch.stack([torch.sin(9 * t)[:, None] * torch.cos(7 * t), t[:, None] * t, 0 * t[:, None] - t]).clamp(-1, 1)


def cells(sheet, side=64):
    """The sheet's cells by row and column, without captions: uint8 ``(side, side, 3)``."""
    step = sheet.side + 4
    picture = sheet.picture()
    pitch = (picture.shape[0] + 4) // len(sheet.rows)
    columns = (picture.shape[1] + 4) // step
    return [
        [picture[r * pitch : r * pitch + side, c * step : c * step + side] for c in range(columns)]
        for r in range(len(sheet.rows))
    ]


def test_stages_and_details():
    sheet = StageSheet(side=64)
    last = scene(512)
    stages = [Shown("face", scene(32)), Shown("96²", scene(96), detail=True), Shown("512²", last, detail=True)]
    sheet.add(stages, focus=(0.5, 0.25))
    sheet.add(stages[:2])
    (first, second) = cells(sheet)
    assert len(first) == len(second) == 5
    expected = ((last + 1) * 127.5).reshape(3, 64, 8, 64, 8).mean(dim=(2, 4)).permute(1, 2, 0).numpy()
    for cell in first[:3]:  # one scene, whatever the stage
        assert np.abs(cell.astype(int) - expected).mean() < 6
    assert np.abs(first[2].astype(int) - expected).max() <= 1
    exact = ((last[:, 96:160, 224:288] + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert np.abs(first[4] - exact).max() <= 1  # pixel by pixel, around the focus
    assert np.abs(first[3].astype(int) - exact).mean() < 2  # the same part
    assert [caption for _, caption in sheet.rows[0]][3:] == ["96², enlarged 5.33 times", "512², 1:1"]
    assert second[3].max() == 0  # the empty end of a shorter row


def test_a_focus_at_the_edge_and_pictures_smaller_than_a_cell():
    sheet = StageSheet(side=64)
    sheet.add([Shown("a", scene(100), detail=True)], focus=(1.0, 1.0))
    sheet.add([Shown("b", scene(40)[:, :20], detail=True)])
    (first, second) = cells(sheet)
    exact = ((scene(100)[:, 36:, 36:] + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert np.abs(first[1] - exact).max() <= 1
    small = ((scene(40)[:, :20] + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert np.abs(second[1][22:42, 12:52] - small).max() <= 1
    assert second[1][:22].max() == second[1][:, :12].max() == 0  # in the middle of its cell
    assert second[0][:16].max() == second[0][48:].max() == 0
    assert second[0][16:48].max() > 0


def test_captions_are_drawn_below():
    sheet = StageSheet(side=64)
    sheet.add([Shown("a face", scene(32)), Shown("", scene(32))])
    picture = sheet.picture()
    assert picture[66:, :64].max() > 200
    assert picture[64:, 68:].max() == 0
    Image.fromarray(picture)


def test_rows_beyond_the_last_are_counted():
    sheet = StageSheet(side=16, most=2)
    for _ in range(5):
        sheet.add([Shown("x", scene(8))])
    assert (len(sheet.rows), sheet.left_out) == (2, 3)
    with pytest.raises(ValueError, match="at least one row"):
        StageSheet().picture()
    with pytest.raises(ValueError, match="at least one stage"):
        StageSheet().add([])


def test_captions_are_in_letters_that_the_font_has():
    def drawn(caption):
        sheet = StageSheet(side=64)
        sheet.add([Shown(caption, scene(8))])
        return sheet.picture().tobytes()

    assert drawn("é 96²×3") == drawn("e 96x3")
    assert drawn("ab") != drawn("ac")
