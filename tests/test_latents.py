import math

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter1d

from imago.latents import (
    cubic_path,
    draw_centre,
    draw_latents,
    gaussian_path,
    slerp_path,
    truncate,
    wrapped_gaussian_blur,
)


def angle(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    cosine = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    return np.arccos(np.clip(cosine, -1, 1))


def test_latents_are_normal_and_each_row_stands_alone():
    latents = draw_latents(0, 0, 400, 128)
    assert latents.dtype == np.float32
    assert stats.kstest(latents.ravel(), "norm").pvalue > 1e-3
    np.testing.assert_array_equal(latents[123:130], draw_latents(0, 123, 7, 128))


def test_purposes_and_seeds_are_independent():
    assert not np.array_equal(draw_latents(0, 0, 1, 8), draw_latents(1, 0, 1, 8))
    assert not np.array_equal(draw_latents(0, 0, 1, 8), draw_latents(0, 0, 1, 8, purpose="other"))


def test_truncation_1_changes_nothing():
    latents = draw_latents(0, 0, 5, 16)
    np.testing.assert_array_equal(truncate(latents, draw_centre(0, 16), 1.0), latents)


@pytest.mark.parametrize("truncation", [0.1, 0.5, 0.9])
def test_truncation_scales_the_angle_to_the_centre_and_keeps_lengths(truncation):
    latents, centre = draw_latents(0, 0, 50, 32), draw_centre(0, 32)
    pulled = truncate(latents, centre, truncation)
    assert pulled.dtype == np.float32
    np.testing.assert_allclose(angle(pulled, centre), truncation * angle(latents, centre), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(pulled, axis=1), np.linalg.norm(latents, axis=1), rtol=1e-6)
    # … and they stay in the plane of the two: nothing else is added.
    for row in range(3):
        assert np.linalg.matrix_rank(np.stack([latents[row], centre, pulled[row]]), tol=1e-4) == 2


def test_truncation_reduces_variety_as_documented():
    latents, centre = draw_latents(0, 0, 40, 4096), draw_centre(0, 4096)
    pairs = np.triu_indices(40, 1)
    for truncation, degrees in [(1.0, 90), (0.5, 60), (0.25, 31.4)]:
        pulled = truncate(latents, centre, truncation)
        assert np.degrees(angle(pulled[pairs[0]], pulled[pairs[1]])).mean() == pytest.approx(degrees, abs=1.5)


@pytest.mark.parametrize("truncation", [0.0, -0.5, 1.5, math.nan])
def test_truncation_outside_its_range_is_refused(truncation):
    with pytest.raises(ValueError, match="truncation"):
        truncate(np.ones((1, 4)), np.ones(4), truncation)


def test_a_latent_opposite_to_the_centre_is_still_turned():
    centre = np.array([1.0, 2.0, 3.0])
    assert angle(truncate(-centre[None], centre, 0.5), centre) == pytest.approx(math.pi / 2, abs=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.7, 3.0, 22.5, 100.0])
@pytest.mark.parametrize("frames", [1, 2, 31, 300])
def test_blur_equals_scipy(frames, sigma):
    signal = np.random.default_rng(0).normal(size=(frames, 3))
    expected = gaussian_filter1d(signal, sigma, axis=0, mode="wrap") if sigma > 0 else signal
    np.testing.assert_allclose(wrapped_gaussian_blur(signal, sigma), expected, atol=1e-12)


def steps(path):
    """Distance from each frame to the next, the last one back to the first."""
    return np.linalg.norm(np.roll(path, -1, axis=0) - path, axis=-1)


def test_gaussian_path_is_that_of_the_paper():
    path = gaussian_path(seed=3, frames=240, grid=2, size=64, fps=60)
    assert path.shape == (240, 2, 64)
    assert path.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(path, axis=-1), 8.0, rtol=1e-6)
    # The angle between frames d apart has a closed form: blurred white noise has the correlation exp(-d² / 4σ²) on an
    # endless line; on a loop, the sum over its images. Many components make the sample agree with it.
    wide = gaussian_path(seed=3, frames=240, grid=1, size=20_000, fps=60)[:, 0].astype(np.float64)
    distance = np.arange(-5, 6)[:, None] * 240 + np.arange(240)
    correlation = np.exp(-(distance**2) / (4 * 45.0**2)).sum(0)
    correlation /= correlation[0]
    measured = wide @ wide[0] / 20_000
    np.testing.assert_allclose(measured, correlation, atol=0.03)


def test_gaussian_path_loops_without_a_jump_and_scales_with_the_frame_rate():
    slow, fast = (gaussian_path(seed=0, frames=10 * fps, grid=1, size=512, fps=fps)[:, 0] for fps in (10, 30))
    for path in (slow, fast):
        assert steps(path)[-1] < 1.5 * steps(path).mean()
    assert steps(slow).sum() == pytest.approx(steps(fast).sum(), rel=0.05)  # the same way travelled in the same time


