"""A discriminator that is an autoencoder (BEGAN; Berthelot et al. 2017, section 3.1 and 3.5)."""

from typing import Any

from torch import Tensor, nn


class AutoencoderDiscriminator(nn.Module):
    """Images to their reconstructions: an encoder to a vector, and a decoder of the generator's architecture.

    Args:
        encoder: A discriminator network that returns vectors.
        decoder: A generator network that takes them as latents.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def outputs_and_logits(
        self, images: Tensor, alpha: float = 1.0, group_size: int | None = None
    ) -> tuple[Tensor, None]:
        """Reconstructions.

        Args:
            images: (N, C, H, W).
            alpha: Weight of the newest level of growing networks.
            group_size: Images that are compared with each other, or share batch statistics; None: all.

        Returns:
            (N, C, H, W), and None: there is no auxiliary classifier.
        """
        vectors = self.encoder(images, alpha=alpha, group_size=group_size)  # (N, latent_size)
        options: dict[str, Any] = {"alpha": alpha}
        if hasattr(self.decoder, "active_parameters"):
            options["resolution"] = images.shape[2]
        else:
            options["group_size"] = group_size
        return self.decoder(vectors, **options), None

    def forward(self, images: Tensor, alpha: float = 1.0, group_size: int | None = None) -> Tensor:
        """Reconstructions; see :meth:`outputs_and_logits`."""
        return self.outputs_and_logits(images, alpha, group_size)[0]

    def active_parameters(self, resolution: int, alpha: float) -> list[nn.Parameter]:
        """The parameters of growing networks that take part at (resolution, alpha), in a fixed order."""
        networks: list[Any] = [self.encoder, self.decoder]
        return [parameter for network in networks for parameter in network.active_parameters(resolution, alpha)]
