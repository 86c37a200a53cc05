"""What every metric asks of images and features, with one clear line where it is not so."""

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imago.errors import UserError

Features: TypeAlias = Tensor | NDArray[np.floating]


def check_images(images: Tensor, name: str = "images") -> Tensor:
    """Images as metrics take them; grey ones are repeated to RGB, as the official PGGAN metrics do.

    Args:
        images: uint8 ``(N, C, H, W)`` with C = 1 or 3.
        name: What to call them in a message.

    Returns:
        uint8 ``(N, 3, H, W)``, without a copy where none is needed.

    Raises:
        UserError: None at all, not uint8, not four-dimensional, or of other channels.
    """
    if images.ndim != 4:
        raise UserError(f"{name} must be (N, C, H, W), not of shape {tuple(images.shape)}")
    if images.dtype != torch.uint8:
        wrong = ""
        if images.is_floating_point() and not bool(torch.isfinite(images).all()):
            wrong = " with NaN or infinity among them"
        raise UserError(f"{name} must be uint8, not {str(images.dtype).removeprefix('torch.')}{wrong}; see to_uint8")
    if len(images) == 0:
        raise UserError(f"{name}: an empty set; a metric needs at least one image")
    if images.shape[1] not in (1, 3):
        raise UserError(f"{name} must have 1 or 3 channels, not {images.shape[1]}")
    return images.expand(-1, 3, -1, -1)


def check_alike(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Two sets that are compared one to one: as many images, of one size and as many channels.

    Args:
        real: See :func:`check_images`.
        fake: Likewise.

    Returns:
        Both as uint8 ``(N, 3, H, W)``.

    Raises:
        UserError: They differ, or :func:`check_images` refuses one.
    """
    checked = check_images(real, "real images"), check_images(fake, "generated images")
    if real.shape[1] != fake.shape[1]:
        raise UserError(f"real images have {real.shape[1]} channels, generated ones {fake.shape[1]}")
    if real.shape[2:] != fake.shape[2:]:
        sizes = ["×".join(map(str, images.shape[2:])) for images in (real, fake)]
        raise UserError(f"real images are {sizes[0]}, generated ones {sizes[1]}")
    if len(real) != len(fake):
        raise UserError(f"{len(real)} real and {len(fake)} generated images: this metric needs as many of both")
    return checked


def check_features(features: Features, name: str = "features") -> Tensor:
    """Features as metrics take them.

    Args:
        features: Floating point ``(N, D)``.
        name: What to call them in a message.

    Returns:
        The same as a tensor, of the same type and on the same device.

    Raises:
        UserError: None at all, not two-dimensional, or not finite.
    """
    tensor = torch.as_tensor(features)
    if tensor.ndim != 2 or not tensor.is_floating_point():
        raise UserError(f"{name} must be floating point (N, D), not {tensor.dtype} of shape {tuple(tensor.shape)}")
    if tensor.numel() == 0:
        raise UserError(f"{name}: an empty set; a metric needs at least one image")
    finite = torch.isfinite(tensor).all(dim=1)
    if not bool(finite.all()):
        raise UserError(f"{name}: NaN or infinity for {int((~finite).sum())} of {len(tensor)} images")
    return tensor


def check_same_width(real: Tensor, fake: Tensor) -> None:
    """Both sets of features have as many components.

    Raises:
        UserError: They have not.
    """
    if real.shape[1] != fake.shape[1]:
        raise UserError(f"features of {real.shape[1]} and {fake.shape[1]} components cannot be compared")
