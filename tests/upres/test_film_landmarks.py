import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from imago.errors import UserError
from imago.upres.film_landmarks import smooth_landmarks


def wobbling(frames: int = 40, seed: int = 0) -> np.ndarray:
    """A face of about 60 pixels, found a little off in each frame."""
    rng = np.random.default_rng(seed)
    face = rng.uniform(30, 90, (68, 2))
    return face + rng.normal(size=(frames, 68, 2))


def test_a_closed_film_is_smoothed_around():
    tracks = wobbling()
    expected = gaussian_filter1d(tracks, 2.5, axis=0, mode="wrap")
    np.testing.assert_allclose(smooth_landmarks(tracks, 2.5, loop=True), expected, atol=1e-10)


def test_the_ends_of_an_open_film_are_means_of_what_there_is():
    tracks = wobbling()
    ones = gaussian_filter1d(np.ones(len(tracks)), 2.0, mode="constant")[:, None, None]
    expected = gaussian_filter1d(tracks, 2.0, axis=0, mode="constant") / ones
    np.testing.assert_allclose(smooth_landmarks(tracks, 2.0), expected, atol=1e-10)


def test_jitter_shrinks_as_the_kernel_says():
    tracks = wobbling(400)
    left = smooth_landmarks(tracks, 2.0, loop=True).std(axis=0).mean() / tracks.std(axis=0).mean()
    assert left == pytest.approx((2 * np.sqrt(np.pi) * 2.0) ** -0.5, rel=0.05)  # √(Σ w²) of a Gaussian


def test_a_lost_face_stays_for_a_while():
    tracks = wobbling()
    tracks[10:20] = np.nan
    filled = smooth_landmarks(tracks, 0, hold=4)
    np.testing.assert_array_equal(filled[10:14], np.broadcast_to(tracks[9], (4, 68, 2)))
    assert np.isnan(filled[14:20]).all()
    np.testing.assert_array_equal(filled[20:], tracks[20:])


def test_one_missing_point_is_a_missing_face():
    tracks = wobbling()
    tracks[7, 33, 1] = np.nan
    np.testing.assert_array_equal(smooth_landmarks(tracks, 0)[7], tracks[6])


def test_before_the_first_face_there_is_none_unless_the_film_is_closed():
    tracks = wobbling()
    tracks[:3] = np.nan
    tracks[38:] = np.nan
    assert np.isnan(smooth_landmarks(tracks, 0)[:3]).all()
    closed = smooth_landmarks(tracks, 0, loop=True, hold=4)
    np.testing.assert_array_equal(closed[[38, 39, 0, 1]], np.broadcast_to(tracks[37], (4, 68, 2)))
    assert np.isnan(closed[2]).all()


def test_missing_frames_do_not_count():
    tracks = np.broadcast_to(wobbling(1), (30, 68, 2)).copy()
    tracks[5:25] = np.nan
    smooth = smooth_landmarks(tracks, 3.0, hold=2)
    np.testing.assert_allclose(smooth[[0, 4, 6, 25, 29]], tracks[[0, 4, 4, 25, 29]], atol=1e-10)
    assert np.isnan(smooth[7:25]).all()


@pytest.mark.parametrize("loop", [False, True])
def test_another_face_is_not_mixed_in(loop):
    tracks = np.broadcast_to(wobbling(1), (30, 68, 2)).copy()
    tracks[12:20] += 100
    np.testing.assert_allclose(smooth_landmarks(tracks, 3.0, loop=loop), tracks, atol=1e-9)


def test_another_face_after_a_gap_is_not_mixed_in():
    tracks = np.broadcast_to(wobbling(1), (30, 68, 2)).copy()
    tracks[12:15] = np.nan
    tracks[15:] += 100
    smooth = smooth_landmarks(tracks, 3.0, hold=1)
    np.testing.assert_allclose(smooth[12], tracks[11])
    assert np.isnan(smooth[13:15]).all()
    np.testing.assert_allclose(smooth[15:], tracks[15:])


def test_a_film_without_faces_has_no_landmarks():
    assert np.isnan(smooth_landmarks(np.full((9, 68, 2), np.nan), 2.0, loop=True)).all()
    assert smooth_landmarks(np.zeros((0, 68, 2)), 2.0).shape == (0, 68, 2)


@pytest.mark.parametrize(
    ("shape", "sigma", "hold", "message"),
    [((4, 68), 1, 1, "shape"), ((4, 68, 2), -1, 1, "smoothed over"), ((4, 68, 2), 1, -1, "held for")],
)
def test_nonsense_is_refused(shape, sigma, hold, message):
    with pytest.raises(UserError, match=message):
        smooth_landmarks(np.zeros(shape), sigma, hold=hold)
