"""LPIPS: the perceptual distance of two images by VGG16's activations (Zhang et al. 2018).

"The unreasonable effectiveness of deep features as a perceptual metric", equation 1, version 0.1 with VGG16: the
activations of five layers are normalised to unit length over the channels, their squared differences weighted per
channel, averaged over the positions, and summed over the layers. The weights come with torchmetrics; those of VGG16
have to be given.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
import torchmetrics
from torch import Tensor

from imago.errors import UserError, first_line
from imago.metrics.features.vgg16 import Vgg16, load_vgg16
from imago.metrics.precision import full_precision

LAYERS = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")
_CHANNELS = (64, 128, 256, 512, 512)
_EPSILON = 1e-10  # added to the length that activations are divided by, as in the authors' code


class Lpips:
    """The distance, for many pairs.

    Args:
        network: See :func:`imago.metrics.features.vgg16.load_vgg16`. Computed on its device and in its precision.
        channel_weights: Per layer ``(C,)``; by default the published ones, see :func:`published_channel_weights`.

    Raises:
        UserError: Weights of other shapes.
    """

    protocol = "LPIPS 0.1 (VGG16)"

    def __init__(self, network: Vgg16, channel_weights: Sequence[Tensor] | None = None) -> None:
        self._network = network
        weights = published_channel_weights() if channel_weights is None else list(channel_weights)
        if [tuple(weight.shape) for weight in weights] != [(channels,) for channels in _CHANNELS]:
            raise UserError(f"LPIPS with VGG16 needs weights of {_CHANNELS} channels")
        parameter = next(network.parameters())
        self._weights = [weight.to(parameter) for weight in weights]

    @classmethod
    def from_file(cls, path: str | Path, device: str | torch.device = "cpu") -> "Lpips":
        """The published distance, with VGG16's weights from a file; see :func:`load_vgg16`."""
        return cls(load_vgg16(path, device))

    @torch.no_grad()
    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances of images, pair by pair.

        Args:
            first: Floating point ``(N, 3, H, W)`` in [-1, 1], RGB, at least 16×16.
            second: The same shape.

        Returns:
            ``(N,)``, 0 for equal images, in the precision and on the device of the network.

        Raises:
            UserError: Images that cannot be compared.
        """
        if first.shape != second.shape:
            raise UserError(f"LPIPS compares images of one shape, not {tuple(first.shape)} and {tuple(second.shape)}")
        total = self._weights[0].new_zeros(len(first))
        with full_precision(total.device):
            activations = self._network(torch.cat([first, second]).to(total), LAYERS)
            for name, weight in zip(LAYERS, self._weights, strict=True):
                a, b = _unit_length(activations[name]).chunk(2)  # (N, C, h, w) each
                total += torch.einsum("nchw,c->nhw", (a - b).square(), weight).mean(dim=(1, 2))
        return total


def published_channel_weights(path: str | Path | None = None) -> list[Tensor]:
    """The weights of the channels that Zhang et al. fitted to people's judgements.

    Args:
        path: A file in the layout of the authors' ``vgg.pth``; by default the one that torchmetrics installs.

    Returns:
        Per layer ``(C,)``, float32, not negative.

    Raises:
        UserError: No such file, or not such weights.
    """
    if path is None:
        path = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models" / "vgg.pth"
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the vgg.pth of LPIPS, which torchmetrics installs")
    try:
        # They were saved on a GPU.
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return [tensors[f"lin{layer}.model.1.weight"].flatten() for layer in range(len(LAYERS))]
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not the weights of LPIPS with VGG16 ({first_line(error)})") from error


def _unit_length(activations: Tensor) -> Tensor:
    return activations / (activations.square().sum(dim=1, keepdim=True).sqrt() + _EPSILON)
