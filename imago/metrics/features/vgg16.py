"""VGG16 (Simonyan and Zisserman 2015, configuration D), its activations, and its features for precision and recall.

The layout is torchvision's, so its published weights ``vgg16-397923af.pth`` load as they are; torchvision itself is not
needed.
"""

import pickle
import re
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imago.errors import UserError, first_line
from imago.metrics.checks import check_images
from imago.metrics.features.extractor import file_digest
from imago.metrics.precision import full_precision
from imago.metrics.resizing import WAYS
from imago.metrics.resizing import resize as resize_images

WEIGHTS_FILE = "vgg16-397923af.pth"
WEIGHTS_URL = f"https://download.pytorch.org/models/{WEIGHTS_FILE}"

_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels, each block then pooled
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in [0, 1]
_SIDE = 224  # pixels that the fully connected layers were made for
_CHUNK = 16  # images at 224² at once: their activations take about 0.5 GB

CONVOLUTIONS = tuple(f"conv{b}_{i}" for b, block in enumerate(_BLOCKS, 1) for i in range(1, len(block) + 1))
FULLY_CONNECTED = ("fc1", "fc2", "fc3")
LAYERS = CONVOLUTIONS + FULLY_CONNECTED


class Vgg16(nn.Module):
    """VGG16 with its activations by name: "conv1_1" … "conv5_3", "fc1", "fc2" (all after the ReLU), "fc3" (logits)."""

    def __init__(self) -> None:
        super().__init__()
        features: list[nn.Module] = []
        self._names: dict[int, str] = {}  # position of a ReLU in the sequence → the layer's name
        channels = 3
        names = iter(CONVOLUTIONS)
        for block in _BLOCKS:
            for width in block:
                features += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                self._names[len(features) - 1] = next(names)
                channels = width
            features.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*features)
        # Dropout does nothing here; it keeps the numbers of the layers those of torchvision.
        first, second, logits = nn.Linear(512 * 7 * 7, 4096), nn.Linear(4096, 4096), nn.Linear(4096, 1000)
        self.classifier = nn.Sequential(first, nn.ReLU(), nn.Dropout(), second, nn.ReLU(), nn.Dropout(), logits)

    def forward(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Activations of some layers; the network runs no further than the last of them.

        Args:
            images: ``(N, 3, H, W)`` in [-1, 1], RGB, normalised here as for ImageNet; at least 16×16 for the fifth
                block, and 224×224 for fully connected layers.
            layers: Names out of :data:`LAYERS`.

        Returns:
            Per name, in the order asked for: ``(N, C, h, w)``, or ``(N, C)`` of a fully connected layer.

        Raises:
            UserError: Unknown layers, or images of a size that they cannot be computed of.
        """
        wanted = list(layers)
        if not wanted or any(name not in LAYERS for name in wanted):
            raise UserError(f"layers of VGG16 are {', '.join(LAYERS)}, not {', '.join(wanted) or 'none'}")
        last = max(LAYERS.index(name) for name in wanted)
        _check_size(images, last)
        found: dict[str, Tensor] = {}
        x = (images - _per_channel(_IMAGENET_MEAN, images) * 2 + 1) / (_per_channel(_IMAGENET_STD, images) * 2)
        for position, layer in enumerate(self.features):
            x = layer(x)
            name = self._names.get(position)
            if name in wanted:
                found[name] = x
            if name == LAYERS[last]:
                return {name: found[name] for name in wanted}
        x = x.flatten(1)  # (N, 25088)
        for name, linear in zip(FULLY_CONNECTED, (0, 3, 6), strict=True):
            x = self.classifier[linear](x)
            x = x if name == "fc3" else F.relu(x)
            found[name] = x
            if name == LAYERS[last]:
                break
        return {name: found[name] for name in wanted}


class Vgg16Features:
    """The 4,096 activations of the second fully connected layer, for improved precision and recall.

    Kynkäänniemi et al. 2019, section 2: "feature vectors … by extracting the activations after the second fully
    connected layer", here after its ReLU as in torch-fidelity ("fc2_relu"). A :class:`FeatureExtractor`.

    Args:
        weights: torchvision's ``vgg16-397923af.pth``, see :func:`load_vgg16`.
        resize: How images become 224×224, see :func:`imago.metrics.resizing.resize`; by default "tf1", as published
            numbers of torch-fidelity were made.
        device: Where the network runs.

    Raises:
        UserError: No such weights, or no such way to resize.
    """

    name = "vgg16"
    size = 4096
    has_logits = False

    def __init__(self, weights: str | Path, resize: str | None = None, device: str | torch.device = "cpu") -> None:
        self._resize = resize or "tf1"
        if self._resize not in WAYS:
            raise UserError(f"resize={resize!r}: must be one of {', '.join(WAYS)}")
        self._network = load_vgg16(weights, device)
        self._device = torch.device(device)
        self.protocol = f"VGG16 fc2, images at {_SIDE}² ({self._resize})"
        self.identity = f"vgg16 fc2 {file_digest(Path(weights).expanduser())[:16]} {self._resize}"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Features of uint8 images ``(N, 3, H, W)`` of any size: float32 ``(N, 4096)`` on the CPU."""
        features = []
        for part in check_images(images).split(_CHUNK):
            resized = resize_images(part.to(self._device), _SIDE, self._resize)
            with full_precision(resized.device):
                features.append(self._network(resized / 127.5 - 1, ["fc2"])["fc2"].float().cpu())
        return torch.cat(features)

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Not for this network.

        Raises:
            UserError: Always.
        """
        raise UserError("the vgg16 features have no logits for an Inception score; use features=inception")


def load_vgg16(path: str | Path, device: str | torch.device = "cpu") -> Vgg16:
    """Reads the network's weights.

    Args:
        path: A file in torchvision's layout; ``~`` is expanded. If its name ends in a hash, as in
            ``vgg16-397923af.pth``, its content must have that SHA-256.
        device: Where the network is put.

    Returns:
        The network, in evaluation mode, without gradients of its weights.

    Raises:
        UserError: No such file, damaged, or the weights of another network.
    """
    path = _existing(path)
    named_hash = re.fullmatch(r".*-([0-9a-f]{8})\.pth", path.name)
    if named_hash and not file_digest(path).startswith(named_hash[1]):
        raise UserError(f"{path}: damaged: its SHA-256 does not begin with {named_hash[1]}; get {WEIGHTS_URL} again")
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not a file of weights ({first_line(error)}); expected {WEIGHTS_FILE}") from error
    with torch.device("meta"):  # 138 million weights need not be drawn before they are overwritten
        network = Vgg16()
    expected = network.state_dict()
    if not isinstance(tensors, dict) or tensors.keys() != expected.keys():
        raise UserError(f"{path}: the weights of another network; expected VGG16 in torchvision's layout")
    for name, tensor in expected.items():
        if tuple(tensors[name].shape) != tuple(tensor.shape):
            found, wanted = tuple(tensors[name].shape), tuple(tensor.shape)
            raise UserError(f"{path}: {name} has the shape {found}, VGG16's has {wanted}")
    network.load_state_dict(tensors, assign=True)
    return network.float().to(device).eval().requires_grad_(False)


def _existing(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such file; the weights of VGG16 are at {WEIGHTS_URL}")
    return path


def _check_size(images: Tensor, last: int) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise UserError(f"VGG16 takes floating point (N, 3, H, W), not {images.dtype} of {tuple(images.shape)}")
    height, width = images.shape[2:]
    if last >= len(CONVOLUTIONS):
        if (height, width) != (_SIDE, _SIDE):
            raise UserError(f"the fully connected layers of VGG16 take {_SIDE}×{_SIDE} images, not {height}×{width}")
        return
    smallest = 2 ** (int(LAYERS[last][4]) - 1)  # each earlier block has halved the image
    if min(height, width) < smallest:
        raise UserError(f"{LAYERS[last]} of VGG16 needs {smallest}×{smallest} pixels, not {height}×{width}")


def _per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]
