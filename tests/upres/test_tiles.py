"""The grid, the windows and the blending, against brute force in NumPy and float64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imago.errors import UserError
from imago.upres.pixels import Stack
from imago.upres.tiles import Axis, grid_over, run_tiles, window
from tile_networks import constant, nearest, patterned


@st.composite
def axes(draw: st.DrawFn, largest: int = 300) -> Axis:
    tile = draw(st.integers(1, 40))
    return Axis(draw(st.integers(1, largest)), tile, draw(st.integers(1, tile)))


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    tile = draw(st.integers(1, 12))
    return {
        "shape": (draw(st.integers(3, 6)), draw(st.integers(1, 40)), draw(st.integers(1, 40))),
        "tile": tile,
        "stride": draw(st.integers(max(1, tile // 4), tile)),
        "factor": draw(st.sampled_from([1, 2, 3, 4, 8])),
        "batch": draw(st.integers(1, 9)),
    }


def enlarged(picture: np.ndarray, factor: int) -> np.ndarray:
    return picture.repeat(factor, axis=1).repeat(factor, axis=2)


def picture(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def run(network: Any, source: Any, case: dict[str, Any], out: Any = None) -> Any:
    settings = {key: case[key] for key in ("tile", "stride", "factor", "batch")}
    return run_tiles(network, source, out, **settings)


@given(axes())
def test_tiles_cover_the_axis_evenly_and_end_with_it(axis: Axis) -> None:
    origins = np.array(axis.origins)
    gaps = np.diff(origins)
    assert origins[0] == 0
    assert origins[-1] + axis.tile == max(axis.length, axis.tile)
    assert len(origins) == 1 + int(np.ceil(max(axis.length - axis.tile, 0) / axis.stride))
    assert gaps.size == 0 or (gaps.min() >= 1 and gaps.max() <= axis.stride and gaps.max() - gaps.min() <= 1)


@given(axes(), st.integers(1, 8))
def test_weights_are_positive_and_sum_to_one(axis: Axis, factor: int) -> None:
    weights = axis.weights(factor).numpy()
    total = np.zeros(factor * max(axis.length, axis.tile))
    for origin, row in zip(axis.origins, weights, strict=True):
        total[factor * origin : factor * (origin + axis.tile)] += row
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-13)
    assert weights.min() > 0
    assert weights.dtype == np.float64


def test_the_window_is_a_raised_cosine_that_sums_to_one_at_half_its_extent() -> None:
    shape = window(256).numpy()
    np.testing.assert_allclose(shape, (1 - np.cos(2 * np.pi * (np.arange(256) + 0.5) / 256)) / 2, atol=1e-15)
    np.testing.assert_allclose(shape[:128] + shape[128:], 1, atol=1e-15)
    middle = Axis(96, 32, 16).weights(8)[2].numpy()
    np.testing.assert_allclose(middle, shape, atol=1e-15)


@settings(deadline=None, max_examples=60)
@given(cases())
def test_repeating_pixels_gives_back_the_picture(case: dict[str, Any]) -> None:
    low = picture(case["shape"])
    result = run(nearest(case["factor"]), torch.from_numpy(low), case)
    np.testing.assert_allclose(result.numpy(), enlarged(low[:3], case["factor"]), rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(cases(), st.floats(-1, 1, width=32))
def test_a_constant_stays_constant(case: dict[str, Any], value: float) -> None:
    result = run(constant(case["factor"], value), picture(case["shape"]), case)
    np.testing.assert_allclose(result.numpy(), value, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(cases())
def test_blending_is_the_weighted_mean_of_the_tiles(case: dict[str, Any]) -> None:
    """A network that makes seams, against a sum with a map of weights over the whole padded picture."""
    low, tile, factor = picture(case["shape"]), case["tile"], case["factor"]
    network = patterned(factor, tile)
    grid = grid_over(low.shape, tile, case["stride"])
    short = [max(tile - extent, 0) for extent in low.shape[1:]]
    padding = [(lack // 2, lack - lack // 2) for lack in short]
    padded = low
    for axis in (0, 1):  # NumPy reflects a single pixel into itself also
        padded = np.pad(padded, [(0, 0), *(padding[i] if i == axis else (0, 0) for i in (0, 1))], mode="reflect")
    total = np.zeros((3, factor * padded.shape[1], factor * padded.shape[2]))
    weight = np.zeros(total.shape[1:])
    ramp = np.sin(np.pi * (np.arange(factor * tile) + 0.5) / (factor * tile)) ** 2
    for y in grid.rows.origins:
        for x in grid.columns.origins:
            output = network(torch.from_numpy(padded[None, :, y : y + tile, x : x + tile]))[0].double().numpy()
            place = np.s_[factor * y : factor * (y + tile), factor * x : factor * (x + tile)]
            total[:, *place] += output * np.outer(ramp, ramp)
            weight[place] += np.outer(ramp, ramp)
    (top, _), (left, _) = padding
    expected = (total / weight)[:, factor * top :, factor * left :][:, : factor * low.shape[1], : factor * low.shape[2]]
    np.testing.assert_allclose(run(network, torch.from_numpy(low), case).numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(3, 37, 50), (3, 5, 50), (3, 5, 4)])
def test_through_memory_maps_of_every_type(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    low = picture(shape)
    if kind != "float32":
        low = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)
    np.save(tmp_path / "low.npy", low)
    source = np.load(tmp_path / "low.npy", mmap_mode="r")
    large = (3, 4 * shape[1], 4 * shape[2])
    out = np.lib.format.open_memmap(tmp_path / "high.npy", mode="w+", dtype=kind, shape=large)
    run_tiles(nearest(4), source, out, tile=8, factor=4, stride=5, batch=3)
    out.flush()
    written = np.load(tmp_path / "high.npy")
    if kind == "float32":
        np.testing.assert_allclose(written, enlarged(low, 4), rtol=0, atol=1e-6)
    else:
        np.testing.assert_array_equal(written, enlarged(low, 4))


class Rows:
    """Keeps what it is given, and in what pieces."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []
        self.end = 0

    def __setitem__(self, key: tuple[slice, slice], rows: np.ndarray) -> None:
        assert key[0] == slice(None)
        assert key[1].start == self.end
        assert key[1].stop - key[1].start == rows.shape[1] > 0
        self.end = key[1].stop
        self.rows.append(rows.copy())


