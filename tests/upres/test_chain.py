"""Several stages: the extents at which each reads and writes, landmarks on the way, and what comes out."""

import numpy as np
import pytest
import torch

from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.errors import UserError
from imago.faces.guide import draw_guide
from imago.upres.chain import portrait_steps, run_steps, scaled_landmarks, shrunk_to, whole_steps
from imago.upres.options import TilingOptions
from imago.upres.stages import Stage
from tile_networks import nearest


def stage(factor=8, face_size=128, low_size=96, network=None, **options):
    return Stage(network or nearest(factor), factor, face_size=face_size, low_size=low_size, **options)


FACE, PRINT = stage(), stage(face_size=768, low_size=512)


def extents(steps):
    return [(step.seen, step.low, step.high) for step in steps]


def test_the_path_of_the_post():
    assert extents(portrait_steps([FACE], (128, 128))) == [((128, 128), (96, 96), (768, 768))]
    assert extents(portrait_steps([FACE, PRINT], (128, 128))) == [
        ((128, 128), (96, 96), (768, 768)),
        ((768, 768), (512, 512), (4096, 4096)),
    ]


def test_a_size_changes_only_the_last_stage():
    assert [step.low for step in portrait_steps([FACE, PRINT], (128, 128), size=2048)] == [(96, 96), (256, 256)]
    (step,) = portrait_steps([FACE], (512, 512), size=1024)  # 128 × 8 as in the post, and shrunk from no more than 4/3
    assert (step.seen, step.low, step.high) == ((171, 171), (128, 128), (1024, 1024))


def test_portraits_that_are_not_square_keep_their_aspect():
    assert [step.low for step in portrait_steps([FACE, PRINT], (128, 96))] == [(96, 72), (512, 384)]


@pytest.mark.parametrize(
    ("size", "message"), [(1000, "choose 1000|992 or 1000"), (1001, "choose 1000 or 1008"), (3, "choose 8$")]
)
def test_a_size_that_the_stage_cannot_make_is_told_with_its_neighbours(size, message):
    if size == 1000:
        assert portrait_steps([FACE], (128, 128), size)[0].high == (1000, 1000)
        return
    with pytest.raises(UserError, match=message):
        portrait_steps([FACE], (128, 128), size)
    with pytest.raises(UserError, match=message):
        whole_steps([FACE], (128, 128), size)


def test_a_whole_picture_is_read_as_it_is():
    assert extents(whole_steps([FACE], (300, 200))) == [((400, 267), (300, 200), (2400, 1600))]
    # Smaller than the last stage reads it: every stage; as large: only the last.
    assert [step.low for step in whole_steps([FACE, PRINT], (300, 200))] == [(300, 200), (512, 341)]
    steps = whole_steps([FACE, PRINT], (1200, 800))
    assert [(step.stage, step.low) for step in steps] == [(PRINT, (512, 341))]
    assert [step.low for step in whole_steps([FACE, PRINT], (512, 16))] == [(512, 16)]


def test_the_largest_side_of_a_whole_picture():
    (step,) = whole_steps([FACE], (3000, 4000), largest=16384)
    assert (step.low, step.high) == ((1536, 2048), (12288, 16384))
    assert whole_steps([FACE], (300, 200), largest=16384) == whole_steps([FACE], (300, 200))
    assert whole_steps([FACE], (1000, 10), largest=100)[0].low == (12, 1)


def test_nearest_neighbours_give_back_the_shrunk_picture():
    """Two stages that add nothing: the means over areas of the picture, repeated."""
    picture = torch.rand(3, 64, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    first, second = stage(4, face_size=32, low_size=32), stage(2, face_size=64, low_size=64)
    steps = portrait_steps([first, second], (64, 48), size=128)
    result = run_steps(steps, picture)
    assert [tuple(made.shape) for made in result.pictures] == [(3, 128, 96), (3, 128, 96)]
    means = picture.double().unflatten(1, (32, 2)).unflatten(3, (24, 2)).mean(dim=(2, 4))
    expected = means.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2).float()
    for made in result.pictures:
        torch.testing.assert_close(made, expected, atol=2e-6, rtol=0)


def test_every_stage_sees_the_guide_of_the_face():
    stacks = []

    def network(factor):
        def run(tiles):
            stacks.append(tiles)
            return nearest(factor)(tiles)

        return run

    low, middle = 16, 32
    first = stage(4, face_size=32, low_size=low, network=network(4), tile=low)
    second = stage(2, face_size=64, low_size=middle, network=network(2), tile=middle)
    _, face = draw_portrait(sample_attributes(1, 0), 32)
    picture = torch.zeros(3, 32, 32)
    steps = portrait_steps([first, second], (32, 32), size=64)
    run_steps(steps, picture, [face])
    for tiles, extent in ((stacks[0], low), (stacks[1], middle)):
        own = (face + 0.5) * (extent / 32) - 0.5
        guide = draw_guide([own], (extent, extent), "rgb", supersample=16)
        assert guide.mean() > 0.06
        # Drawn larger and shrunk, edges are a little softer.
        assert (tiles[0, 3:] - guide).abs().mean() < 0.02


def test_the_result_is_written_in_the_type_of_its_holder():
    out = np.zeros((3, 64, 64), dtype=np.uint16)
    steps = portrait_steps([stage(4, face_size=16, low_size=16)], (16, 16))
    result = run_steps(steps, torch.full((3, 16, 16), 0.5), out=out)
    assert result.pictures[-1] is out
    assert np.abs(out.astype(int) - round(0.75 * 65535)).max() <= 1


def test_choices_are_kept():
    options = TilingOptions(variants=("plain", "flip", "contrast:1.2"), combine="best", score="contrast")
    steps = portrait_steps([stage(2, face_size=16, low_size=16), stage(2, face_size=32, low_size=32)], (16, 16), 64)
    picture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(2)) - 0.5
    first = run_steps(steps, picture, options=options)
    assert len(first.choices) == 2
    kept = run_steps(steps, picture, options=options, choices=(1, 2))
    assert kept.choices == (1, 2)


def test_progress_counts_the_tiles_of_each_step():
    told = []
    steps = portrait_steps([stage(2, face_size=64, low_size=64), stage(2, face_size=32, low_size=32)], (64, 64), 64)
    run_steps(steps, torch.zeros(3, 64, 64), progress=lambda *numbers: told.append(numbers))
    assert [numbers for numbers in told if numbers[1] == numbers[2]] == [(0, 9, 9), (1, 1, 1)]


def test_shrinking_takes_landmarks_along():
    face = np.array([[0.5, 0.5], [3.5, 1.5]])  # the corners between the first 2×2 pixels, and so on
    (small,), picture = shrunk_to((2, 2), torch.arange(16.0).reshape(1, 4, 4).expand(3, 4, 4), [face])
    np.testing.assert_allclose(small, [[0, 0], [1.5, 0.5]])
    torch.testing.assert_close(picture[0], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))
    faces, same = shrunk_to((9, 9), picture, [face])
    assert same is picture
    assert faces[0] is face


def test_landmarks_scale_with_the_edges_of_the_picture():
    corner = np.array([[-0.5, -0.5], [7.5, 3.5]])  # of a picture of 8×4 pixels
    (scaled,) = scaled_landmarks([corner], (4, 8), (12, 16))
    np.testing.assert_allclose(scaled, [[-0.5, -0.5], [15.5, 11.5]])
