"""What a feature extractor is."""

import hashlib
from pathlib import Path
from typing import Protocol

from torch import Tensor


class FeatureExtractor(Protocol):
    """Turns images into features; slow to build, so it is built once and used for many batches.

    Attributes:
        name: Short: "face", "inception".
        size: Components D of a feature.
        protocol: What is printed beside a number, resize included: "dlib face embedding, images at 150² (bicubic)".
        identity: All that features depend on (network, digest of the weights, resize), to recognise cached ones.
        has_logits: Whether :meth:`features_and_logits` works, for the Inception score.
    """

    name: str
    size: int
    protocol: str
    identity: str
    has_logits: bool

    def __call__(self, images: Tensor) -> Tensor:
        """Features of images.

        Args:
            images: uint8 ``(N, 3, H, W)``, on any device.

        Returns:
            float32 ``(N, D)`` on the CPU.
        """
        ...

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features, and float32 ``(N, K)`` logits of the same pass.

        Raises:
            UserError: The network has none (`has_logits` is false).
        """
        ...


def file_digest(path: Path) -> str:
    """SHA-256 of a file of weights, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
