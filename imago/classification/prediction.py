"""What a classifier says about images, and pseudo-labels from what it says."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imago.classification.attributes import Attribute
from imago.classification.images import LabelledImages
from imago.classification.scores import Scores, score
from imago.networks.attribute_classifier import AttributeClassifier

_BATCH = 128


@torch.no_grad()
def probabilities(network: AttributeClassifier, images: LabelledImages) -> list[Tensor]:
    """Softmax probabilities of every image, in the precision of the network's weights whatever it is trained with.

    Args:
        network: On any device.
        images: What to look at.

    Returns:
        For each attribute ``(N, values)`` on the CPU.
    """
    weight = next(network.parameters())
    found: list[list[Tensor]] = [[] for _ in network.attributes]
    with torch.autocast(weight.device.type, enabled=False):
        for first in range(0, len(images), _BATCH):
            pixels = images.images(np.arange(first, min(first + _BATCH, len(images))))
            logits = network(pixels.to(weight.device, weight.dtype) / 127.5 - 1)
            for one, several in zip(found, logits, strict=True):
                one.append(several.softmax(1).cpu())
    return [torch.cat(one) for one in found]


def evaluate(
    network: AttributeClassifier, images: LabelledImages, attributes: Sequence[Attribute]
) -> dict[str, Scores]:
    """Attribute → the network's scores on labelled images."""
    labels = torch.from_numpy(images.labels)
    return {
        attribute.name: score(answers.argmax(1), labels[:, k], len(attribute.values))
        for k, (attribute, answers) in enumerate(zip(attributes, probabilities(network, images), strict=True))
    }


def pseudo_labels(answers: Sequence[Tensor], labels: NDArray[np.int64], confidence: float) -> NDArray[np.int64]:
    """Fills unknown labels with the most probable values where they are probable enough.

    Lee 2013, "Pseudo-Label", with a threshold. What is known is not touched.

    Args:
        answers: For each attribute ``(N, values)``, probabilities.
        labels: int64 ``(N, K)``, −1 where unknown.
        confidence: Least probability.

    Returns:
        int64 ``(N, K)``, still −1 where the network was not sure.
    """
    filled = labels.copy()
    for k, probability in enumerate(answers):
        best, value = (tensor.numpy() for tensor in probability.max(1))
        sure = (labels[:, k] < 0) & (best >= confidence)
        filled[sure, k] = value[sure]
    return filled
