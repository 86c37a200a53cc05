import numpy as np
import pytest
import torch
from scipy.special import log_expit, log_softmax

from imago.data.packed import LabelColumn
from imago.errors import UserError
from imago.labels import LabelCoding, LabelDistribution, plain_name

GLASSES = LabelColumn("Glasses", ("no", "eyeglasses", "sunglasses"))
SMILE = LabelColumn("Smile", ("no", "yes"))
HAIR = LabelColumn("Hair Color", ("black", "light_brown"))
MALE = LabelColumn("Male", ("-1", "1"))


def test_one_hot_leaves_unknown_values_out():
    coding = LabelCoding((GLASSES, SMILE))
    assert coding.size == 5
    expected = [[0, 1, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert coding.one_hot(torch.tensor([[1, 0], [-1, 1]])).tolist() == expected


def test_a_single_column_is_a_softmax_and_two_valued_ones_among_several_are_logits():
    assert LabelCoding((SMILE,)).widths == [2]
    assert LabelCoding((SMILE, MALE)).widths == [1, 1]
    assert LabelCoding((GLASSES, SMILE)).widths == [3, 1]
    assert LabelCoding((GLASSES, SMILE)).logits == 4


def test_classification_loss_against_scipy():
    rng = np.random.default_rng(0)
    logits, codes = rng.normal(size=(6, 4)), np.array([[0, 1], [2, 0], [-1, 1], [1, -1], [2, 1], [0, 0]])
    softmax = log_softmax(logits[:, :3], axis=1)
    glasses = [-softmax[i, codes[i, 0]] for i in range(6) if codes[i, 0] >= 0]
    smile = [-log_expit(logits[i, 3] * (1 if codes[i, 1] else -1)) for i in range(6) if codes[i, 1] >= 0]
    loss = LabelCoding((GLASSES, SMILE)).classification_loss(torch.tensor(logits), torch.tensor(codes))
    assert loss.item() == pytest.approx((sum(glasses) + sum(smile)) / 6, rel=1e-12)  # an unknown value costs nothing


def test_parts_of_a_batch_make_up_its_loss():
    """However many values are unknown in each: so neither processes nor micro-batches change a step."""
    coding, codes = LabelCoding((GLASSES, SMILE)), torch.tensor([[0, -1], [-1, -1], [2, 1], [1, 0]])
    logits = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parts = [coding.classification_loss(logits[i : i + 2], codes[i : i + 2]) for i in (0, 2)]
    torch.testing.assert_close(sum(parts) / 2, coding.classification_loss(logits, codes), rtol=1e-12, atol=0)


def test_gradients_of_the_classification_loss():
    coding, codes = LabelCoding((GLASSES, SMILE)), torch.tensor([[0, 1], [-1, 0], [2, -1]])
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: coding.classification_loss(x, codes), (logits,))


def test_nothing_known_costs_nothing():
    coding = LabelCoding((GLASSES, SMILE))
    logits = torch.randn(2, 4, requires_grad=True)
    loss = coding.classification_loss(logits, torch.full((2, 2), -1))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_accuracy_counts_known_values():
    logits = torch.tensor([[5.0, 0, 0, 2], [0, 5, 0, -2], [0, 0, 5, 2]])
    codes = torch.tensor([[0, 1], [1, 1], [0, -1]])  # right, right; right, wrong; wrong, unknown
    assert LabelCoding((GLASSES, SMILE)).accuracy(logits, codes).item() == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("given", "codes"),
    [
        ({"glasses": "eyeglasses", "smile": "yes"}, {0: 1, 1: 1}),
        ({"Hair Color": "Light Brown"}, {2: 1}),
        ({"hair_color": "light_brown", "GLASSES": "NO"}, {2: 1, 0: 0}),
        ({"smile": "True"}, {1: 1}),
        ({"male": "yes"}, {3: 1}),
        ({"male": "-1"}, {3: 0}),
        ({"male": "no"}, {3: 0}),
    ],
)
def test_labels_by_name(given, codes):
    assert LabelCoding((GLASSES, SMILE, HAIR, MALE)).codes_of(given) == codes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"glases": "no"}, "labels.glases: .* labels glasses, smile; did you mean glasses?"),
        ({"glasses": "monocle"}, "labels.glasses=monocle: must be one of no, eyeglasses, sunglasses"),
    ],
)
def test_labels_that_there_are_not(given, message):
    with pytest.raises(UserError, match=message):
        LabelCoding((GLASSES, SMILE)).codes_of(given)


def distribution():
    rows = [[0, 0]] * 6 + [[1, 1]] * 3 + [[2, -1]]
    return LabelDistribution(LabelCoding((GLASSES, SMILE)), np.array(rows, dtype=np.int16))


def test_draws_have_the_training_sets_frequencies():
    rows = distribution().draw(0, 0, 20_000, "test")
    assert rows.dtype == torch.int64
    share = (rows[:, 0] == 0).double().mean().item()
    assert share == pytest.approx(0.6, abs=5 * (0.6 * 0.4 / 20_000) ** 0.5)
    assert bool(((rows[:, 0] == 1) == (rows[:, 1] == 1)).all())  # combinations that do not occur are not drawn


@pytest.mark.parametrize(("name", "plain"), [("Eyes Color", "eyes_color"), ("No_Beard ", "no_beard"), ("-1", "-1")])
def test_names_as_commands_take_them(name, plain):
    assert plain_name(name) == plain


def test_a_draw_depends_on_its_position_alone():
    assert torch.equal(distribution().draw(3, 10, 5, "a")[2:], distribution().draw(3, 12, 3, "a"))


def test_given_labels_are_kept_and_the_rest_fits_them():
    rows = distribution().draw(0, 0, 50, "test", {0: 1})
    assert rows.tolist() == [[1, 1]] * 50
    rows = distribution().draw(0, 0, 50, "test", {0: 2, 1: 1})  # occurs nowhere
    assert rows.tolist() == [[2, 1]] * 50


def test_plain_containers_and_back():
    again = LabelDistribution.from_plain(distribution().to_plain())
    assert again.coding == distribution().coding
    assert np.array_equal(again.codes, distribution().codes)
    assert len(distribution().summary(3).codes) == 3


@pytest.mark.parametrize("plain", [{}, {"columns": [["a", ["x", "y"]]], "rows": []}, {"columns": 3, "rows": [[0]]}])
def test_damaged_descriptions_are_refused(plain):
    with pytest.raises(ValueError, match="damaged labels"):
        LabelDistribution.from_plain(plain)


def test_codes_without_a_meaning_are_refused():
    with pytest.raises(ValueError, match="damaged labels"):
        LabelDistribution.from_plain({"columns": [["a", ["x", "y"]]], "rows": [[2]]})
