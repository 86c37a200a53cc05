"""Measures of up-resolution against closed forms, SciPy, and networks of known effect."""

import math

import numpy as np
import pytest
import torch
from face_packs import face_pack
from scipy import ndimage

from imago.upres.degradation import Degradation
from imago.upres.evaluation import (
    Example,
    Meter,
    by_lanczos,
    by_network,
    examples,
    laplacian_variance,
    low_resolution_l1,
    on_shifted_tiles,
    psnr,
    seams,
)
from imago.upres.options import TilingOptions
from imago.upres.pairs import PairGeometry, PairMaker
from imago.upres.stages import Stage
from tile_networks import constant, nearest, patterned

PLAIN = TilingOptions(colour=0)


def stage(network) -> Stage:
    """64² of 16², by tiles of 8²; faces enter at 32²."""
    return Stage(network, 4, tile=8, face_size=32, low_size=16)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return face_pack(tmp_path_factory.mktemp("data") / "faces", 64, 7)


def pairs(dataset, held_out: int = 3, guide: str = "rgb") -> PairMaker:
    geometry = PairGeometry(64, (4, 4), 32, 16, 8, guide)
    return PairMaker([dataset], [dataset.landmarks], geometry, held_out=held_out)


@pytest.fixture(scope="module")
def found(dataset) -> list[Example]:
    return list(examples(pairs(dataset), 10))


# --- examples ---------------------------------------------------------------------------------------------------------


def test_examples_are_what_was_kept_out_of_training(dataset, found):
    assert len(found) == 3
    for place, example in zip((4, 5, 6), found, strict=True):
        stored = dataset.images(np.array([place]), 64)[0]
        assert np.array_equal(example.truth.numpy(), stored)
        means = stored.reshape(3, 32, 2, 32, 2).mean(axis=(2, 4)) / 127.5 - 1
        np.testing.assert_allclose(example.face.numpy(), means, atol=1e-5)
        assert np.allclose(example.landmarks, (dataset.landmarks[place] + 0.5) / 2 - 0.5, atol=1e-5)
    assert len(list(examples(pairs(dataset), 2))) == 2
    assert len(list(examples(pairs(dataset, held_out=0), 99))) == 7  # none kept out: all


def test_degraded_examples_depend_on_their_number_alone(dataset, found):
    strong = Degradation(noise=0.2)
    some, more = (list(examples(pairs(dataset), count, strong)) for count in (2, 3))
    for first, second, plain in zip(some, more, found, strict=False):
        assert torch.equal(first.face, second.face)
        assert torch.equal(first.truth, plain.truth)
        assert float((first.face - plain.face).abs().mean()) > 0.01


# --- methods ----------------------------------------------------------------------------------------------------------


def test_a_network_goes_over_all_of_the_picture_that_it_reads(found):
    picture = by_network(stage(nearest(4)), PLAIN)(found[0])
    assert picture.shape == (3, 64, 64)
    blocks = picture.reshape(3, 16, 4, 16, 4)
    assert torch.allclose(blocks, blocks[:, :, :1, :, :1].expand_as(blocks), atol=1e-6)
    low = found[0].face.reshape(3, 16, 2, 16, 2).mean(dim=(2, 4))
    assert float((blocks[:, :, 0, :, 0] - low).abs().mean()) < 0.03  # shrunk by a filter that is a little sharper


def test_lanczos_keeps_plain_pictures_and_ramps():
    ramp = torch.linspace(-0.5, 0.5, 32).expand(3, 32, 32).contiguous()
    example = Example(torch.zeros(3, 64, 64, dtype=torch.uint8), ramp, None)
    result = by_lanczos(16)(example)
    inner = result[:, :, 16:48]
    steps = inner[..., 1:] - inner[..., :-1]
    assert torch.allclose(steps, torch.full_like(steps, 1 / 31 / 2), atol=3e-3)
    plain = by_lanczos(16)(Example(example.truth, torch.full((3, 32, 32), 0.25), None))
    assert torch.allclose(plain, torch.full_like(plain, 0.25), atol=1e-6)


