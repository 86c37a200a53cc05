"""Options check themselves."""

from typing import Any

import pytest

from imago.errors import UserError
from imago.upres import TilingOptions


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stride": 0}, "stride=0"),
        ({"stride": 2.5}, "stride=2.5"),
        ({"batch": 0}, "batch=0"),
        ({"batch": True}, "batch=True"),
        ({"variants": ()}, "at least one"),
        ({"variants": "flip"}, "must be a list"),
        ({"variants": ("turned",)}, "unknown variant 'turned'"),
        ({"variants": ("flip", "flip")}, "comes twice"),
        ({"variants": ("plain", "contrast:1")}, "comes twice"),
        ({"combine": "median"}, "must be one of mean, best"),
        ({"score": "sharpness"}, "must be one of discriminator, laplacian, contrast"),
        ({"choice": "film"}, "must be one of picture, per_tile"),
        ({"precision": "half"}, "must be one of float32, bfloat16, float16"),
        ({"colour": 1.5}, "colour=1.5"),
        ({"colour": float("nan")}, "colour=nan"),
        ({"colour_blur": 0.0}, "colour_blur=0.0"),
        ({"colour_blur": float("inf")}, "colour_blur=inf"),
    ],
)
def test_values_that_are_none_are_refused_in_one_line(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        TilingOptions(**changed)
    assert "\n" not in str(caught.value)


def test_the_stride_is_half_a_tile_where_none_is_given() -> None:
    assert [TilingOptions().stride_of(tile) for tile in (1, 8, 32)] == [1, 4, 16]
    assert TilingOptions(stride=12).stride_of(32) == 12
    with pytest.raises(UserError, match="would leave gaps"):
        TilingOptions(stride=33).stride_of(32)


def test_lists_are_taken_as_they_come_from_yaml() -> None:
    assert len(TilingOptions(variants=["plain", "flip"]).parsed_variants) == 2  # type: ignore[arg-type]
