"""The discriminator as a loss sees it: a function of images, with the noise of training and an eye on the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imago.losses import LossTerms
from imago.networks.multiplicative_noise import multiplicative_noise

if TYPE_CHECKING:
    from lightning_modules.adversarial import AdversarialModule


class ObservedDiscriminator:
    """Perturbs what it is shown, and keeps the auxiliary classifier's logits of the first call.

    Args:
        module: Whose discriminator.
        purpose: Keys the draws; calls and minibatches are told apart.
        first: Global position of the minibatch's first image.
        count: Images of a minibatch; a call may show several, one after the other.
        conditions: (count, …) what the images of each minibatch were made from, of a model that has such.
    """

    def __init__(
        self, module: AdversarialModule, purpose: str, first: int, count: int, conditions: Tensor | None = None
    ) -> None:
        self.module = module
        self.purpose = purpose
        self.first = first
        self.count = count
        self.conditions = conditions
        self.calls = 0
        self.logits: Tensor | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """The discriminator's outputs for minibatches (k · count, C, H, W)."""
        module, purpose = self.module, f"{self.purpose}/{self.calls}"
        parts = [
            module.perturb_images(part, f"{purpose}/{i}", self.first) for i, part in enumerate(images.split(self.count))
        ]
        perturbed = torch.cat(parts) if len(parts) > 1 else parts[0]
        strength = module.loss.noise_strength
        with multiplicative_noise(module.discriminator, strength, module.seed, purpose, self.first, self.count):
            outputs, logits = module.discriminate(perturbed, self.count, self.conditions)
        if self.calls == 0:
            self.logits = logits
        self.calls += 1
        return outputs

    def with_label_errors(self, terms: LossTerms, codes: Sequence[Tensor | None], names: Sequence[str]) -> LossTerms:
        """Adds the auxiliary classifier's error on the minibatches of the first call (AC-GAN; Odena et al. 2017).

        Args:
            terms: With the loss.
            codes: (count, K) of the labels of each minibatch, as many as matter.
            names: What the first of them are called in the log.

        Returns:
            The terms, with ``<name>_label_error`` and ``<name>_label_accuracy``.
        """
        labels = self.module.labels
        if labels is None or self.logits is None:
            return terms
        for i, (logits, known) in enumerate(zip(self.logits.split(self.count), codes, strict=False)):
            assert known is not None
            error = labels.coding.classification_loss(logits, known)
            terms["loss"] = terms["loss"] + self.module.label_weight * error
            if i < len(names):
                terms[f"{names[i]}_label_error"] = error
                terms[f"{names[i]}_label_accuracy"] = labels.coding.accuracy(logits, known)
        return terms