def test_shifted_tiles_give_the_same_picture_where_tiles_do_not_matter(found):
    for network in (nearest(4), constant(4, 0.3)):
        one = stage(network)
        picture, shifted = by_network(one, PLAIN)(found[0]), on_shifted_tiles(one, found[0], PLAIN)
        assert torch.allclose(picture, shifted, atol=1e-5)
    one = stage(nearest(4))
    picture, shifted = by_network(one, PLAIN)(found[0]), on_shifted_tiles(one, found[0], PLAIN)
    assert seams(one, picture, shifted, PLAIN) == pytest.approx(1, abs=1e-3)


def test_shifted_tiles_show_seams(found):
    """A network whose pattern sticks to its tiles, against the same on tiles that lie elsewhere."""

    def bright_ends(stacks):
        large = nearest(4)(stacks).clone()
        large[..., :4] += 0.5
        return large

    no_overlap = TilingOptions(stride=8, colour=0)
    one = stage(bright_ends)
    picture = by_network(one, no_overlap)(found[0])
    shifted = on_shifted_tiles(one, found[0], no_overlap)
    assert seams(one, picture, shifted, no_overlap) > 1.5
    assert not torch.allclose(picture, on_shifted_tiles(stage(patterned(4, 8)), found[0], no_overlap))


# --- measures ---------------------------------------------------------------------------------------------------------


def test_the_distance_at_low_resolution_is_in_steps_of_bytes():
    face = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    large = face.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    assert low_resolution_l1(large, face, (16, 16)) == pytest.approx(0, abs=1e-4)
    assert low_resolution_l1(large + 2 / 127.5, face, (16, 16)) == pytest.approx(2, abs=1e-3)


def test_psnr_of_a_known_error():
    first = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    assert psnr(first, first + 5) == pytest.approx(20 * math.log10(255 / 5))
    assert psnr(first, first) == math.inf


def test_sharpness_is_scipys_laplacian_of_luma():
    picture = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(1)) * 2 - 1
    grey = np.tensordot([0.299, 0.587, 0.114], picture.double().numpy(), 1)
    expected = ndimage.laplace(grey)[1:-1, 1:-1].var()
    assert laplacian_variance(picture) == pytest.approx(expected, rel=1e-4)


def test_a_meter_gives_means_with_their_standard_errors(found):
    meter = Meter(16, face_distance=lambda first, second: (first.float() - second.float()).abs().mean(dim=(1, 2, 3)))
    lanczos = by_lanczos(16)
    for example in found:
        meter.add(lanczos(example), example, seams=2.0)
    rows = {row.metric: row for row in meter.rows()}
    assert list(rows)[:5] == ["low_resolution_l1", "psnr", "sharpness", "seams", "face_distance"]
    values = [psnr(((lanczos(e) + 1) * 127.5).round().clamp(0, 255).byte(), e.truth) for e in found]
    assert rows["psnr"].value == pytest.approx(np.mean(values), abs=0.05)
    assert rows["psnr"].spread == pytest.approx(np.std(values, ddof=1) / math.sqrt(3), abs=0.05)
    assert rows["seams"].value == 2
    assert rows["sharpness"].value < 0.5
    assert all(row.images == 3 for row in rows.values())
    assert {"swd/64", "swd/32", "swd/16", "swd/avg"} <= rows.keys()


def test_the_real_picture_is_perfect(found):
    real, blurred = Meter(16), Meter(16)
    for example in found:
        real.add(example.truth.float() / 127.5 - 1, example)
        blurred.add(by_lanczos(16)(example), example)
    perfect, worse = ({row.metric: row.value for row in meter.rows()} for meter in (real, blurred))
    assert perfect["psnr"] == math.inf
    assert perfect["sharpness"] == pytest.approx(1)
    assert perfect["seams"] == 1
    assert perfect["swd/64"] < worse["swd/64"]
