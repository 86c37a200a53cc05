import errno
import logging

import pytest

from imago.errors import UserError
from imago.upres.failures import Failures


def batch(errors, total=None):
    """Runs a batch in which file i raises errors[i], if that is not None; which files were reached."""
    failures, reached = Failures(total or len(errors)), []
    for i, error in enumerate(errors):
        with failures.recorded(f"sub/{i}.jpg"):
            reached.append(i)
            if error is not None:
                raise error
    return failures, reached


def test_the_rest_goes_on_and_the_list_stands_at_the_end():
    failures, reached = batch(
        [None, UserError("/data/sub/1.jpg: truncated"), FileNotFoundError(2, "No such file", "x"), None, ValueError()]
    )
    assert reached == [0, 1, 2, 3, 4]
    with pytest.raises(UserError) as caught:
        failures.raise_if_any()
    assert str(caught.value) == (
        "3 of 5 files failed: sub/1.jpg (truncated), sub/2.jpg (No such file), sub/4.jpg (ValueError)"
    )


def test_nothing_failed():
    failures, _ = batch([None, None])
    failures.raise_if_any()


def test_a_single_file_says_only_why():
    failures, _ = batch([UserError("0.jpg is smaller than 8 pixels")])
    with pytest.raises(UserError, match=r"^sub/0.jpg: 0.jpg is smaller than 8 pixels$"):
        failures.raise_if_any()


def test_a_long_list_is_cut():
    failures, _ = batch([UserError("bad")] * 25, total=40)
    with pytest.raises(UserError, match=r"^25 of 40 files failed: sub/0.jpg \(bad\), .*sub/9.jpg \(bad\) and 15 more$"):
        failures.raise_if_any()


def test_each_is_told_at_once_and_surprises_with_their_traceback(caplog):
    with caplog.at_level(logging.WARNING):
        batch([UserError("bad\nsecond line"), RuntimeError("no kernel image")])
    first, second = caplog.records
    assert (first.getMessage(), first.exc_info) == ("sub/0.jpg failed: bad second line", None)
    assert second.getMessage() == "sub/1.jpg failed: RuntimeError: no kernel image"
    assert second.exc_info[0] is RuntimeError


def test_a_full_disk_and_an_interrupt_stop_everything():
    with pytest.raises(UserError, match=r"sub/1.jpg.*No space"):
        batch([None, OSError(errno.ENOSPC, "No space left on device"), None])
    with pytest.raises(KeyboardInterrupt):
        batch([KeyboardInterrupt()])
