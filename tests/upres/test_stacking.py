"""Stacks of a picture and its guide, and the resampling that brings them to the network's extent."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.faces.guide import GUIDE_STYLES, draw_guide, guide_channels
from imago.upres.stacking import resample, stack_picture


def portrait(size: int) -> tuple[torch.Tensor, np.ndarray]:
    picture, landmarks = draw_portrait(sample_attributes(1, 0), size)
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1, landmarks.astype(np.float64)


# --- resampling -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60, derandomize=True)
@given(*[st.integers(1, 40)] * 4, st.integers(0, 2**32 - 1))
def test_no_channel_leaves_its_range(height: int, width: int, new_height: int, new_width: int, seed: int) -> None:
    """Enlarging overshoots: a guide of [0, 1] beside a picture of [-1, 1] is not to become negative."""
    rng = np.random.default_rng(seed)
    low = torch.tensor([-1.0, 0.0, 5.0])[:, None, None]
    picture = low + torch.from_numpy(rng.integers(0, 2, (3, height, width))).float()
    result = resample(picture, (new_height, new_width))
    assert result.shape == (3, new_height, new_width)
    for channel, before in zip(result, picture, strict=True):
        assert before.min() - 1e-5 <= channel.min() <= channel.max() <= before.max() + 1e-5


@pytest.mark.parametrize("extent", [(12, 12), (16, 16), (40, 50), (12, 50), (50, 12)])
def test_a_ramp_stays_a_ramp_at_its_place(extent: tuple[int, int]) -> None:
    """Pictures reach from edge to edge of their first and last pixels, at both sizes. (Weights of uneven ratios are
    not quite symmetrical.)"""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    result = resample(torch.stack([y, x]), extent)
    scale = [32 / side for side in extent]
    rows, columns = ((torch.arange(side) + 0.5) * s - 0.5 for side, s in zip(extent, scale, strict=True))
    inside = (slice(extent[0] // 6, -(extent[0] // 6)), slice(extent[1] // 6, -(extent[1] // 6)))
    torch.testing.assert_close(result[0][inside], rows[:, None].expand(extent)[inside], rtol=0, atol=0.04)
    torch.testing.assert_close(result[1][inside], columns[None, :].expand(extent)[inside], rtol=0, atol=0.04)


def test_shrinking_to_half_is_a_triangle_filter() -> None:
    """Of the width of four pixels: weights 1, 3, 3, 1 of 8."""
    picture = torch.rand(2, 16, 16, dtype=torch.float64)
    weights = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64) / 8
    kernel = (weights[:, None] * weights).expand(2, 1, 4, 4)
    expected = torch.nn.functional.conv2d(picture[None], kernel, stride=2, padding=1, groups=2)[0]
    result = resample(picture, (8, 8))
    torch.testing.assert_close(result[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], rtol=0, atol=1e-6)


def test_shrinking_keeps_the_mean_and_loses_what_is_too_fine() -> None:
    fine = torch.tensor([0.0, 1.0]).repeat(24)[None, None, :].expand(1, 48, 48)
    small = resample(fine, (18, 18))
    assert (small - 0.5).abs().max() < 0.1
    assert small[:, 1:-1, 1:-1].mean().item() == pytest.approx(0.5, abs=0.01)


def test_pictures_of_a_batch_are_resampled_each_by_itself() -> None:
    batch = torch.rand(2, 3, 4, 9, 11) * torch.arange(1.0, 4)[:, None, None, None]
    for extent in ((5, 6), (20, 20), (9, 11)):
        together = resample(batch, extent)
        assert together.shape == (2, 3, 4, *extent)
        for i in range(2):
            for j in range(3):
                torch.testing.assert_close(together[i, j], resample(batch[i, j], extent), rtol=0, atol=1e-6)


# --- stacks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", GUIDE_STYLES)
@pytest.mark.parametrize("extent", [(48, 48), (96, 96)])  # smaller and larger than the picture
def test_a_stack_is_the_picture_and_its_guide_resampled(style: str, extent: tuple[int, int]) -> None:
    picture, face = portrait(64)
    stack = stack_picture(picture, [face], extent, style)
    assert stack.shape == (3 + guide_channels(style), *extent)
    assert stack.dtype == torch.float32
    torch.testing.assert_close(stack[:3], resample(picture, extent), rtol=0, atol=1e-6)
    if style != "none":
        guide = stack[3:]
        assert 0 <= guide.min() <= guide.max() <= 1 + 1e-6
        torch.testing.assert_close(guide, resample(draw_guide([face], (64, 64), style), extent), rtol=0, atol=1e-6)


def test_the_guide_lies_on_the_face_at_the_smaller_extent() -> None:
    """As if it had been drawn there: 128² to 96², as in the post."""
    picture, face = portrait(128)
    stack = stack_picture(picture, [face], (96, 96))
    there = draw_guide([(face + 0.5) * 0.75 - 0.5], (96, 96))
    off = draw_guide([(face + 0.5) * 0.75 - 0.5 + [1, 0]], (96, 96))
    difference = (stack[3:] - there).abs().mean()
    assert difference < 0.02
    assert difference < 0.6 * (stack[3:] - off).abs().mean()


@pytest.mark.parametrize("faces", [[], [np.full((68, 2), np.nan)]])
def test_without_a_face_the_guide_is_empty(faces: list[np.ndarray]) -> None:
    picture, _ = portrait(64)
    stack = stack_picture(picture, faces, (48, 48))
    assert stack.shape == (6, 48, 48)
    assert not stack[3:].any()


def test_large_pictures_have_guides_of_fewer_lines() -> None:
    """As precise at the extent that the network reads."""
    face = portrait(64)[1]
    large = (face + 0.5) * 32 - 0.5
    plain = torch.zeros(1, 1, 1).expand(3, 2048, 2048)
    stack = stack_picture(plain, [large], (64, 64))
    expected = draw_guide([face], (64, 64), supersample=32)
    assert (stack[3:] - expected).abs().mean() < 0.02
