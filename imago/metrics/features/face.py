"""dlib's face embedding as features: what makes one person look unlike another, and nothing to download.

The network is a ResNet of 29 convolutions that maps pictures of one person close together (King 2017, "High quality
face recognition with deep metric learning", blog.dlib.net). It was trained on aligned faces; here it sees pictures as
they are, so that none drops out because no face is found in it, and portraits that are framed alike are compared alike.

dlib's own program for it takes several times as long on a CPU and keeps Python's interpreter locked meanwhile, so its
weights are read here and run by PyTorch, on any device.
"""

import math
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imago.errors import UserError
from imago.faces.dlib_models import find_model
from imago.metrics.checks import check_images
from imago.metrics.features.extractor import file_digest
from imago.metrics.precision import full_precision
from imago.metrics.resizing import WAYS, resize, to_bytes

_MODEL_FILE = "dlib_face_recognition_resnet_model_v1.dat"
_SIDE = 150  # pixels, of the faces that the network was trained on
_MEAN_COLOUR = (122.782, 117.001, 104.298)
_STRIDES = (1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 2, 1, 1, 2)  # of the residual blocks
_WIDTHS = (32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256, 256)  # their channels
_SIZE = 128


class FaceFeatures:
    """Embeddings of whole pictures, 128 components. Sets that are compared must be framed alike.

    Args:
        weights: dlib's model file; by default the one in the package ``face_recognition_models``.
        resize: How images are brought to 150² (:func:`imago.metrics.resizing.resize`), "clean" by default; rounded to
            bytes, so that embeddings are those that dlib gives of the resized picture.
        device: Where the network runs. On a GPU, convolutions run in float32, not TF32.

    Raises:
        MissingDependencyError: The model is not installed.
        UserError: `weights` is no such file, or no such model, or there is no such way to resize.
    """

    name = "face"
    size = _SIZE
    has_logits = False

    def __init__(
        self, weights: str | Path | None = None, resize: str | None = None, device: str | torch.device = "cpu"
    ) -> None:
        how = resize or "clean"
        if how not in WAYS:
            raise UserError(f"resize={how!r}: must be one of {', '.join(WAYS)}")
        path = find_face_model(weights)
        self.resize = how
        self.device = torch.device(device)
        self.protocol = f"dlib face embedding, whole images at {_SIDE}² ({how}, rounded), not aligned"
        self.identity = f"face/{file_digest(path)}/{how}"
        convolutions, projection = read_face_model(path)
        self._convolutions = [(kernel.to(self.device), bias.to(self.device)) for kernel, bias in convolutions]
        self._projection = projection.to(self.device)
        self._mean_colour = torch.tensor(_MEAN_COLOUR, device=self.device).view(3, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Embeddings of images uint8 ``(N, 3, H, W)``: float32 ``(N, 128)`` on the CPU."""
        chips = to_bytes(resize(check_images(images), _SIDE, self.resize)).to(self.device)
        with torch.inference_mode(), full_precision(self.device):
            return self._embed((chips - self._mean_colour) / 256).cpu()

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Refused: an embedding has no classes.

        Raises:
            UserError: Always.
        """
        raise UserError("face features have no logits; an Inception score needs features=inception or torchscript")

    def _embed(self, x: Tensor) -> Tensor:
        layers = iter(self._convolutions)
        x = functional.conv2d(x, *next(layers), stride=2).relu()  # (N, 32, 72, 72)
        x = functional.max_pool2d(x, 3, stride=2)  # (N, 32, 35, 35)
        for stride in _STRIDES:
            # dlib pads where the stride is 1 and nowhere else.
            y = functional.conv2d(x, *next(layers), stride=stride, padding=int(stride == 1)).relu()
            y = functional.conv2d(y, *next(layers), padding=1)
            if stride == 2:
                x = functional.avg_pool2d(x, 2)
            x = _sum(x, y).relu()
        return x.mean(dim=(2, 3)) @ self._projection  # (N, 256) → (N, 128)


def find_face_model(path: str | Path | None = None) -> Path:
    """The file of dlib's face embedding; see :func:`imago.faces.dlib_models.find_model`.

    Args:
        path: Where it is; by default in the package ``face_recognition_models``.

    Raises:
        UserError: `path` is no file.
        MissingDependencyError: The package is not installed.
    """
    return find_model(_MODEL_FILE, path, "weights", "for face features")


def read_face_model(path: Path) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Weights of dlib's face embedding.

    Args:
        path: The file, as dlib serialises networks.

    Returns:
        Kernel ``(channels out, channels in, k, k)`` and bias of each convolution, in the order in which they run, with
        the scale and offset that follow it folded in, and the last projection ``(256, 128)``; float32.

    Raises:
        UserError: It is something else.
    """
    try:
        return _read_layers(path.read_bytes())
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: not dlib's face recognition model") from error


def _sum(x: Tensor, y: Tensor) -> Tensor:
    """The sum of two ``(N, C, H, W)`` of different shapes, the smaller filled up with zeros, as in dlib's add_prev."""
    c, h, w = (max(x.shape[d], y.shape[d]) for d in (1, 2, 3))
    x, y = (functional.pad(t, (0, w - t.shape[3], 0, h - t.shape[2], 0, c - t.shape[1])) for t in (x, y))
    return x + y


# --- dlib's file format -----------------------------------------------------------------------------------------------

_LAYER = re.compile(rb"\x05con_4|\x07affine_|\x04fc_2")  # names of layers with weights, each after its length


def _read_layers(data: bytes) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    widths = [32, *(width for width in _WIDTHS for _ in range(2))]
    inputs = [3, *widths[:-1]]
    convolutions: list[tuple[Tensor, Tensor]] = []
    position = 0
    for width, channels in zip(widths, inputs, strict=True):
        numbers, position = _weights_after(b"con_4", data, position)
        scale_and_offset, position = _weights_after(b"affine_", data, position)
        side = math.isqrt((numbers.numel() - width) // (width * channels))
        kernel = numbers[:-width].view(width, channels, side, side)
        scale, offset = scale_and_offset.view(2, width)
        folded = kernel * scale.view(-1, 1, 1, 1), numbers[-width:] * scale + offset
        convolutions.append((folded[0].float(), folded[1].float()))
    projection, position = _weights_after(b"fc_2", data, position, integers=2)
    return convolutions, projection.view(widths[-1], _SIZE).float()


def _weights_after(layer: bytes, data: bytes, position: int, integers: int = 0) -> tuple[Tensor, int]:
    """The weights of the next layer, float64, which must be of the given kind, and the position after them.

    Args:
        layer: Name of the layer, which comes before its weights.
        data: The file.
        position: From where on to look: behind the weights before, so that none are taken for names.
        integers: Numbers between the name and the weights.
    """
    found = _LAYER.search(data, position)
    if found is None or not found.group().endswith(layer):
        raise ValueError(f"no {layer!r}")
    position = found.end()
    for _ in range(integers):
        _, position = _integer(data, position)
    version, position = _integer(data, position)
    if version != 2:
        raise ValueError(f"tensor of version {version}")
    count = 1
    for _ in range(4):
        length, position = _integer(data, position)
        count *= length
    numbers = np.frombuffer(data, "<f4", count, position).astype(np.float64)
    return torch.from_numpy(numbers), position + 4 * count


def _integer(data: bytes, position: int) -> tuple[int, int]:
    """A positive integer: one byte says how many follow, little end first."""
    end = position + 1 + data[position]
    return int.from_bytes(data[position + 1 : end], "little"), end
