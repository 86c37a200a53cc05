"""The training, validation and test part of a labelled pack: nobody is in two of them.

The original code of Curtó & Zarza shuffles the images, so that a face, its mirror image and other faces of the same
photo lie in different parts; and it tests on the part that picked its checkpoint. Here whole groups are assigned.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imago.data.grouped_split import PARTS, grouped_split
from imago.data.labels import NamedLabels
from imago.data.packed import PackedDataset
from imago.data.sources.curto import face_key, owner_of, owner_split
from imago.errors import UserError

NO_ATTRIBUTES = ("partition", "identity")  # CelebA's columns that say which part and who


@dataclass(frozen=True)
class Split:
    """The parts of a pack.

    Attributes:
        parts: "train", "validation" or "test" → positions int64 in the pack, ascending.
        groups: Part → how many groups it holds.
        kind: What no two parts share: "an owner of photos", …
    """

    parts: dict[str, NDArray[np.int64]]
    groups: dict[str, int]
    kind: str


def split_images(
    dataset: PackedDataset,
    labelled: NDArray[np.bool_],
    validation_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 0,
) -> Split:
    """Assigns the labelled images of a pack to the parts.

    Faces of Curtó & Zarza, known by their names, go by the owner of the photo, within each ethnicity; images with an
    identity stay with the others of that person; where the labels hold CelebA's partition with all three parts, that is
    the split, whatever the shares; all other images are their own groups.

    Args:
        dataset: The pack.
        labelled: ``(N,)``, which images take part.
        validation_share: Share of the labelled images.
        test_share: Share of the labelled images.
        seed: Of the split.

    Raises:
        UserError: Shares that make no sense, or a part without images.
    """
    positions = np.flatnonzero(labelled)
    names = [dataset.item_name(int(i)) for i in positions]
    partition = _column(dataset, "partition")
    identity = _column(dataset, "identity")
    if partition is not None and set(PARTS) <= {partition[i] for i in positions}:
        kind, groups = "an image (the partition of the labels)", names
        part_of = {name: partition[i] for name, i in zip(names, positions, strict=True) if partition[i]}
    elif any(_is_of_curto(name) for name in names):
        kind, groups = "an owner of photos", [owner_of(name) for name in names]
        part_of = _split_by_owner(dataset, positions, names, validation_share, test_share, seed)
    else:
        if identity is not None:
            kind = "a person"
            groups = [identity[i] or name for name, i in zip(names, positions, strict=True)]
        else:
            kind, groups = "an image", names
        sizes = dict(zip(*np.unique(np.array(groups, dtype=object), return_counts=True), strict=True))
        part_of = grouped_split(sizes, validation_share, test_share, seed)
    parts = {part: positions[[part_of.get(group) == part for group in groups]] for part in PARTS}
    empty = [part for part in PARTS if len(parts[part]) == 0]
    if empty:
        raise UserError(
            f"{dataset.name}: {len(positions)} labelled images are too few to split: none in the {empty[0]} part; take "
            "more images, or raise model.validation_share and model.test_share"
        )
    counts = {part: len({group for group in groups if part_of.get(group) == part}) for part in PARTS}
    return Split(parts, counts, kind)


def _is_of_curto(name: str) -> bool:
    return owner_of(name) != face_key(name)


def _split_by_owner(
    dataset: PackedDataset,
    positions: NDArray[np.int64],
    names: list[str],
    validation_share: float,
    test_share: float,
    seed: int,
) -> dict[str, str]:
    ethnicity = _column(dataset, "Ethnicity")
    table = NamedLabels()
    for name, i in zip(names, positions, strict=True):
        table.add(face_key(name), {"Ethnicity": ethnicity[i] if ethnicity else ""})
    return owner_split([table], validation_share, test_share, seed)


def _column(dataset: PackedDataset, name: str) -> list[str] | None:
    """The texts of a column, "" where unknown; None where there is no such column."""
    for i, column in enumerate(dataset.label_columns):
        if column.name == name and dataset.labels is not None:
            texts = [*column.values, ""]  # code −1 reads the last one
            return [texts[code] for code in dataset.labels[:, i].tolist()]
    return None
