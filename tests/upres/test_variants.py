"""Variants of a tile, and that what they change is undone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imago.errors import UserError
from imago.upres.variants import Variant, parse_variant
from tile_networks import nearest

FACTORS = st.floats(0.25, 4)


def stacks(channels: int = 6) -> torch.Tensor:
    return torch.rand(2, channels, 5, 7, generator=torch.Generator().manual_seed(0)) * 2 - 1


@settings(deadline=None)
@given(st.booleans(), FACTORS, FACTORS)
def test_an_equivariant_network_gives_the_same_from_every_variant(
    flip: bool, contrast: float, saturation: float
) -> None:
    variant = Variant(flip, contrast, saturation)
    result = variant.invert(nearest(3)(variant.apply(stacks())))
    torch.testing.assert_close(result, nearest(3)(stacks()), rtol=0, atol=2e-5)


def test_a_flip_mirrors_colours_and_guide_and_is_undone_bit_by_bit() -> None:
    flipped = Variant(flip=True).apply(stacks())
    np.testing.assert_array_equal(flipped.numpy(), stacks().numpy()[..., ::-1])
    assert torch.equal(Variant(flip=True).invert(flipped), stacks())


def test_contrast_is_about_mid_grey_and_leaves_the_guide() -> None:
    changed = Variant(contrast=0.5).apply(stacks())
    torch.testing.assert_close(changed[:, :3], stacks()[:, :3] / 2)
    assert torch.equal(changed[:, 3:], stacks()[:, 3:])


def test_saturation_keeps_luma_and_leaves_the_guide() -> None:
    changed = Variant(saturation=1.5).apply(stacks())
    weights = np.array([0.299, 0.587, 0.114])
    grey, before, after = (
        np.einsum("c,nchw->nhw", weights, x[:, :3].double().numpy()) for x in (stacks(), stacks(), changed)
    )
    np.testing.assert_allclose(before, after, atol=1e-6)
    distance = stacks()[:, :3].numpy() - grey[:, None]
    np.testing.assert_allclose(changed[:, :3].numpy() - after[:, None], 1.5 * distance, atol=1e-6)
    assert torch.equal(changed[:, 3:], stacks()[:, 3:])


def test_the_plain_variant_copies_nothing() -> None:
    tiles = stacks()
    assert Variant().apply(tiles) is tiles
    assert Variant().invert(tiles) is tiles


@pytest.mark.parametrize(
    ("text", "variant"),
    [
        ("plain", Variant()),
        ("flip", Variant(flip=True)),
        ("contrast:0.9", Variant(contrast=0.9)),
        ("flip+contrast:0.9+saturation:1.2", Variant(True, 0.9, 1.2)),
    ],
)
def test_variants_are_read(text: str, variant: Variant) -> None:
    assert parse_variant(text) == variant


@pytest.mark.parametrize(
    "text", ["", "turn", "flip:1", "plain:1", "contrast", "contrast:much", "flip+flip", "plain+flip", "contrast=0.9"]
)
def test_other_variants_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="unknown variant"):
        parse_variant(text)


@pytest.mark.parametrize("text", ["contrast:0", "saturation:-1", "contrast:nan", "contrast:inf"])
def test_factors_that_cannot_be_undone_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="positive factor"):
        parse_variant(text)
