"""The figure of nearest neighbours: generated images in the first row, and under each its nearest training images.

As figure 10 of Karras et al. 2018 and figure 15 of Curtó et al. 2020, both with five neighbours.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imago.errors import UserError
from imago.images import image_grid
from imago.metrics.checks import check_images
from imago.metrics.nearest_images import Nearest, crop_box

_OUTLINE = (255, 64, 64)
_OUTLINE_SHARE = 1 / 128  # width of the outline, of the image's shorter side


def neighbour_figure(generated: Tensor, neighbours: Tensor, outline: float | None = None, padding: int = 0) -> Tensor:
    """Lays the figure out; :func:`imago.images.save_image` writes it.

    Args:
        generated: uint8 ``(Q, 3, H, W)`` (or grey): the first row.
        neighbours: uint8 ``(Q, k, 3, H, W)``: the nearest training images of each, the nearest first.
        outline: The crop that was compared (:func:`imago.metrics.nearest_images.centre_crop`); it is outlined in the
            image at the bottom right, as in Karras et al. None outlines nothing.
        padding: Black pixels between images.

    Returns:
        uint8 ``(3, (k + 1) · H + k · padding, Q · W + (Q - 1) · padding)``.

    Raises:
        UserError: Images that do not belong together, or a crop that is no share.
    """
    generated = check_images(generated, "generated images")
    if neighbours.ndim != 5 or len(neighbours) != len(generated) or neighbours.shape[1] == 0:
        shapes = f"{tuple(generated.shape)} and {tuple(neighbours.shape)}"
        raise UserError(f"a figure needs images (Q, C, H, W) and their neighbours (Q, k, C, H, W), not {shapes}")
    if neighbours.shape[3:] != generated.shape[2:]:
        sizes = ["×".join(map(str, images.shape[-2:])) for images in (generated, neighbours)]
        raise UserError(f"generated images are {sizes[0]}, their neighbours {sizes[1]}")
    rows = check_images(neighbours.transpose(0, 1).flatten(0, 1), "training images")  # (k · Q, 3, H, W), row by row
    images = torch.cat([generated, rows.to(generated.device)])
    if outline is not None:
        images[-1] = outlined(images[-1], outline)
    return image_grid(images, columns=len(generated), padding=padding)


def neighbour_images(nearest: Nearest, read: Callable[[NDArray[np.int64]], Tensor]) -> Tensor:
    """The images that were found to be nearest, mirrored where it was the mirror image.

    Args:
        nearest: Of Q queries, k each.
        read: Gives images by their positions ``(n,)`` in the training set: uint8 ``(n, C, H, W)``, in that order.

    Returns:
        uint8 ``(Q, k, C, H, W)``.
    """
    images = read(nearest.indices.flatten().numpy())
    mirrored = nearest.mirrored.flatten().to(images.device)[:, None, None, None]
    return torch.where(mirrored, images.flip(3), images).unflatten(0, tuple(nearest.indices.shape))


def outlined(image: Tensor, crop: float) -> Tensor:
    """A copy of an image ``(3, H, W)``, uint8, with a red frame just inside the edge of its centre crop."""
    top, left, height, width = crop_box(image.shape[1], image.shape[2], crop)
    line = max(1, round(min(image.shape[1:]) * _OUTLINE_SHARE))
    frame = torch.zeros(image.shape[1:], dtype=torch.bool, device=image.device)
    frame[top : top + height, left : left + width] = True
    frame[top + line : top + height - line, left + line : left + width - line] = False
    colour = torch.tensor(_OUTLINE, dtype=torch.uint8, device=image.device)[:, None, None]
    return torch.where(frame, colour, image)
