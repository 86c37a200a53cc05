"""The table and the numbers of the attribute benchmark."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from imago.classification.benchmark import Benchmark
from imago.classification.images import LabelledImages
from imago.classification.scores import Scores, majority

REPORT_FORMAT = 1
MAJORITY, REAL, WITH_SYNTHETIC = "majority", "real", "real + synthetic"
_SCORES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro-F1"}


@dataclass(frozen=True)
class Row:
    """One trained network.

    Attributes:
        training: What it was trained on, pseudo-labels included.
        best_images_seen: When the validation part liked it best.
        selection: The score that picked it, on the validation part.
        test: Attribute → scores on the test part.
        pseudo_labels: How many labels of its training images are a network's.
    """

    training: LabelledImages
    best_images_seen: int
    selection: float
    test: Mapping[str, Scores]
    pseudo_labels: int = 0


def report(benchmark: Benchmark, rows: Mapping[str, Row], config: Mapping[str, Any]) -> dict[str, Any]:
    """All numbers as plain containers: what ``classification.json`` holds.

    Args:
        benchmark: Attributes and parts.
        rows: "real" and, where there is one, "real + synthetic".
        config: The resolved configuration.
    """
    attributes = []
    for k, attribute in enumerate(benchmark.attributes):
        train, test = (torch.from_numpy(part.labels[:, k]) for part in (benchmark.train, benchmark.test))
        scores = {MAJORITY: majority(train, test, len(attribute.values))}
        scores |= {name: row.test[attribute.name] for name, row in rows.items()}
        attributes.append(
            {
                "name": attribute.name,
                "values": list(attribute.values),
                "counts": {
                    part: _counts(images.labels[:, k], len(attribute.values))
                    for part, images in (
                        ("train", benchmark.train),
                        ("validation", benchmark.validation),
                        ("test", benchmark.test),
                    )
                },
                **{name: one.as_dict() for name, one in scores.items()},
            }
        )
    dataset, split = benchmark.dataset, benchmark.split
    return {
        "format": REPORT_FORMAT,
        "data": {
            "name": dataset.name,
            "images": len(dataset),
            "checksum": dataset.checksum,
            "resolution": benchmark.test.resolution,
            "synthetic": dict(benchmark.synthetic_sets),
            "unknown_values": list(benchmark.strange),
        },
        "split": {
            "not_shared": split.kind,
            "images": {part: len(positions) for part, positions in split.parts.items()},
            "groups": split.groups,
        },
        "rows": {
            name: {
                "training_images": len(row.training),
                "pseudo_labels": row.pseudo_labels,
                "best_images_seen": row.best_images_seen,
                "selection": row.selection,
            }
            for name, row in rows.items()
        },
        "attributes": attributes,
        "skipped": list(benchmark.skipped),
        "config": dict(config),
    }


def _counts(labels: np.ndarray, values: int) -> list[int]:
    return np.bincount(labels[labels >= 0], minlength=values).tolist()


def report_json(numbers: Mapping[str, Any]) -> str:
    """``classification.json``."""
    return json.dumps(numbers, indent=1, ensure_ascii=False) + "\n"


def report_table(numbers: Mapping[str, Any]) -> str:
    """``classification.md``: what was trained and tested on, and the scores in per cent.

    Args:
        numbers: From :func:`report`.
    """
    columns = [MAJORITY, *numbers["rows"]]
    data, split = numbers["data"], numbers["split"]
    sizes = ", ".join(f"{count:,} {part}" for part, count in split["images"].items())
    groups = ", ".join(f"{count:,}" for count in split["groups"].values())
    lines = [
        f"# Attributes of {data['name']}, {data['resolution']} pixels high",
        "",
        f"{sizes} images; no two parts share {split['not_shared']} ({groups} of them). Scores of the test part in per",
        "cent, of the network that was best on the validation part. *Majority* answers the most frequent value of the",
        "training part. Balanced accuracy and macro-F1 are means over the values that occur in the test part.",
        "",
    ]
    for name, row in numbers["rows"].items():
        pseudo = f", {row['pseudo_labels']:,} of their labels a network's" if row["pseudo_labels"] else ""
        lines.append(
            f"- *{name}*: {row['training_images']:,} training images{pseudo}; the network after "
            f"{row['best_images_seen']:,} images"
        )
    lines += [f"- left out: {reason}" for reason in numbers["skipped"]]
    lines.append("")
    lines += _table(numbers["attributes"], columns)
    return "\n".join(lines) + "\n"


def _table(attributes: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    heads = [
        f"{title}: {columns[0]}" if i == 0 else column for title in _SCORES.values() for i, column in enumerate(columns)
    ]
    rows = [["attribute", "values", *heads], [":--", "--:", *["--:"] * len(heads)]]
    for one in attributes:
        present = one[MAJORITY]["present"]
        values = str(present) if present == len(one["values"]) else f"{present} of {len(one['values'])}"
        rows.append([one["name"], values, *[_percent(one[column][score]) for score in _SCORES for column in columns]])
    means = [_percent(_mean(attributes, column, score)) for score in _SCORES for column in columns]
    rows.append(["*mean*", "", *means])
    return ["| " + " | ".join(row) + " |" for row in rows]


def _mean(attributes: Sequence[Mapping[str, Any]], column: str, score: str) -> float:
    return sum(one[column][score] for one in attributes) / len(attributes)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
