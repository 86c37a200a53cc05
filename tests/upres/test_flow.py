import sys

import numpy as np
import pytest
import torch
from moving_textures import FACTOR, moving_disc, pool, rotated
from scipy import ndimage

from imago.errors import MissingDependencyError, UserError
from imago.upres import flow as flow_module
from imago.upres.flow import dis_flow, enlarge_rows, estimate_flow, farneback_flow, inside, match_frames, warp


def random_flow(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(2, height, width, generator=torch.Generator().manual_seed(seed))


# 0.0625 low pixels are half a pixel of a picture eight times as large.
@pytest.mark.parametrize(("estimator", "mean"), [(dis_flow, 0.0625), (farneback_flow, 0.1)])
@pytest.mark.parametrize(("degrees", "shift"), [(0, (0.3, -0.2)), (0, (1.3, -0.7)), (2, (0.0, 0.0)), (-1, (2.0, 1.0))])
def test_known_motion_is_recovered(estimator, mean, degrees, shift):
    now, before, truth = rotated(96, degrees, shift)
    error = (estimate_flow(now, before, estimator) - truth).norm(dim=0)[8:-8, 8:-8]
    assert error.max() < 0.5
    assert error.mean() < mean


def test_flow_of_frames_smaller_than_the_search_window():
    now, before, truth = rotated(20, 0, (0.6, -0.4))
    assert (estimate_flow(now, before) - truth).norm(dim=0)[4:-4, 4:-4].mean() < 0.25


def test_frames_of_different_extents_are_refused():
    with pytest.raises(UserError, match="differ in extent"):
        estimate_flow(torch.zeros(3, 40, 40), torch.zeros(3, 40, 48))


def test_without_opencv_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingDependencyError, match=r"imago\[video\]"):
        estimate_flow(torch.zeros(3, 40, 40), torch.zeros(3, 40, 40))


def test_bilinear_warp_is_that_of_scipy():
    picture = torch.rand(3, 37, 53, dtype=torch.float64)
    flow = random_flow(37, 53).double()
    y, x = np.mgrid[:37, :53]
    places = np.stack([y + flow[1].numpy(), x + flow[0].numpy()])
    expected = [ndimage.map_coordinates(plane, places, order=1, mode="nearest") for plane in picture.numpy()]
    np.testing.assert_allclose(warp(picture, flow, "bilinear").numpy(), np.stack(expected), atol=1e-5)


def test_bicubic_warp_is_cubic_convolution():
    picture = torch.rand(1, 20, 24, dtype=torch.float64)
    flow = random_flow(20, 24, seed=1).double()
    result = warp(picture, flow)

    def kernel(distance: float) -> float:  # Keys 1981 with a = -3/4, which is what torch computes
        a, d = -0.75, abs(distance)
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0

    for row, column in [(0, 0), (3, 7), (10, 12), (19, 23), (8, 1)]:
        y = min(max(row + float(flow[1, row, column]), 0), 19)
        x = min(max(column + float(flow[0, row, column]), 0), 23)
        expected = sum(
            kernel(y - i) * kernel(x - j) * float(picture[0, min(max(i, 0), 19), min(max(j, 0), 23)])
            for i in range(int(y) - 1, int(y) + 3)
            for j in range(int(x) - 1, int(x) + 3)
        )
        assert result[0, row, column].item() == pytest.approx(expected, abs=1e-5)


def test_a_small_flow_moves_a_large_picture_by_as_many_times_more():
    # A flow that is linear in place is enlarged exactly, but for the outermost half of a low pixel.
    low_y, low_x = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    flow = torch.stack([0.05 * low_x - 0.3, 0.02 * low_y + 0.1])
    y, x = np.mgrid[: 12 * FACTOR, : 16 * FACTOR]
    large_x = FACTOR * (0.05 * ((x + 0.5) / FACTOR - 0.5) - 0.3)
    large_y = FACTOR * (0.02 * ((y + 0.5) / FACTOR - 0.5) + 0.1)
    picture = np.random.default_rng(0).normal(size=(12 * FACTOR, 16 * FACTOR))
    expected = ndimage.map_coordinates(picture, [y + large_y, x + large_x], order=1, mode="nearest")
    result = warp(torch.from_numpy(picture)[None], flow, "bilinear")[0].numpy()
    inner = slice(FACTOR // 2, -FACTOR // 2)
    np.testing.assert_allclose(result[inner, inner], expected[inner, inner], atol=1e-4)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_strips_are_parts_of_the_whole(mode):
    small = torch.randn(2, 9, 7)
    whole = torch.nn.functional.interpolate(small[None], scale_factor=3, mode=mode, align_corners=False)[0]
    for top, bottom in [(0, 27), (0, 1), (4, 5), (7, 20), (26, 27), (25, 27), (2, 3)]:
        torch.testing.assert_close(enlarge_rows(small, 3, top, bottom, mode), whole[:, top:bottom])


def test_warping_in_strips_changes_nothing(monkeypatch):
    picture, flow = torch.rand(3, 60, 40), random_flow(15, 10)
    whole = warp(picture, flow)
    monkeypatch.setattr(flow_module, "_PIXELS_AT_A_TIME", 280)  # seven rows
    torch.testing.assert_close(warp(picture, flow), whole)


def test_inside_reaches_to_the_outer_edge_of_the_pixels():
    flow = torch.zeros(2, 3, 4)
    flow[0, 1] = torch.tensor([-0.4, -1.6, 1.6, 0.4])
    assert inside(flow).tolist() == [[True] * 4, [True, False, False, True], [True] * 4]


def test_equal_frames_match_everywhere():
    frame = pool(torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (3, 192, 192)))).float()
    match = match_frames(frame, frame)
    assert match.visible.all()
    assert match.flow.abs().max() < 0.01
    assert match.difference.max() < 0.02


def test_what_came_in_at_the_edge_is_not_visible():
    flows = iter([3.0, -3.0])  # there and back: they close everywhere

    def estimator(current: np.ndarray, other: np.ndarray) -> np.ndarray:
        flow = np.zeros((*current.shape, 2), dtype=np.float32)
        flow[..., 0] = next(flows)
        return flow

    match = match_frames(torch.zeros(3, 32, 40), torch.zeros(3, 32, 40), estimator)
    assert match.visible[:, :37].all()
    assert not match.visible[:, 37:].any()


def test_what_was_hidden_is_not_visible():
    film = moving_disc(2, size=384, background=(0, 0), disc=(-24, 0))  # six low pixels
    match = match_frames(film.lows[1], film.lows[0])
    share_visible = pool(torch.from_numpy(film.visible[1]).float().expand(3, -1, -1))[0]
    revealed = share_visible == 0
    assert revealed.sum() > 100
    assert match.visible[revealed].float().mean() < 0.25
    assert match.visible[share_visible == 1].float().mean() > 0.95
