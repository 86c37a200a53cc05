"""Optical flow between low-resolution frames, and pictures carried along it.

A flow ``(2, h, w)`` holds, for every pixel of one frame, where the same thing is found in another, as an offset (x, y)
in pixels of the frames: ``current(p) ≈ other(p + flow(p))``, so ``warp(other, flow)`` resembles the current frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from imago.errors import MissingDependencyError, UserError

_LEAST_SIDE = 32  # pixels: DIS compares patches of 8² on at least two scales
_PIXELS_AT_A_TIME = 1 << 20  # of coordinates in memory: three floats for each

# Sundaram, Brox and Keutzer 2010, equation 5; in pixels, squared.
_RELATIVE_TOLERANCE = 0.01
_TOLERANCE = 0.5


class FlowEstimator(Protocol):
    """Finds the flow from one grey frame, uint8 ``(h, w)``, to another: float32 ``(h, w, 2)``, x first, in pixels."""

    def __call__(self, current: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]: ...


def dis_flow(current: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Dense inverse search (Kroeger et al. 2016), down to the finest scale: about 0.03 pixels off on clear textures.

    OpenCV's presets stop at half the extent, which is twice as far off: 0.03 low pixels are a quarter of a high one.

    Args:
        current: Grey, ``(h, w)``, each at least 32.
        other: The same extent.

    Returns:
        ``(h, w, 2)``.

    Raises:
        MissingDependencyError: Without OpenCV.
    """
    cv2 = _opencv()
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    return search.calc(current, other, None)


