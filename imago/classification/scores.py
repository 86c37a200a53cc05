"""Accuracy, balanced accuracy and macro-F1 of one attribute."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """How well one attribute was read.

    The macro averages go over the values that occur among the true labels: a value that was never to be found has no
    recall. Taking it for one, as 0 or as 1, would shift the mean by the chance of the split. Its false alarms lower the
    scores of the values that were there.

    Attributes:
        accuracy: Share of right answers.
        balanced_accuracy: Mean recall over the values that occur.
        macro_f1: Mean F1 = 2 TP / (2 TP + FP + FN) over the values that occur.
        count: Known labels, n.
        present: Values that occur among them.
        confusion: ``[true][predicted]``, counts.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    count: int
    present: int
    confusion: list[list[int]]

    def as_dict(self) -> dict[str, Any]:
        """Plain containers."""
        return asdict(self)


def score(predicted: Tensor, labels: Tensor, values: int) -> Scores:
    """Compares predictions with labels, by torchmetrics.

    Args:
        predicted: int64 ``(N,)``.
        labels: int64 ``(N,)``, −1 where unknown: those do not count. At least one is known.
        values: How many values the attribute has.
    """
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_confusion_matrix,
        multiclass_f1_score,
        multiclass_recall,
    )

    known = labels >= 0
    predicted, labels = predicted[known], labels[known]
    assert len(labels), "nothing to compare with"
    present = torch.bincount(labels, minlength=values) > 0
    recalls = multiclass_recall(predicted, labels, values, average="none")
    f1 = multiclass_f1_score(predicted, labels, values, average="none")
    return Scores(
        accuracy=float(multiclass_accuracy(predicted, labels, values, average="micro")),
        balanced_accuracy=float(recalls[present].double().mean()),
        macro_f1=float(f1[present].double().mean()),
        count=len(labels),
        present=int(present.sum()),
        confusion=multiclass_confusion_matrix(predicted, labels, values).tolist(),
    )


def majority(training_labels: Tensor, labels: Tensor, values: int) -> Scores:
    """The scores of always answering the value that is most frequent in the training part (the first of equals).

    With share p of that value among the labels and k values present, these are accuracy p, balanced accuracy 1/k and
    macro-F1 2p / ((1 + p) k).

    Args:
        training_labels: int64 ``(M,)`` of the training part, −1 where unknown.
        labels: As for :func:`score`.
        values: How many values the attribute has.
    """
    counts = torch.bincount(training_labels[training_labels >= 0], minlength=values)
    return score(torch.full_like(labels, int(counts.argmax())), labels, values)
