"""A trained classifier on disk: one ``.safetensors`` that tells in its metadata how to build the network."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from imago.errors import UserError, first_line
from imago.networks import registry
from imago.networks.attribute_classifier import AttributeClassifier
from imago.networks.serialization import FORMAT_VERSION, save_generator

CLASSIFIER_FILE = "attribute_classifier.safetensors"


def save_classifier(path: Path, network: AttributeClassifier, images_seen: int) -> None:
    """Writes a classifier; the file appears whole or not at all.

    Args:
        path: Ending in ``.safetensors``.
        network: Its configuration names attributes and values.
        images_seen: How many images it was trained on.

    Raises:
        OSError: The disk is full or not writable.
    """
    description = {
        "format": FORMAT_VERSION,
        "network": type(network).__name__,
        "config": network.config,
        "resolution": network.config["resolution"],
        "images_seen": images_seen,
    }
    save_generator(path, network, description)  # which writes any registered network


def load_classifier(path: str | Path) -> AttributeClassifier:
    """Loads a classifier, in evaluation mode, from a file or from a run directory that holds one.

    Raises:
        UserError: There is no such file, it is damaged, or it holds something else.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        path = path / CLASSIFIER_FILE
    if not path.exists():
        raise UserError(f"{path}: no such file; experiment=classify_attributes writes one")
    try:
        with safe_open(path, framework="pt") as file:
            description: Any = json.loads((file.metadata() or {}).get("imago", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a whole .safetensors file ({first_line(error)})") from error
    if not isinstance(description, dict) or description.get("network") != AttributeClassifier.__name__:
        raise UserError(f"{path}: not a classifier of imago")
    if description.get("format") != FORMAT_VERSION:
        raise UserError(f"{path}: format {description.get('format')} of files; this version reads {FORMAT_VERSION}")
    try:
        network = registry.build(AttributeClassifier.__name__, dict(description["config"]))
        network.load_state_dict(tensors)
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: the network in it cannot be built: {first_line(error)}") from error
    assert isinstance(network, AttributeClassifier)
    return network.eval().requires_grad_(False)
