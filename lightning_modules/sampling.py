"""What a GAN shows while it trains: pictures of its averaged generator, of the same latents every time."""

import torch
from torch import Tensor, nn

from imago.images import to_uint8
from imago.labels import LabelDistribution
from imago.latents import draw_latents
from lightning_modules.variant import Variant


class Sampling(Variant):
    """Pictures of the averaged generator at the present stage."""

    generator: nn.Module
    generator_ema: nn.Module
    labels: LabelDistribution | None
    seed: int

    @property
    def latent_size(self) -> int:
        """Components of a latent vector."""
        return int(self.generator.latent_size)  # type: ignore[arg-type]

    @property
    def weight_dtype(self) -> torch.dtype:
        """Of the networks' weights: float32, or float64 with trainer.precision=64-true."""
        return next(self.generator.parameters()).dtype

    def one_hot(self, codes: Tensor | None) -> Tensor | None:
        """Codes (N, K) of labels as (N, size), what networks take; None without labels."""
        if self.labels is None or codes is None:
            return None
        return self.labels.coding.one_hot(codes).to(self.weight_dtype)

    def draw_labels(self, first: int, count: int, purpose: str) -> Tensor | None:
        """Codes (count, K) of the labels of random training images on the module's device; None without labels."""
        if self.labels is None:
            return None
        return self.labels.draw(self.seed, first, count, purpose).to(self.device)

    @torch.inference_mode()
    def pictures(self, latents: Tensor, codes: Tensor | None = None) -> Tensor:
        """Images of the averaged generator at the present stage, as large as those of the data set.

        Args:
            latents: (N, latent_size).
            codes: (N, K) of the labels, in a conditional run.

        Returns:
            float32 (N, C, H, W), about in [-1, 1].
        """
        labels = None if codes is None else self.one_hot(codes.to(self.device))
        images = self.generate(self.generator_ema, latents.to(self.device, self.weight_dtype), labels)
        return self.generator_ema.read_back(images).float()  # type: ignore[operator]

    @torch.inference_mode()
    def samples(self, count: int) -> Tensor:
        """What is shown at every snapshot: pictures of the same latents, uint8 (count, C, H, W)."""
        latents = draw_latents(self.seed, 0, count, self.latent_size, "samples")
        codes = self.draw_labels(0, count, "samples/labels")
        size = max(1, self.stage.batch_size)
        parts = torch.from_numpy(latents).split(size)
        labels = [None] * len(parts) if codes is None else codes.split(size)
        return torch.cat([to_uint8(self.pictures(*part)).cpu() for part in zip(parts, labels, strict=True)])
