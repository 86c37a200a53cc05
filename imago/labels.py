"""Labels as numbers: one-hot for the generator, logits for an auxiliary classifier (AC-GAN; Odena et al. 2017)."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from imago import randomness
from imago.data.joined import JoinedDataset
from imago.data.packed import LabelColumn, PackedDataset
from imago.errors import UserError

_YES = {"yes", "true", "1", "on"}
_NO = {"no", "false", "-1", "0", "off"}


@dataclass(frozen=True)
class LabelCoding:
    """How the chosen label columns become numbers.

    A column by itself is told apart by a softmax over its values. Of several, each that has two values gets a logit of
    its own, each that has more a softmax: forty attributes of two values make forty independent logits.

    Attributes:
        columns: Names, and what the codes 0, 1, … stand for.
    """

    columns: tuple[LabelColumn, ...]

    @property
    def size(self) -> int:
        """Width of the one-hot labels."""
        return sum(len(column.values) for column in self.columns)

    @property
    def widths(self) -> list[int]:
        """Logits of each column."""
        single = len(self.columns) == 1
        return [1 if len(column.values) == 2 and not single else len(column.values) for column in self.columns]

    @property
    def logits(self) -> int:
        """Outputs of the auxiliary classifier."""
        return sum(self.widths)

    def one_hot(self, codes: Tensor) -> Tensor:
        """The labels as a generator takes them.

        Args:
            codes: (N, K) integers, −1 where unknown.

        Returns:
            float32 (N, size); zeros in the place of an unknown value.
        """
        parts = []
        for k, column in enumerate(self.columns):
            known = codes[:, k].long()
            encoded = F.one_hot(known.clamp_min(0), len(column.values)).float()
            parts.append(encoded * (known >= 0).float()[:, None])
        return torch.cat(parts, dim=1)

    def classification_loss(self, logits: Tensor, codes: Tensor) -> Tensor:
        """The auxiliary classifier's error.

        Args:
            logits: (N, logits).
            codes: (N, K), −1 where unknown.

        Returns:
            The sum over columns of the mean cross-entropy over all images, of which those with an unknown value count
            as 0. The mean is not over the known ones alone, because it would then depend on how a batch is divided
            among processes and micro-batches.
        """
        total = logits.sum() * 0
        for part, known in zip(logits.split(self.widths, dim=1), codes.long().unbind(1), strict=True):
            if part.shape[1] == 1:
                target = known.clamp_min(0).to(part.dtype)
                errors = F.binary_cross_entropy_with_logits(part[:, 0], target, reduction="none")
            else:
                errors = F.cross_entropy(part, known.clamp_min(0), reduction="none")
            total = total + (errors * (known >= 0).to(errors.dtype)).mean()
        return total

    @torch.no_grad()
    def accuracy(self, logits: Tensor, codes: Tensor) -> Tensor:
        """Share of the known values that the auxiliary classifier finds, over all columns; see above."""
        right = known_count = torch.zeros((), device=logits.device)
        for part, known in zip(logits.split(self.widths, dim=1), codes.long().unbind(1), strict=True):
            guess = (part[:, 0] > 0).long() if part.shape[1] == 1 else part.argmax(dim=1)
            right = right + (guess == known).float().sum()
            known_count = known_count + (known >= 0).float().sum()
        return right / known_count.clamp_min(1)

    def codes_of(self, values: Mapping[str, str]) -> dict[int, int]:
        """Labels by name, as a user writes them.

        Args:
            values: ``{"glasses": "eyeglasses", "smile": "yes"}``. Capitals do not matter, nor whether there are spaces
                or underscores; yes and no also stand for 1 and −1.

        Returns:
            Column → code.

        Raises:
            UserError: No such column or value; names those that there are.
        """
        names = [plain_name(column.name) for column in self.columns]
        codes = {}
        for name, value in values.items():
            if plain_name(name) not in names:
                listed = ", ".join(plain_name(column.name) for column in self.columns)
                raise UserError(
                    f"labels.{name}: the generator was trained with the labels {listed}{_near(name, names)}"
                )
            k = names.index(plain_name(name))
            valid = [plain_name(v) for v in self.columns[k].values]
            wanted = plain_name(str(value))
            if wanted not in valid:
                wanted = next((v for words in (_YES, _NO) if wanted in words for v in valid if v in words), wanted)
            if wanted not in valid:
                raise UserError(f"labels.{name}={value}: must be one of {', '.join(self.columns[k].values)}")
            codes[k] = valid.index(wanted)
        return codes

    def texts(self, codes: Sequence[int]) -> dict[str, str]:
        """Column name → value of one image's codes; unknown ones are left out."""
        return {c.name: c.values[int(code)] for c, code in zip(self.columns, codes, strict=True) if int(code) >= 0}


