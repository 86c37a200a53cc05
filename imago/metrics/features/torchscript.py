"""Features of any network that its owner has saved as TorchScript, StyleGAN's Inception among them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imago.errors import UserError, first_line
from imago.metrics.checks import check_images
from imago.metrics.features.extractor import file_digest
from imago.metrics.precision import full_precision
from imago.metrics.resizing import WAYS, resize

_TINY = torch.finfo(torch.float32).tiny


class TorchScriptFeatures:
    """Features by a TorchScript file.

    Any network will do that turns float32 images ``(N, 3, H, W)`` in [0, 255] into one tensor, which is flattened to
    ``(N, D)``; normalise inside.

    The published ``inception-2015-12-05.pt`` (StyleGAN2-ADA's metrics and clean-fid use it) is known by the options of
    its forward, ``return_features`` and ``no_output_bias``: features are the 2048 after the last pooling, logits the
    logarithms of its class probabilities without bias, which are logits up to a constant. It resizes inside as
    TensorFlow 1 did; images that come at 299² from another resize skip that (clean-fid's way).

    On a GPU, convolutions run in float32, not TF32.

    Args:
        weights: The file.
        resize: How images are brought to ``side``², see :func:`imago.metrics.resizing.resize`. None: not at all; for
            the published Inception the same as "tf1", inside.
        device: Where the network runs.
        side: In pixels; without `resize`, the size of the picture that the network is tried on.

    Raises:
        UserError: No such file, not TorchScript, or a network that does not give features of images.
    """

    name = "torchscript"

    def __init__(
        self,
        weights: str | Path,
        resize: str | None = None,
        device: str | torch.device = "cpu",
        side: int = 299,
    ) -> None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise UserError(f"weights={path}: no such file; expected a TorchScript network")
        if resize is not None and resize not in WAYS:
            raise UserError(f"resize={resize!r}: must be one of {', '.join(WAYS)}")
        self.device = torch.device(device)
        self._network = _open(path, self.device)
        options = {argument.name for argument in self._network.forward.schema.arguments}
        self._gives_features = "return_features" in options
        self.has_logits = self._gives_features and "no_output_bias" in options
        self.resize = None if self._gives_features and resize == "tf1" else resize
        self.side = side
        if self.resize is not None:
            how = f"at {side}² ({resize})"
        else:
            how = "resized inside (tf1)" if self._gives_features else "as they are"
        self.protocol = f"TorchScript network {path.name}, images {how}"
        self.identity = f"torchscript/{file_digest(path)}/{self.resize}/{side}"
        try:
            self.size = self(torch.zeros(1, 3, side, side, dtype=torch.uint8)).shape[1]
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    def __call__(self, images: Tensor) -> Tensor:
        """Features of images uint8 ``(N, 3, H, W)``: float32 ``(N, D)`` on the CPU.

        Raises:
            UserError: The network does not take such images, or gives something else than features of each.
        """
        pixels = self._pixels(images)
        layers = getattr(self._network, "layers", None)
        if self._gives_features and self.resize is not None and layers is not None:
            return self._run(layers, (pixels - 128) / 128)
        if self._gives_features:
            return self._run(self._network, pixels, return_features=True)
        return self._run(self._network, pixels)

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features, and float32 logits ``(N, K)`` by a second pass, on the CPU.

        Raises:
            UserError: The network has none, or see :meth:`__call__`.
        """
        if not self.has_logits:
            raise UserError(f"{self.protocol}: has no logits for an Inception score")
        probabilities = self._run(self._network, self._pixels(images), no_output_bias=True)
        return self(images), probabilities.clamp(min=_TINY).log()

    def _pixels(self, images: Tensor) -> Tensor:
        """float32 in [0, 255], resized, on the device."""
        images = check_images(images)
        pixels = images.float() if self.resize is None else resize(images, self.side, self.resize)
        return pixels.to(self.device).contiguous()

    def _run(self, network: Any, pixels: Tensor, **options: bool) -> Tensor:
        size = "×".join(map(str, pixels.shape[2:]))
        try:
            with torch.inference_mode(), full_precision(self.device):
                output = network(pixels, **options)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1:] or [first_line(error)]  # TorchScript's traceback comes first
            raise UserError(f"the network cannot take images of {size}: {reason[0].strip()[:200]}") from error
        if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != len(pixels):
            what = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise UserError(f"the network gives {what} for {len(pixels)} images of {size}; features (N, D) are needed")
        return output.flatten(1).float().cpu()


def _open(path: Path, device: torch.device) -> Any:
    try:
        return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not a TorchScript network ({first_line(error)})") from error