def farneback_flow(current: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Polynomial expansion (Farnebäck 2003): smoother than :func:`dis_flow`; a second opinion to measure with.

    Args:
        current: Grey, ``(h, w)``.
        other: The same extent.

    Returns:
        ``(h, w, 2)``.

    Raises:
        MissingDependencyError: Without OpenCV.
    """
    return _opencv().calcOpticalFlowFarneback(current, other, None, 0.5, 5, 15, 5, 7, 1.5, 0)


def estimate_flow(current: Tensor, other: Tensor, estimator: FlowEstimator = dis_flow) -> Tensor:
    """The flow from a frame to another.

    Args:
        current: ``(3, h, w)`` in [-1, 1].
        other: The same extent.
        estimator: What finds it.

    Returns:
        float32 ``(2, h, w)``, x first, in pixels, on the device of `current`.

    Raises:
        UserError: Extents that differ.
        MissingDependencyError: Without OpenCV.
    """
    if current.shape != other.shape:
        raise UserError(f"the frames of a film differ in extent: {tuple(other.shape)} and {tuple(current.shape)}")
    height, width = current.shape[1:]
    enlargement = -(-_LEAST_SIDE // min(height, width))
    flow = estimator(_grey(current, enlargement), _grey(other, enlargement))
    found = torch.from_numpy(np.ascontiguousarray(flow.transpose(2, 0, 1))).to(current.device)  # (2, H, W)
    if enlargement > 1:
        found = found.reshape(2, height, enlargement, width, enlargement).mean(dim=(2, 4)) / enlargement
    return found


def warp(picture: Tensor, flow: Tensor, mode: str = "bicubic") -> Tensor:
    """A picture seen along a flow: ``result(p) = picture(p + flow(p))``; beyond its border the border is repeated.

    The flow may be that of a smaller frame: it is enlarged (bilinearly) to the extent of the picture, strip by strip,
    so that no more than the result is held at full extent.

    Args:
        picture: ``(C, f · h, f · w)``, pixel centres at integers.
        flow: ``(2, h, w)``, x first, in pixels of the smaller extent.
        mode: "bicubic" (keeps detail through many warps), "bilinear" (never overshoots) or "nearest".

    Returns:
        The extent and type of the picture.
    """
    height, width = picture.shape[1:]
    factor = height // flow.shape[1]
    assert (height, width) == (factor * flow.shape[1], factor * flow.shape[2]), "the picture is no multiple of the flow"
    result = torch.empty_like(picture)
    flow = flow.to(picture.device)
    x = torch.arange(width, device=picture.device, dtype=torch.float32)
    for top, bottom in strips(height, width):
        offset = enlarge_rows(flow, factor, top, bottom)  # (2, n, W)
        y = torch.arange(top, bottom, device=picture.device, dtype=torch.float32)
        # grid_sample measures from -1 at the outer edge of the first pixel to 1 at that of the last.
        grid = torch.stack(
            (
                (2 * (x + factor * offset[0]) + 1) / width - 1,
                (2 * (y[:, None] + factor * offset[1]) + 1) / height - 1,
            ),
            dim=-1,
        )
        result[:, top:bottom] = grid_sample(
            picture[None], grid[None].to(picture.dtype), mode=mode, padding_mode="border", align_corners=False
        )[0]
    return result


def strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    """The rows of a picture, first and one past the last, in strips of about a million pixels."""
    rows = max(_PIXELS_AT_A_TIME // width, 1)
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def enlarge_rows(small: Tensor, factor: int, top: int, bottom: int, mode: str = "bilinear") -> Tensor:
    """Rows `top` to `bottom` of a small map enlarged by a factor: ``(C, h, w)`` → ``(C, n, factor · w)``.

    The same values as enlarging all of it (pixel areas aligned, not their centres), at the cost of the rows alone.

    Args:
        small: The map.
        factor: How much larger.
        top: First row of the large map.
        bottom: One past the last.
        mode: "bilinear" or "bicubic".
    """
    if factor == 1:
        return small[:, top:bottom]
    first = max(top // factor - 2, 0)  # a bicubic value reads two rows to either side
    last = min(-(-bottom // factor) + 2, small.shape[1])
    enlarged = interpolate(small[None, :, first:last], scale_factor=factor, mode=mode, align_corners=False)[0]
    return enlarged[:, top - first * factor : bottom - first * factor]


@dataclass(frozen=True)
class Match:
    """How a frame corresponds to another.

    Attributes:
        flow: From it to the other, ``(2, h, w)``.
        visible: Where the other frame shows the same thing, bool ``(h, w)``: the flow there and back closes, and does
            not leave the frame.
        closing_error: How far from where it started the flow there and back ends, in pixels, ``(h, w)``.
        difference: Mean absolute difference of the colours to the other frame warped, ``(h, w)``, in [0, 2].
    """

    flow: Tensor
    visible: Tensor
    closing_error: Tensor
    difference: Tensor


def match_frames(current: Tensor, other: Tensor, estimator: FlowEstimator = dis_flow) -> Match:
    """Finds the flow there and back, and what it is worth.

    Where the ways there and back differ by more than the tolerance of Sundaram, Brox and Keutzer 2010 ("Dense point
    trajectories by GPU-accelerated large displacement optical flow", equation 5), a thing is hidden in the other frame
    or was not found; Ruder et al. 2016 and Lai et al. 2018 take the same mask.

    Args:
        current: ``(3, h, w)`` in [-1, 1].
        other: The same extent.
        estimator: What finds the flow.

    Returns:
        The correspondence.

    Raises:
        UserError: Extents that differ.
        MissingDependencyError: Without OpenCV.
    """
    there = estimate_flow(current, other, estimator)
    back = warp(estimate_flow(other, current, estimator), there, "bilinear")
    squared = (there + back).square().sum(dim=0)
    tolerance = _RELATIVE_TOLERANCE * (there.square().sum(dim=0) + back.square().sum(dim=0)) + _TOLERANCE
    visible = (squared <= tolerance) & inside(there)
    difference = (current - warp(other, there)).abs().mean(dim=0)
    return Match(there, visible, squared.sqrt(), difference)


def inside(flow: Tensor) -> Tensor:
    """Where a flow ``(2, h, w)`` stays within the frame, to the outer edge of its pixels: bool ``(h, w)``."""
    height, width = flow.shape[1:]
    x = torch.arange(width, device=flow.device) + flow[0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[1]
    return (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)


def _grey(frame: Tensor, enlargement: int) -> NDArray[np.uint8]:
    """Luma (BT.601), as bytes: ``(3, h, w)`` → ``(h, w)``."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    luma = torch.einsum("chw,c->hw", frame.detach().float().cpu(), weights)
    if enlargement > 1:
        luma = interpolate(luma[None, None], scale_factor=enlargement, mode="bicubic", align_corners=False)[0, 0]
    return (luma * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError("cv2", "for optical flow", "video") from error
    return cv2
