"""The loss against its formula, and gradcheck."""

import numpy as np
import pytest
import torch

from imago.classification.loss import balanced_weights, masked_cross_entropy


def test_the_loss_is_its_formula():
    rng = np.random.default_rng(0)
    logits, labels, weights = rng.normal(size=(7, 4)), np.array([0, 3, -1, 1, 1, -1, 2]), np.array([1.0, 2.0, 0.5, 3.0])
    terms = [
        weights[label] * (np.log(np.exp(row).sum()) - row[label])
        for row, label in zip(logits, labels, strict=True)
        if label >= 0
    ]
    found = masked_cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels), torch.from_numpy(weights))
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(sum(terms) / 5, rel=1e-12)


def test_gradients_are_right_and_unknown_labels_give_none():
    logits = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([0, -1, 2, 1, -1, 0])
    weights = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: masked_cross_entropy(z, labels, weights), logits)
    masked_cross_entropy(logits, labels).backward()
    assert logits.grad is not None
    assert logits.grad[labels < 0].abs().max() == 0
    assert logits.grad[labels >= 0].abs().min() > 0


def test_nothing_known_costs_nothing():
    logits = torch.randn(3, 2, requires_grad=True)
    loss = masked_cross_entropy(logits, torch.tensor([-1, -1, -1]))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(3, 2))


def test_balanced_weights_give_each_value_the_same_weight():
    labels = np.array([0] * 6 + [1] * 3 + [3] + [-1] * 5)
    weights = balanced_weights(labels, "abcd").numpy()
    counts = np.array([6, 3, 0, 1])
    np.testing.assert_allclose((weights * counts)[[0, 1, 3]], 10 / 3, rtol=1e-6)
    assert weights[2] == 0
    assert (weights * counts).sum() / 10 == pytest.approx(1)
