"""Which label columns are classified, and the labels of any pack in their terms."""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imago.data.packed import PackedDataset
from imago.errors import UserError


@dataclass(frozen=True)
class Attribute:
    """A label column that is classified: its name and values, in the order of the logits."""

    name: str
    values: tuple[str, ...]


def same_name(name: str) -> str:
    """What names that are meant to be equal have in common: "Eyes Color" and "eyes_color" give "eyes_color"."""
    return re.sub(r"[\W_]+", "_", name).strip("_").casefold()


def choose_attributes(
    dataset: PackedDataset, wanted: Sequence[str] | None, no_attributes: Collection[str] = ()
) -> list[Attribute]:
    """The columns to classify, in the order of the data set.

    Args:
        dataset: Its label columns are those that there are.
        wanted: Names in any case; None: all.
        no_attributes: Columns that are no attributes (who it is, which part), left out unless they are named.

    Raises:
        UserError: No labels, or a name that is not there.
    """
    if dataset.labels is None or not dataset.label_columns:
        raise UserError(f"{dataset.path}: has no labels to classify; pack a data set with labels, Curtó's or CelebA's")
    columns = {same_name(column.name): column for column in dataset.label_columns}
    if wanted is None:
        chosen = {key for key, column in columns.items() if column.name not in no_attributes}
    else:
        for name in wanted:
            if same_name(name) not in columns:
                near = difflib.get_close_matches(same_name(name), columns, n=1)
                hint = f"did you mean {columns[near[0]].name}? " if near else ""
                names = ", ".join(column.name for column in dataset.label_columns)
                raise UserError(f"model.attributes: no label column {name!r}; {hint}valid here: {names}")
        chosen = {same_name(name) for name in wanted}
    return [Attribute(column.name, column.values) for key, column in columns.items() if key in chosen]


def labels_of(dataset: PackedDataset, attributes: Sequence[Attribute]) -> tuple[NDArray[np.int64], list[str]]:
    """The labels of a pack as positions in the attributes' values; columns and values are matched by their names.

    Args:
        dataset: Any pack, with labels or without.
        attributes: What is classified.

    Returns:
        int64 ``(N, K)``, −1 where unknown; and the values ("Glasses monocle") that the attributes do not have, which
        are unknown, too.
    """
    labels = np.full((len(dataset), len(attributes)), -1, dtype=np.int64)
    strange: list[str] = []
    if dataset.labels is None:
        return labels, strange
    columns = {same_name(column.name): i for i, column in enumerate(dataset.label_columns)}
    for k, attribute in enumerate(attributes):
        place = columns.get(same_name(attribute.name))
        if place is None:
            continue
        positions = {same_value(value): position for position, value in enumerate(attribute.values)}
        values = dataset.label_columns[place].values
        codes = [positions.get(same_value(value), -1) for value in values]
        strange += [f"{attribute.name} {value}" for value, code in zip(values, codes, strict=True) if code < 0]
        # One entry more than there are values: code −1 reads the last one, so unknown stays −1.
        labels[:, k] = np.array([*codes, -1])[dataset.labels[:, place]]
    return labels, strange


def same_value(value: str) -> str:
    """As :func:`same_name`, but a minus sign counts: CelebA's values are "-1" and "1"."""
    return ("-" if value.strip().startswith("-") else "") + same_name(value)