class LabelDistribution:
    """The labels of a training set, to draw from: a conditional generator is shown combinations that occur.

    Args:
        coding: What the codes mean.
        codes: int16 (M, K), −1 where unknown.
    """

    def __init__(self, coding: LabelCoding, codes: NDArray[np.int16]) -> None:
        assert codes.shape[1] == len(coding.columns)
        self.coding = coding
        self.codes = codes

    def draw(self, seed: int, first: int, count: int, purpose: str, given: Mapping[int, int] | None = None) -> Tensor:
        """Labels of random images of the training set.

        Args:
            seed: Of the draws.
            first: Position of the first draw.
            count: How many.
            purpose: What they are for.
            given: Column → code that all must have. The draw is among the rows that agree in as many of them as any
                row does; what differs is replaced.

        Returns:
            int64 (count, K).
        """
        codes = self.codes
        if given:
            agreeing = (codes[:, list(given)] == np.array(list(given.values()))).sum(axis=1)
            codes = codes[agreeing == agreeing.max()]
        places = (randomness.uniform(seed, purpose, first, count)[:, 0] * len(codes)).astype(np.int64)
        rows = codes[places].astype(np.int64)
        for k, code in (given or {}).items():
            rows[:, k] = code
        return torch.from_numpy(rows)

    def summary(self, rows: int = 1000) -> "LabelDistribution":
        """At most so many rows, evenly spaced: small enough for the description of a generator's file."""
        places = np.unique(np.linspace(0, len(self.codes) - 1, min(rows, len(self.codes))).round().astype(np.int64))
        return LabelDistribution(self.coding, self.codes[places])

    def to_plain(self) -> dict[str, Any]:
        """As plain containers, for JSON."""
        columns = [[column.name, list(column.values)] for column in self.coding.columns]
        return {"columns": columns, "rows": self.codes.tolist()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "LabelDistribution":
        """From what :meth:`to_plain` gave.

        Raises:
            ValueError: It is not that.
        """
        try:
            columns = tuple(LabelColumn(str(name), tuple(map(str, values))) for name, values in plain["columns"])
            codes = np.asarray(plain["rows"], dtype=np.int16).reshape(-1, len(columns))
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"damaged labels: {error}") from error
        if not len(codes) or any(
            not -1 <= code < len(c.values) for c, k in zip(columns, codes.T, strict=True) for code in k
        ):
            raise ValueError("damaged labels: codes that stand for nothing")
        return cls(LabelCoding(columns), codes)

    @classmethod
    def of_dataset(cls, dataset: PackedDataset | JoinedDataset, names: Sequence[str]) -> "LabelDistribution":
        """The chosen columns of a data set.

        Args:
            dataset: With labels.
            names: Of columns, as for :meth:`LabelCoding.codes_of`; ``["all"]`` takes all.

        Raises:
            UserError: No labels, no such column, a column twice or of one value.
        """
        places = label_places(dataset, names)
        columns = tuple(dataset.label_columns[k] for k in places)
        for column in columns:
            if len(column.values) < 2:
                raise UserError(f"data.labels: all images have the same {column.name}")
        assert dataset.labels is not None
        return cls(LabelCoding(columns), np.ascontiguousarray(dataset.labels[:, places]))


def label_places(dataset: PackedDataset | JoinedDataset, names: Sequence[str]) -> list[int]:
    """Where the chosen label columns of a data set stand.

    Raises:
        UserError: No labels, no such column, or a column twice.
    """
    if dataset.labels is None or not dataset.label_columns:
        raise UserError(f"data.labels: {dataset.name} has no labels")
    held = [plain_name(column.name) for column in dataset.label_columns]
    if [plain_name(name) for name in names] == ["all"] and "all" not in held:
        return [k for k, column in enumerate(dataset.label_columns) if len(column.values) > 1]
    places = []
    for name in names:
        if plain_name(name) not in held:
            raise UserError(
                f"data.labels: {dataset.name} has no labels {name!r}; it has {', '.join(held)}{_near(name, held)}"
            )
        places.append(held.index(plain_name(name)))
    if len(set(places)) != len(places) or not places:
        raise UserError(f"data.labels: give each column once, not {list(names)}")
    return places


def plain_name(name: str) -> str:
    """A name or value as commands take it: "Eyes Color" is ``eyes_color``; numbers keep their sign."""
    name = name.strip().lower()
    return name if re.fullmatch(r"-?[0-9.]+", name) else re.sub(r"[\s_-]+", "_", name)


def _near(name: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(plain_name(name), valid, n=1)
    return f"; did you mean {near[0]}?" if near else ""
