"""One network trained on all attributes at once, driven by images_seen alone."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from imago import randomness
from imago.classification.augmentation import augment
from imago.classification.loss import masked_cross_entropy
from imago.distributed import Stopping
from imago.errors import UserError
from imago.growth import GrowthSchedule, GrowthStage
from imago.networks.attribute_classifier import AttributeClassifier


class AttributeClassifierModule(pl.LightningModule):
    """Adam on the sum of the attributes' cross-entropies, each over the labels that are known.

    Args:
        network: Images to logits.
        schedule: Batch size and learning rate; one resolution.
        total_images: Where the learning rate has fallen to 0.
        seed: Keys augmentation and dropout.
        weights: For each attribute the weights (V,) of its values; None: all 1.
        dropout: Share of the heads' inputs that are dropped.
        decay: "cosine" or "none".
        betas: Adam's β₁ and β₂.
        eps: Adam's ε.
        augmented: Whether to shift, brighten and contrast the images.
    """

    def __init__(
        self,
        network: AttributeClassifier,
        schedule: GrowthSchedule,
        total_images: int,
        seed: int,
        weights: Sequence[Tensor] | None = None,
        dropout: float = 0.3,
        decay: str = "cosine",
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        augmented: bool = True,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.schedule = schedule
        self.total_images = total_images
        self.seed = seed
        self.weights = weights
        self.dropout = dropout
        self.decay = decay
        self.betas = (float(betas[0]), float(betas[1]))
        self.eps = eps
        self.augmented = augmented

        self.images_seen = 0
        self.step_started_at = 0  # images_seen when the newest step began
        self.skipped_updates = 0  # there are none: a loss that is not finite ends the run
        self.terms: dict[str, Tensor] = {}  # of the newest step
        self.stopping = Stopping()

    @property
    def stage(self) -> GrowthStage:
        """Batch size and learning rate of the newest step."""
        return dataclasses.replace(self.schedule.at(0), learning_rate=self.learning_rate(self.step_started_at))

    def learning_rate(self, images_seen: int) -> float:
        """``α · ½ (1 + cos(π · images_seen / total_images))``, or α without decay."""
        initial = self.schedule.at(0).learning_rate
        share = min(images_seen / self.total_images, 1.0) if self.decay == "cosine" else 0.0
        return initial * 0.5 * (1 + math.cos(math.pi * share))

    def relative_cost(self, resolution: int) -> float:
        """For the estimate of the remaining time; there is one resolution."""
        return 1.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam; the learning rate is set at every step."""
        return torch.optim.Adam(
            self.network.parameters(), lr=self.learning_rate(0), betas=self.betas, eps=self.eps, fused=True
        )

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """One update.

        Args:
            batch: ``images`` (N, C, H, W) uint8; ``labels`` (N, K), −1 where unknown; ``images_seen``.
            batch_idx: Unused; images_seen is the clock.

        Raises:
            UserError: The loss is not finite.
        """
        assert batch["images_seen"] == self.images_seen, (batch["images_seen"], self.images_seen)
        self.step_started_at = self.images_seen
        dtype = next(self.network.parameters()).dtype
        images = batch["images"].to(dtype) / 127.5 - 1
        if self.augmented:
            images = augment(images, self.seed, self.images_seen)
        logits = self.network(images, self._dropout_mask(len(images), dtype))
        losses = [
            masked_cross_entropy(one, batch["labels"][:, k], None if self.weights is None else self.weights[k].to(one))
            for k, one in enumerate(logits)
        ]
        loss = torch.stack(losses).sum()
        if not torch.isfinite(loss):
            raise UserError(
                f"training diverged: the loss is not finite at {self.images_seen} images seen; try a lower "
                "growth.learning_rate"
            )
        optimizer = self.trainer.optimizers[0]
        optimizer.zero_grad(set_to_none=True)
        self.manual_backward(loss)
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate(self.images_seen)
        optimizer.step()
        self.terms = {"loss": loss.detach() / len(losses)}
        self.images_seen += len(images)
        self.stopping.count(self.stopping.votes(loss).tolist())

    def _dropout_mask(self, count: int, dtype: torch.dtype) -> Tensor | None:
        """Inverted dropout of the heads' inputs, keyed by the position of each image in the run."""
        if self.dropout == 0:
            return None
        draws = randomness.uniform(self.seed, "dropout", self.images_seen, count, self.network.features)
        return torch.from_numpy((draws >= self.dropout) / (1 - self.dropout)).to(self.device, dtype)

    def training_state(self) -> dict[str, Any]:
        """Everything training needs to go on bit for bit, as plain containers and tensors."""
        return {
            "images_seen": self.images_seen,
            "step_started_at": self.step_started_at,
            "network": self.network.state_dict(),
            "optimizer": self.trainer.optimizers[0].state_dict(),
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`training_state` gave; the optimizer must exist."""
        self.network.load_state_dict(state["network"])
        self.trainer.optimizers[0].load_state_dict(state["optimizer"])
        self.images_seen = state["images_seen"]
        self.step_started_at = state["step_started_at"]
