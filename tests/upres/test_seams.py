"""Seam energy of pictures that have seams, have none, or have other structure that must not be taken for them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.upres.seams import borders, line_energies, references, seam_energy
from imago.upres.tiles import Grid, grid_over, run_tiles

SHAPE = (3, 96, 128)


def noise(shape: tuple[int, ...], seed: int, exponent: float = 0.0) -> np.ndarray:
    """Of a power spectrum 1 / frequency^exponent; 2 is that of photos (Field 1987)."""
    white = np.fft.rfft2(np.random.default_rng(seed).standard_normal(shape))
    frequency = np.hypot(np.fft.fftfreq(shape[-2])[:, None], np.fft.rfftfreq(shape[-1]))
    frequency[0, 0] = np.inf
    picture = np.fft.irfft2(white * frequency ** (-exponent / 2), s=shape[-2:])
    return 0.3 * picture / picture.std()


def grid(stride: int = 16, tile: int = 32) -> Grid:
    return grid_over(SHAPE, tile, stride)


def enlarged(picture: np.ndarray, factor: int) -> np.ndarray:
    return picture.repeat(factor, axis=1).repeat(factor, axis=2)


def portrait(size: int, seed: int) -> np.ndarray:
    return draw_portrait(sample_attributes(seed, 0), size)[0].transpose(2, 0, 1) / 127.5 - 1


def test_borders_are_where_tiles_begin_and_end_inside_the_picture() -> None:
    assert borders([0, 16, 32, 48, 64], 32, 96) == [16, 32, 48, 64, 80]
    assert borders([0, 12, 24], 20, 44) == [12, 20, 24, 32]
    assert borders([0], 32, 32) == []


def test_each_border_is_held_against_pairs_of_lines_that_are_no_borders() -> None:
    assert references([4, 8], 2, 12) == {4: [3, 5, 2, 6], 8: [7, 9, 6, 10]}
    assert references([4, 6], 2, 12) == {4: [3, 5], 6: [5, 7]}  # 4 + 2 and 6 - 2 are borders
    assert references([1, 5], 2, 6) == {}  # the lines of the picture's own border do not count


def test_the_energy_of_all_lines_is_that_of_numpy() -> None:
    picture = noise((3, 8 * 70, 8 * 40), 0)  # more rows than are looked at together
    down, across = line_energies(picture, 8)
    np.testing.assert_allclose(down, np.abs(np.diff(picture, axis=1))[:, 7::8].mean(axis=(0, 2)), rtol=1e-6)
    np.testing.assert_allclose(across, np.abs(np.diff(picture, axis=2))[:, :, 7::8].mean(axis=(0, 1)), rtol=1e-6)
    assert (len(down), len(across)) == (69, 39)


@pytest.mark.parametrize("exponent", [0.0, 2.0, 3.0])
@pytest.mark.parametrize("stride", [8, 12, 16, 32])
def test_a_picture_without_seams_gives_one(exponent: float, stride: int) -> None:
    values = [seam_energy(noise((3, 768, 1024), seed, exponent), grid(stride), 8) for seed in range(2)]
    assert np.mean(values) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("stride", [16, 12])
def test_a_planted_seam_shows_as_much_as_it_is(stride: int) -> None:
    """Steps of height s at all borders of white noise of deviation 1: E|N(s, √2)| instead of E|N(0, √2)|."""
    picture = np.random.default_rng(0).standard_normal((3, 768, 1024))
    step = 2.0
    for dim, axis in ((1, grid(stride).rows), (2, grid(stride).columns)):
        level = np.zeros(8 * axis.length)
        for number, border in enumerate(borders(axis.origins, axis.tile, axis.length)):
            level[8 * border :] += step if number % 2 else -step
        picture += level[:, None] if dim == 1 else level
    ratio = step / np.sqrt(2)
    normal_mean = np.sqrt(2 / np.pi)
    shifted = normal_mean * np.exp(-(ratio**2) / 2) + ratio * (2 * stats.norm.cdf(ratio) - 1)
    assert seam_energy(picture, grid(stride), 8) == pytest.approx(shifted / normal_mean, rel=0.02)


def test_the_grain_of_the_enlargement_is_no_seam() -> None:
    """Repeated pixels differ at multiples of the factor only, where the borders are also."""
    picture = enlarged(noise((3, 96, 128), 0, 2.0), 8)
    differences = np.abs(np.diff(picture, axis=2)).mean(axis=(0, 1))
    places = np.array(borders(grid().columns.origins, 32, 128)) * 8 - 1
    assert differences[places].mean() / np.delete(differences, places).mean() > 5  # against all others: a false alarm
    assert seam_energy(picture, grid(), 8) == pytest.approx(1, abs=0.06)


def test_a_subject_in_the_middle_is_no_seam() -> None:
    """Detail that falls off to a plain margin, as around a portrait."""
    y, x = (np.linspace(-1, 1, size) for size in (768, 1024))
    envelope = np.exp(-6 * (x[None] ** 2 + y[:, None] ** 2))
    values = [seam_energy(noise((3, 768, 1024), seed, 1.0) * envelope, grid(), 8) for seed in range(4)]
    assert np.mean(values) == pytest.approx(1, abs=0.02)
    picture = noise((3, 768, 1024), 0, 1.0) * envelope
    differences = np.abs(np.diff(picture, axis=2)).mean(axis=(0, 1))
    places = np.array(borders(grid().columns.origins, 32, 128)) * 8 - 1
    assert differences[places].mean() / np.delete(differences, places).mean() > 1.04  # against all others


def test_portraits_have_no_seams_on_average() -> None:
    square = grid_over((3, 64, 64), 16, 8)
    values = [seam_energy(portrait(256, seed), square, 4) for seed in range(20)]
    error = np.std(values) / np.sqrt(len(values))
    assert error < 0.05
    assert np.mean(values) == pytest.approx(1, abs=3 * error)


def test_a_control_of_the_same_content_shows_a_faint_seam_in_one_portrait() -> None:
    square, original = grid_over((3, 64, 64), 16, 8), portrait(256, 0)
    seam = original + (np.arange(256) // 32 % 2) * 2 / 255  # one byte, at every border of the columns
    assert seam_energy(original, square, 4, control=original) == 1
    difference = np.abs(np.diff(seam, axis=2)) - np.abs(np.diff(original, axis=2))
    assert difference[:, :, 31::32].mean() > 0
    assert 1.02 < seam_energy(seam, square, 4, control=original) < 1.5


def test_tiles_that_end_sharply_show_without_overlap_and_not_with_it() -> None:
    low, generator = torch.zeros(3, 96, 96), torch.Generator().manual_seed(0)

    def tilted(stacks: torch.Tensor) -> torch.Tensor:
        return torch.linspace(0, 1, 256) + 0.1 * torch.randn(len(stacks), 3, 256, 256, generator=generator)

    def energy(stride: int) -> float:
        result = run_tiles(tilted, low, stride=stride)
        return seam_energy(result, grid_over(low.shape, 32, stride), 8, reach=1)

    assert energy(32) > 5
    assert energy(16) == pytest.approx(1, abs=0.02)


def test_detail_that_neighbours_do_not_share_is_softer_where_they_are_averaged() -> None:
    """White noise of each tile's own: where windows w overlap, its deviation is √Σw²."""
    generator = torch.Generator().manual_seed(0)
    low = torch.zeros(3, 96, 128)
    result = run_tiles(lambda stacks: 0.2 * torch.randn(len(stacks), 3, 256, 256, generator=generator), low)
    angle = np.pi * np.arange(8, 72, 8) / 256  # from a border on, of the window sin²
    softened = np.sqrt(np.sin(angle) ** 4 + np.cos(angle) ** 4)
    # Before the first border and after the last there is one tile only.
    elsewhere, beside = (
        np.average([((n - 1) * mean + 1) / n for n in (5, 7)], weights=(5, 7))
        for mean in (softened.mean(), softened[0])
    )
    assert seam_energy(result, grid(), 8) == pytest.approx(1 / elsewhere, rel=0.01)
    assert elsewhere < 0.9
    assert seam_energy(result, grid(), 8, reach=1) == pytest.approx(1 / beside, rel=0.01)
    assert beside > 0.99


def test_plain_pictures_and_grids_without_borders() -> None:
    assert seam_energy(np.zeros((3, 768, 1024)), grid(), 8) == 1
    only = np.zeros((3, 768, 1024))
    only[:, :, 8 * 16 :] = 1
    assert seam_energy(only, grid(), 8) == np.inf
    assert np.isnan(seam_energy(np.zeros((3, 256, 256)), grid_over((3, 32, 32), 32, 16), 8))
    assert np.isnan(seam_energy(np.zeros((3, 64, 64)), grid_over((3, 8, 8), 4, 1), 8))
    assert np.isnan(seam_energy(np.zeros((3, 160, 160)), grid_over((3, 20, 20), 32, 16), 8))


def test_bytes_in_memory_maps(tmp_path: Path) -> None:
    picture = noise((3, 768, 1024), 0, 2.0)
    np.save(tmp_path / "picture.npy", np.clip(np.rint(picture * 127.5 + 127.5), 0, 255).astype(np.uint8))
    mapped = np.load(tmp_path / "picture.npy", mmap_mode="r")
    assert seam_energy(mapped, grid(), 8) == pytest.approx(seam_energy(picture.clip(-1, 1), grid(), 8), abs=5e-3)
