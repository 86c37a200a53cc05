"""Cutting faces out and putting them back: geometry against exact landmarks, soft edges, depth, transparency."""

import numpy as np
import pytest
from PIL import Image

from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.errors import UserError
from imago.faces.alignment import CropTransform, OrientedRectangle
from imago.faces.landmarks import five_points
from imago.upres.portrait import cut_portrait, paste_back


def turned(degrees, centre, side):
    angle = np.deg2rad(degrees)
    x_axis = np.array([np.cos(angle), np.sin(angle)])
    return OrientedRectangle(np.array(centre, dtype=float), side, x_axis, np.array([x_axis[1], -x_axis[0]]))


def smooth_photo(height=60, width=80):
    """Values that change slowly, so that enlarging and warping hardly change them: (H, W, 3) in [0, 1]."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + y / 13 + k) for k in range(3)]
    return 0.5 + 0.4 * np.stack(waves, axis=-1)


def value_at(points, photo_extent=(60, 80)):
    """The same waves at any place, (..., 2) in pixels."""
    return 0.5 + 0.4 * np.stack([np.sin(points[..., 0] / 9 + points[..., 1] / 13 + k) for k in range(3)], axis=-1)


def test_a_face_is_cut_out_as_in_training_whatever_its_place_size_and_tilt():
    picture, exact = draw_portrait(sample_attributes(1, 0), 512)
    photo = np.full((700, 900, 3), 90, np.uint8)
    photo[100:612, 250:762] = picture
    exact = exact.astype(np.float64)
    placed = exact + np.array([250, 100])
    straight = cut_portrait(photo, placed)
    turned_photo = np.asarray(Image.fromarray(picture).transpose(Image.Transpose.ROTATE_90))
    turned_points = np.stack([exact[:, 1], 511 - exact[:, 0]], axis=1)
    sideways = cut_portrait(turned_photo, turned_points)
    assert straight.picture.shape == (3, 128, 128)
    np.testing.assert_allclose(straight.landmarks, sideways.landmarks, atol=1e-6)
    # What lies between the eyes and the chin, away from the background of the two photos.
    face = slice(50, 90), slice(45, 83)
    assert np.abs(straight.picture[:, *face].numpy() - sideways.picture[:, *face].numpy()).mean() < 0.02
    # CelebA-HQ's framing: 4 eye distances wide, eyes a little above the middle (docs/celeba_hq.md).
    points = five_points(straight.landmarks)
    assert np.mean(points[:2, 0]) == pytest.approx(63.5, abs=6)
    assert 50 < np.mean(points[:2, 1]) < 64
    # Landmarks and photo are connected by the transform.
    np.testing.assert_allclose(straight.transform.to_photo(straight.landmarks), placed, atol=1e-6)


def test_landmarks_that_are_no_face_are_told():
    with pytest.raises(UserError, match="cannot be cut out"):
        cut_portrait(np.zeros((50, 50, 3), np.uint8), np.zeros((68, 2)))
    with pytest.raises(UserError, match="celeba_hq, ffhq"):
        cut_portrait(np.zeros((50, 50, 3), np.uint8), np.zeros((68, 2)), framing="loose")


@pytest.mark.parametrize("degrees", [0, 17])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_portrait_goes_back_to_where_it_was(degrees, kind):
    """The portrait shows the inverted waves: those come back in its middle, at the right places."""
    highest = np.iinfo(kind).max
    photo = np.rint(smooth_photo() * highest).astype(kind)
    rectangle = turned(degrees, [42, 27], 30)
    transform = CropTransform(rectangle, 120)
    y, x = np.mgrid[:120, :120].astype(float)
    inverted = 1 - value_at(transform.to_photo(np.stack([x, y], axis=-1)))
    portrait = np.rint(inverted * highest).astype(kind).transpose(2, 0, 1)
    result = paste_back(photo, portrait, transform)
    assert (result.shape, result.dtype) == ((240, 320, 3), kind)  # 120 pixels for 30
    y, x = np.mgrid[:240, :320].astype(float)
    points = (np.stack([x, y], axis=-1) + 0.5) / 4 - 0.5
    within = CropTransform(rectangle, 1).to_crop(points) + 0.5
    inside = np.minimum(within, 1 - within).min(axis=-1)
    error = np.abs(result / highest - np.where(inside[..., None] > 0, 1 - value_at(points), value_at(points)))
    margin = 12  # the edge of the photo, beyond which the enlarged one has nothing to go by
    centre = np.zeros_like(inside, dtype=bool)
    centre[margin:-margin, margin:-margin] = True
    assert error[(inside > 0.12) & centre].max() < 0.01
    assert error[(inside < 0) & centre].max() < 0.01
    # In between, the mean of both is a half: no value lies outside of what the two show.
    edge = (inside > 0.01) & (inside < 0.09) & centre
    low = np.minimum(value_at(points), 1 - value_at(points)) - 0.01
    assert (result / highest >= low)[edge].all()


def test_soft_edges_leave_no_box():
    """A brighter portrait in a grey photo: no step from one pixel to the next is larger than the ramp explains."""
    photo = np.full((50, 50, 3), 100, np.uint8)
    portrait = np.full((3, 200, 200), 140, np.uint8)
    result = paste_back(photo, portrait, CropTransform(turned(0, [24.5, 24.5], 20), 200)).astype(int)
    assert result.shape == (500, 500, 3)
    assert result[250, 250, 0] == 140
    assert result[10, 10, 0] == 100
    steepest = 40 * np.pi / 2 / (0.1 * 200)  # of the raised cosine
    assert np.abs(np.diff(result[..., 0], axis=0)).max() <= np.ceil(steepest)
    assert np.abs(np.diff(result[..., 0], axis=1)).max() <= np.ceil(steepest)


def test_transparency_and_grey_stay():
    transform = CropTransform(turned(0, [24.5, 24.5], 20), 40)
    portrait = np.stack([np.full((40, 40), value, np.uint8) for value in (60, 120, 180)])
    photo = np.full((50, 50, 4), 100, np.uint8)
    photo[:, :25, 3] = 255
    result = paste_back(photo, portrait, transform)
    assert result.shape == (100, 100, 4)
    assert result[50, 50, :3].tolist() == [60, 120, 180]
    assert (result[:, :40, 3] == 255).all()
    assert (result[:, 60:, 3] == 100).all()
    grey = paste_back(photo[..., :1], portrait, transform)
    assert grey.shape == (100, 100, 1)
    assert grey[50, 50, 0] == 120


def test_no_side_is_longer_than_asked_and_none_is_shrunk():
    portrait = np.full((3, 400, 400), 200, np.uint8)
    photo = np.full((100, 50, 3), 10, np.uint8)
    transform = CropTransform(turned(0, [24.5, 40], 40), 400)
    assert paste_back(photo, portrait, transform).shape == (1000, 500, 3)
    small = paste_back(photo, portrait, transform, largest=300)
    assert small.shape == (300, 150, 3)
    assert small[3 * 40, 75].tolist() == [200] * 3
    assert paste_back(photo, portrait[:, :8, :8], transform, largest=10).shape == (100, 50, 3)


def test_a_face_that_reaches_beyond_the_photo():
    photo = np.full((40, 40, 3), 10, np.uint8)
    portrait = np.full((3, 80, 80), 200, np.uint8)
    result = paste_back(photo, portrait, CropTransform(turned(0, [2, 2], 40), 80))
    assert result.shape == (80, 80, 3)
    assert result[5, 5, 0] == 200
    assert result[70, 70, 0] == 10