def test_each_picture_of_a_gaussian_grid_has_its_own_path():
    path = gaussian_path(seed=0, frames=30, grid=3, size=16, fps=5)
    assert np.abs(path[:, 0] - path[:, 1]).max() > 0.1
    np.testing.assert_array_equal(path[:, :2], gaussian_path(seed=0, frames=30, grid=2, size=16, fps=5))


@pytest.mark.parametrize("make", [slerp_path, cubic_path])
def test_keyframe_paths_visit_their_keyframes_and_loop(make):
    keyframes = draw_latents(0, 0, 5 * 2, 64).reshape(5, 2, 64)
    path = make(keyframes, 100)
    assert path.shape == (100, 2, 64)
    assert path.dtype == np.float32
    np.testing.assert_allclose(path[::20], keyframes, rtol=1e-5, atol=1e-6)
    assert (steps(path)[-1] < 2 * steps(path).mean(0)).all()
    # Lengths stay between those of the keyframes: no dip in the middle, as linear interpolation would have.
    lengths = np.linalg.norm(keyframes, axis=-1)
    assert np.linalg.norm(path, axis=-1).min() >= lengths.min() - 1e-4
    assert np.linalg.norm(path, axis=-1).max() <= lengths.max() + 1e-4
    np.testing.assert_array_equal(make(keyframes[:, 0], 100), path[:, 0])  # (K, size) gives (frames, size)


@pytest.mark.parametrize("make", [slerp_path, cubic_path])
def test_keyframes_are_hit_whenever_the_frames_allow_it(make):
    keyframes = draw_latents(0, 0, 7, 8)
    np.testing.assert_allclose(make(keyframes, 7 * 3)[::3], keyframes, rtol=1e-5, atol=1e-6)
    assert make(keyframes, 3).shape == (3, 8)  # fewer frames than keyframes


def test_slerp_has_constant_angular_speed_and_the_textbook_form():
    keyframes = np.stack(
        [np.array([2.0, 0, 0, 0]), np.array([2.0, 2.0, 0, 0]) / math.sqrt(2), np.array([0, 0, 2.0, 0])]
    )
    path = slerp_path(keyframes, 30).astype(np.float64)
    for segment in range(3):
        a, b = keyframes[segment], keyframes[(segment + 1) % 3]
        omega = angle(a, b)
        for i in range(10):
            t = i / 10  # Shoemake 1985: sin((1-t)ω)/sin ω · a + sin(tω)/sin ω · b
            expected = (math.sin((1 - t) * omega) * a + math.sin(t * omega) * b) / math.sin(omega)
            np.testing.assert_allclose(path[10 * segment + i], expected, atol=1e-6)


def test_cubic_path_keeps_its_direction_at_keyframes_where_slerp_turns():
    keyframes = draw_latents(1, 0, 6, 256)

    def sharpest_turn(path):
        velocity = np.roll(path, -1, axis=0).astype(np.float64) - path
        return np.degrees(angle(velocity, np.roll(velocity, 1, axis=0))).max()

    assert sharpest_turn(slerp_path(keyframes, 6 * 200)) > 60
    assert sharpest_turn(cubic_path(keyframes, 6 * 200)) < 3


def test_cubic_path_is_the_catmull_rom_spline():
    # Independent form: the Hermite basis with tangents (next - previous) / 2.
    keyframes = draw_latents(2, 0, 4, 6).astype(np.float64)
    path = cubic_path(keyframes, 4 * 8)
    for frame in range(32):
        k, t = divmod(frame, 8)
        t /= 8
        p0, p1, p2, p3 = (keyframes[(k + shift) % 4] for shift in (-1, 0, 1, 2))
        spline = (2 * t**3 - 3 * t**2 + 1) * p1 + (t**3 - 2 * t**2 + t) * (p2 - p0) / 2
        spline += (-2 * t**3 + 3 * t**2) * p2 + (t**3 - t**2) * (p3 - p1) / 2
        length = np.linalg.norm(p1) + t**2 * (3 - 2 * t) * (np.linalg.norm(p2) - np.linalg.norm(p1))
        np.testing.assert_allclose(path[frame], spline / np.linalg.norm(spline) * length, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [slerp_path, cubic_path])
def test_a_path_needs_two_keyframes(make):
    with pytest.raises(ValueError, match="two keyframes"):
        make(np.ones((1, 4)), 10)


def test_slerp_between_equal_and_opposite_keyframes_stays_finite():
    keyframes = np.array([[1.0, 0, 0], [1.0, 0, 0], [-1.0, 0, 0]])
    path = slerp_path(keyframes, 30)
    np.testing.assert_allclose(np.linalg.norm(path, axis=-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(path[:11], keyframes[:1].repeat(11, axis=0), atol=1e-7)
    assert steps(path).max() < 0.4
