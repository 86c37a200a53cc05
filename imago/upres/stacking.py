"""What an up-resolution network reads: a picture and its guide, one on top of the other, a little smaller.

"The mask is depth-stacked with the low-res image (to make a 128x128x6 image) and then downsampled slightly to
96x96x6. The downsampling steps helps to smooth out artifacts in the lowres image that came from the lowres GAN and also
conveniently anti-aliases the guide." (Tyka 2017)
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from imago.faces.guide import GuideStyle, draw_guide

_FINE = 1024  # pixels: larger pictures need fewer lines a pixel for their guide


def stack_picture(
    picture: Tensor, faces: Sequence[NDArray[np.floating]], extent: tuple[int, int], style: GuideStyle = "rgb"
) -> Tensor:
    """Stacks a picture and its guide, and brings both to the extent that the network reads.

    Args:
        picture: float ``(3, H, W)`` in [-1, 1].
        faces: Landmarks of the faces in it, ``(68, 2)`` in pixels of the picture; NaN or none: an empty guide.
        extent: (height, width) of the result.
        style: Of the guide.

    Returns:
        float32 ``(3 + G, height, width)``: the picture in [-1, 1], the guide in [0, 1].
    """
    height, width = picture.shape[1:]
    guide = draw_guide(faces, (height, width), style, supersample=max(1, min(4, _FINE // max(height, width))))
    return resample(torch.cat([picture.float(), guide.to(picture.device)]), extent)


def resample(picture: Tensor, extent: tuple[int, int]) -> Tensor:
    """Shrinks by weighted means over areas (a triangle filter), enlarges by bicubic interpolation.

    Args:
        picture: float ``(..., C, H, W)``.
        extent: (height, width) of the result.

    Returns:
        ``(..., C, height, width)``, no channel outside the range of the values that it came from.
    """
    height, width = picture.shape[-2:]
    if (height, width) == tuple(extent):
        return picture
    batch = picture.reshape(-1, *picture.shape[-3:])
    if extent[0] <= height and extent[1] <= width:
        result = F.interpolate(batch, size=extent, mode="bilinear", align_corners=False, antialias=True)
    else:
        result = F.interpolate(batch, size=extent, mode="bicubic", align_corners=False, antialias=True)
        result = result.clamp(batch.amin((2, 3), keepdim=True), batch.amax((2, 3), keepdim=True))
    return result.reshape(*picture.shape[:-2], *extent)