@settings(deadline=None, max_examples=30)
@given(cases())
def test_a_sink_gets_every_row_once_in_order_and_never_more_than_a_band(case: dict[str, Any]) -> None:
    sink, low = Rows(), picture(case["shape"])
    run(nearest(case["factor"]), low, case, sink)
    written = np.concatenate(sink.rows, axis=1)
    np.testing.assert_allclose(written, enlarged(low[:3], case["factor"]), rtol=0, atol=1e-6)
    assert max(rows.shape[1] for rows in sink.rows) <= case["factor"] * case["tile"]
    assert sink.rows[0].dtype == np.float32


@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 65535)])
def test_results_are_rounded_once_and_cut(low: int, high: int) -> None:
    kind = torch.uint8 if high == 255 else torch.uint16
    out = torch.empty(3, 16, 16, dtype=kind)
    for value in (-1.5, -1.0, -0.3, 0.0, 0.70001, 1.0, 3.0):
        run_tiles(constant(2, value), torch.zeros(3, 8, 8), out, tile=4, factor=2, stride=2)
        exact = (np.clip(np.float64(np.float32(value)), -1, 1) + 1) / 2 * high
        assert np.abs(out.numpy().astype(np.float64) - exact).max() <= 0.5 + 0.004  # float32 near 65535


def test_a_picture_and_its_guide_are_stacked_where_they_are_read() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (3, 20, 30), dtype=np.uint8)
    guide = torch.rand(2, 20, 30)
    stack = Stack(colours, guide)
    assert stack.shape == (5, 20, 30)
    read = stack.read(slice(3, 9), slice(10, 30)).numpy()
    np.testing.assert_allclose(read[:3], colours[:, 3:9, 10:30] / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(read[3:], guide[:, 3:9, 10:30])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stride": 0}, "stride=0"),
        ({"stride": 33}, "from 1 to 32"),
        ({"batch": 0}, "batch=0"),
        ({"source": torch.zeros(3, 8)}, "stack is made of"),
        ({"source": torch.zeros(3, 0, 8)}, "stack is made of"),
        ({"source": torch.zeros(3, 8, 8, dtype=torch.int64)}, "uint8, uint16 or floating"),
        ({"out": torch.zeros(3, 8, 8)}, "does not fit"),
        ({"out": np.zeros((3, 64, 64), dtype=np.int32)}, "uint8, uint16 or floating"),
        ({"factor": 4}, "was expected"),
        ({"precision": "float8"}, "precision='float8'"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_tiles(nearest(8), **({"source": torch.zeros(3, 8, 8)} | changed))
