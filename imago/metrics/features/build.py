"""Feature extractors by name."""

import importlib
from pathlib import Path

import torch

from imago.errors import UserError
from imago.metrics.features.extractor import FeatureExtractor

# Name → module, class, and the file that it cannot do without. Imported when asked for: what they need is rare or slow.
_EXTRACTORS = {
    "inception": ("imago.metrics.features.inception", "InceptionFeatures", None),
    "torchscript": ("imago.metrics.features.torchscript", "TorchScriptFeatures", "a TorchScript network"),
    "vgg16": ("imago.metrics.features.vgg16", "Vgg16Features", "VGG16's weights"),
    "face": ("imago.metrics.features.face", "FaceFeatures", None),
}
NAMES = tuple(_EXTRACTORS)


def build_extractor(
    name: str,
    weights: str | Path | None = None,
    resize: str | None = None,
    device: str | torch.device = "cpu",
) -> FeatureExtractor:
    """Builds a feature extractor.

    Args:
        name: One of `NAMES`.
        weights: The file of the network's weights; the extractor's own choice, where it has one, by default.
        resize: See :func:`imago.metrics.resizing.resize`; the extractor's own choice by default.
        device: Where the network runs.

    Raises:
        UserError: Another name, weights that are missing, or the extractor refuses.
    """
    if name not in _EXTRACTORS:
        raise UserError(f"features={name!r}: must be one of {', '.join(NAMES)}")
    module, extractor, needed = _EXTRACTORS[name]
    if needed is not None and weights is None:
        raise UserError(f"features={name} needs weights=, the file of {needed}")
    built: FeatureExtractor = getattr(importlib.import_module(module), extractor)(weights, resize, device)
    return built
