"""The choice among variants, with a network whose best variant is known for every tile."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from imago.errors import UserError
from imago.networks.patch_discriminator import PatchDiscriminator
from imago.upres import Stage, TilingOptions, upres_stack
from imago.upres.selection import contrast_score, laplacian_score, patch_score
from tile_networks import Failing, nearest


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


def marked(stacks: Tensor) -> Tensor:
    """Paints each tile with the left half of its second channel: 0.5 in plain tiles, -0.5 in mirrored ones, say."""
    value = stacks[:, 1, :, : stacks.shape[3] // 2].mean(dim=(1, 2))
    n, _, height, width = stacks.shape
    return value[:, None, None, None].expand(n, 3, 2 * height, 2 * width)


def brightness(stacks: Tensor, outputs: Tensor) -> Tensor:
    return outputs.mean(dim=(1, 2, 3))


# Four tiles of 8² that do not overlap; in each, one half of the second channel is brighter than the other.
HALVES = np.array([[[0.5, 0.1], [0.2, 0.4]], [[0.3, -0.2], [0.0, -0.1]]])
STAGE = Stage(marked, factor=2, tile=8, guide_channels=0, score=brightness)
BEST = {"stride": 8, "variants": ("plain", "flip"), "combine": "best", "score": "discriminator", "colour": 0.0}


def stack_of(halves: np.ndarray) -> Tensor:
    rows, columns, _ = halves.shape
    grey = halves.reshape(rows, 2 * columns).repeat(8, axis=0).repeat(4, axis=1)
    return torch.from_numpy(np.stack([0 * grey, grey, 0 * grey])).float()


def shown(picture: Tensor) -> np.ndarray:
    """The value of each tile."""
    return picture[0].unfold(0, 16, 16).unfold(1, 16, 16).mean(dim=(2, 3)).numpy()


def test_the_mean_of_the_variants() -> None:
    options = TilingOptions(stride=8, variants=("plain", "flip"), colour=0.0)
    result = upres_stack(STAGE, stack_of(HALVES), options)
    np.testing.assert_allclose(shown(result.picture), HALVES.mean(axis=2), atol=1e-6)
    assert result.choice is None
    assert result.report.scores == []


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_the_best_of_each_tile(batch: int) -> None:
    result = upres_stack(STAGE, stack_of(HALVES), TilingOptions(**BEST, choice="per_tile", batch=batch))
    np.testing.assert_allclose(shown(result.picture), HALVES.max(axis=2), atol=1e-6)
    np.testing.assert_array_equal(result.choice, HALVES.argmax(axis=2))
    np.testing.assert_allclose(result.report.scores, HALVES.mean(axis=(0, 1)), atol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_the_best_of_the_picture(batch: int, sign: int) -> None:
    halves = sign * HALVES
    result = upres_stack(STAGE, stack_of(halves), TilingOptions(**BEST, choice="picture", batch=batch))
    best = int(halves.sum(axis=(0, 1)).argmax())
    assert best == (0 if sign == 1 else 1)
    assert result.choice == best
    np.testing.assert_allclose(shown(result.picture), halves[..., best], atol=1e-6)
    assert result.report.tiles == 8


def test_a_choice_is_kept_for_the_next_picture() -> None:
    """As in a film: what was chosen for one frame is shown in the next, though another variant would be better."""
    options = TilingOptions(**BEST, choice="per_tile", batch=3)
    first = upres_stack(STAGE, stack_of(HALVES), options)
    second = upres_stack(STAGE, stack_of(-HALVES), options, variant=first.choice)
    np.testing.assert_allclose(shown(second.picture), -HALVES.max(axis=2), atol=1e-6)
    np.testing.assert_array_equal(second.choice, first.choice)
    third = upres_stack(STAGE, stack_of(HALVES), options, variant=1)
    np.testing.assert_allclose(shown(third.picture), HALVES[..., 1], atol=1e-6)
    assert third.choice == 1
    assert third.report.scores == []


@pytest.mark.parametrize("choice", ["picture", "per_tile"])
def test_the_choice_is_the_same_where_memory_runs_out(choice: str) -> None:
    network = Failing(marked, 1, MemoryError())
    stage = Stage(network, factor=2, tile=8, guide_channels=0, score=brightness)
    options = TilingOptions(**BEST, choice=choice)
    result = upres_stack(stage, stack_of(HALVES), options)
    expected = upres_stack(STAGE, stack_of(HALVES), options)
    assert torch.equal(result.picture, expected.picture)
    np.testing.assert_array_equal(result.choice, expected.choice)
    assert (result.report.halvings, result.report.batch) == (2, 1)


@pytest.mark.parametrize("variant", [2, -1, 0.5, np.zeros((1, 2), dtype=np.int64), np.full((2, 2), 2)])
def test_choices_that_do_not_fit_are_refused(variant: object) -> None:
    with pytest.raises(UserError, match=r"there are variants|here there are"):
        upres_stack(STAGE, stack_of(HALVES), TilingOptions(**BEST), variant=variant)  # type: ignore[arg-type]


def test_what_cannot_be_scored_is_not_chosen() -> None:
    def best_is_unknown(stacks: Tensor, outputs: Tensor) -> Tensor:
        scores = brightness(stacks, outputs)
        return torch.where(scores > 0.35, torch.nan, scores)

    stage = Stage(marked, factor=2, tile=8, guide_channels=0, score=best_is_unknown)
    result = upres_stack(stage, stack_of(HALVES), TilingOptions(**BEST, choice="per_tile"))
    np.testing.assert_array_equal(result.choice, [[1, 0], [0, 0]])


def test_sharpness_is_the_variance_of_the_laplacian_of_luma() -> None:
    pictures = random(3, 3, 12, 15)
    grey = np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], pictures.double().numpy())
    inner = [ndimage.laplace(one)[1:-1, 1:-1] for one in grey]
    expected = [np.log(one.var() + (1 / 255) ** 2) for one in inner]
    np.testing.assert_allclose(laplacian_score(pictures, pictures).numpy(), expected, rtol=1e-5)


def test_contrast_is_the_standard_deviation_of_luma() -> None:
    pictures = random(3, 3, 12, 15)
    grey = np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], pictures.double().numpy())
    expected = np.log(grey.std(axis=(1, 2)) + 1 / 255)
    np.testing.assert_allclose(contrast_score(pictures, pictures).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("score", ["laplacian", "contrast"])
def test_no_variant_wins_by_its_own_contrast(score: str) -> None:
    options = TilingOptions(
        stride=8, variants=("plain", "contrast:2", "contrast:0.5"), combine="best", score=score, choice="per_tile"
    )
    result = upres_stack(Stage(nearest(2), factor=2, tile=8, guide_channels=0), random(3, 24, 24), options)
    assert np.ptp(result.report.scores) < 1e-6


def test_one_busy_tile_does_not_decide_for_the_picture() -> None:
    """The second variant sharpens a busy tile a little; the first, three plain tiles a lot."""

    def network(stacks: Tensor) -> Tensor:
        busy = stacks[:, :3].std(dim=(1, 2, 3)) > 0.2
        mirrored = stacks[:, 3, 0, 0] > 0.5
        gain = torch.where(busy, torch.where(mirrored, 1.2, 1.0), torch.where(mirrored, 1.0, 2.0))
        return gain[:, None, None, None] * nearest(2)(stacks)

    colours = 0.1 * random(3, 16, 16)
    colours[:, :8, :8] *= 9
    side = (torch.arange(16) % 8 >= 4).float().expand(1, 16, 16)  # tells a mirrored tile
    stack = torch.cat([colours, side])
    stage = Stage(network, factor=2, tile=8, guide_channels=1)
    for score in ("laplacian", "contrast"):
        options = TilingOptions(stride=8, variants=("plain", "flip"), combine="best", score=score, colour=0.0)
        assert upres_stack(stage, stack, options).choice == 0


def test_a_patch_discriminator_scores_by_its_mean_logit_whatever_lies_beside() -> None:
    discriminator = PatchDiscriminator(factor=2, filters=4).train()
    score = patch_score(discriminator)
    stacks, outputs = random(5, 6, 16, 16), random(5, 3, 32, 32)
    with torch.no_grad():
        together = score(stacks, outputs)
        apart = torch.cat([score(stacks[i : i + 1], outputs[i : i + 1]) for i in range(5)])
        logits = discriminator(outputs, stacks).numpy()
    assert together.shape == (5,)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-8)
    np.testing.assert_allclose(together.numpy(), logits.mean(axis=1), rtol=0, atol=1e-8)


def test_a_score_of_another_shape_is_refused() -> None:
    stage = Stage(marked, factor=2, tile=8, guide_channels=0, score=lambda stacks, outputs: outputs)
    with pytest.raises(UserError, match="one value per tile"):
        upres_stack(stage, stack_of(HALVES), TilingOptions(**BEST))


def test_without_a_discriminator_it_cannot_score() -> None:
    stage = Stage(marked, factor=2, tile=8, guide_channels=0)
    with pytest.raises(UserError, match="score=discriminator: this stage has no discriminator"):
        upres_stack(stage, stack_of(HALVES), TilingOptions(**BEST))
    upres_stack(stage, stack_of(HALVES), TilingOptions(**BEST), variant=0)  # nothing to be scored
