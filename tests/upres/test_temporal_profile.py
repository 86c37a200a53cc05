import pytest
import torch

from imago.errors import UserError
from imago.images import to_uint8
from imago.upres.temporal_profile import TemporalProfile


@pytest.fixture
def frames() -> torch.Tensor:
    return 2 * torch.rand(5, 3, 7, 9, generator=torch.Generator().manual_seed(0)) - 1


@pytest.mark.parametrize(("position", "index"), [(0, 0), (0.5, 3), (1, 6)])
def test_a_row_over_time(frames, position, index):
    profile = TemporalProfile("row", position)
    for frame in frames:
        profile.add(frame)
    picture = profile.picture()
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 5, 9)
    for time, frame in enumerate(frames):
        assert torch.equal(picture[:, time], to_uint8(frame[:, index]))


def test_a_column_over_time_stretched(frames):
    profile = TemporalProfile("column", 0.25)
    for frame in frames:
        profile.add(frame)
    picture = profile.picture(stretch=3)
    assert picture.shape == (3, 7, 15)
    assert torch.equal(picture[:, :, 13], to_uint8(frames[4, :, :, 2]))


def test_a_profile_does_not_hold_the_frames(frames):
    profile = TemporalProfile()
    profile.add(frames[0])
    before = profile.picture().clone()
    frames[0] = 0
    assert torch.equal(profile.picture(), before)


def test_nonsense_is_refused(frames):
    with pytest.raises(UserError, match="diagonal"):
        TemporalProfile("diagonal")
    with pytest.raises(UserError, match=r"1\.5"):
        TemporalProfile(position=1.5)
    profile = TemporalProfile()
    with pytest.raises(UserError, match="without frames"):
        profile.picture()
    profile.add(frames[0])
    with pytest.raises(UserError, match="at least one pixel"):
        profile.picture(stretch=0)
