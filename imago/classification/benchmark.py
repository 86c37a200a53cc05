"""What the attribute benchmark trains and tests on, put together from packs and options."""

from dataclasses import dataclass, field

import numpy as np

from imago.classification.attributes import Attribute, choose_attributes, labels_of
from imago.classification.images import LabelledImages
from imago.classification.options import ClassificationOptions
from imago.classification.split import NO_ATTRIBUTES, Split, split_images
from imago.data.packed import PackedDataset
from imago.errors import UserError


@dataclass(frozen=True)
class Benchmark:
    """Attributes and parts.

    Attributes:
        dataset: The labelled pack.
        attributes: What is classified.
        skipped: Why other columns are not, a line each.
        split: The parts of the labelled images.
        train: Training part.
        validation: Picks the network.
        test: Looked at once.
        synthetic: What is added to the training part for the second row; None where there is no second row.
        synthetic_sets: Name → checksum of the packs that it comes from.
        strange: Values of their labels that the attributes do not have.
    """

    dataset: PackedDataset
    attributes: list[Attribute]
    skipped: list[str]
    split: Split
    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    synthetic: LabelledImages | None = None
    synthetic_sets: dict[str, str] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)


def build_benchmark(dataset: PackedDataset, options: ClassificationOptions, resolution: int) -> Benchmark:
    """Chooses attributes, splits the labelled images and opens the synthetic sets.

    Args:
        dataset: The labelled pack.
        options: What is asked for.
        resolution: Height at which images are read.

    Raises:
        UserError: No labels, unknown attributes, nothing to tell apart, too few images, synthetic sets that do not fit.
    """
    chosen = choose_attributes(dataset, options.attributes, NO_ATTRIBUTES)
    labels, _ = labels_of(dataset, chosen)
    split = split_images(
        dataset, np.any(labels >= 0, axis=1), options.validation_share, options.test_share, options.split_seed
    )
    kept, skipped = [], []
    for k, attribute in enumerate(chosen):
        known = {part: labels[positions, k] for part, positions in split.parts.items()}
        if len(np.unique(known["train"][known["train"] >= 0])) < 2:
            skipped.append(f"{attribute.name}: has one value only in the training part")
        elif empty := [part for part in ("validation", "test") if (known[part] < 0).all()]:
            skipped.append(f"{attribute.name}: is known of no image of the {empty[0]} part")
        else:
            kept.append(k)
    if not kept:
        raise UserError(f"{dataset.name}: nothing to classify ({'; '.join(skipped)})")
    attributes, labels = [chosen[k] for k in kept], labels[:, kept]

    parts = {
        part: LabelledImages([(dataset, positions)], labels[positions], resolution)
        for part, positions in split.parts.items()
    }
    synthetic, sets, strange = _synthetic(dataset, attributes, options, resolution)
    return Benchmark(
        dataset,
        attributes,
        skipped,
        split,
        parts["train"],
        parts["validation"],
        parts["test"],
        synthetic,
        sets,
        strange,
    )


def _synthetic(
    dataset: PackedDataset, attributes: list[Attribute], options: ClassificationOptions, resolution: int
) -> tuple[LabelledImages | None, dict[str, str], list[str]]:
    found: LabelledImages | None = None
    sets: dict[str, str] = {}
    strange: list[str] = []
    sources = [(PackedDataset(path), False) for path in options.synthetic]
    if options.use_unlabelled:
        sources.append((dataset, True))
    for pack, only_unlabelled in sources:
        if pack.extent(resolution) != dataset.extent(resolution) or pack.channels != dataset.channels:
            raise UserError(
                f"{pack.path}: {pack.extent(resolution)} images of {pack.channels} channels cannot be added to "
                f"{dataset.extent(resolution)} ones of {dataset.channels}"
            )
        labels, unknown = labels_of(pack, attributes)
        positions = np.arange(len(pack))
        if only_unlabelled:
            assert pack.labels is not None
            positions = np.flatnonzero((pack.labels < 0).all(axis=1))
        elif pack.checksum == dataset.checksum:
            raise UserError(f"{pack.path}: is the labelled data set itself, whose test images must not be trained on")
        strange += unknown
        part = LabelledImages([(pack, positions)], labels[positions], resolution)
        found = part if found is None else found + part
        sets[f"{pack.name} (unlabelled)" if only_unlabelled else str(pack.path)] = pack.checksum
    if found is not None and len(found) == 0:
        raise UserError(f"{dataset.name}: model.use_unlabelled=true, but every image of it has a label")
    if found is not None and not options.pseudo_labels and not (found.labels >= 0).any():
        raise UserError(
            "the synthetic images have no labels of these attributes: give model.pseudo_labels=true, or a labelled set"
        )
    return found, sets, strange
