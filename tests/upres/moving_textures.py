"""Films whose motion is known: textures that move by whole high-resolution pixels, and others."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

FACTOR = 4


def texture(size: int, seed: int, slope: float = 1.3) -> NDArray[np.float64]:
    """Noise with a spectrum that falls as in photos, periodic: (3, size, size) in [-1, 1]."""
    rng = np.random.default_rng(seed)
    frequency = np.fft.fftfreq(size)
    radius = np.hypot(frequency[:, None], frequency)
    radius[0, 0] = 1
    planes = np.fft.ifft2(np.fft.fft2(rng.normal(size=(4, size, size))) / radius**slope).real
    planes = (planes - planes.mean((1, 2), keepdims=True)) / planes.std((1, 2), keepdims=True)
    return np.clip(0.3 * planes[:1] + 0.1 * planes[1:], -1, 1)  # mostly grey: flow sees brightness only


def pool(high: Tensor, factor: int = FACTOR) -> Tensor:
    """Means over squares: (3, H, W) → (3, h, w)."""
    return torch.nn.functional.avg_pool2d(high[None], factor)[0]


@dataclass
class Film:
    """The truth about a film."""

    highs: list[Tensor]
    lows: list[Tensor]
    flows: list[NDArray[np.int64]]  # (2, H, W) high pixels, from frame t to t - 1; of frame 0: from 0 to the last
    visible: list[NDArray[np.bool_]]  # (H, W): what is shown at t can be seen at t - 1 also
    objects: list[NDArray[np.bool_]]  # (H, W): where the object is


def moving_disc(
    frames: int, size: int = 192, background: tuple[int, int] = (2, -1), disc: tuple[int, int] = (-3, 2), seed: int = 0
) -> Film:
    """A textured disc crosses a textured background; both move by whole high pixels per frame."""
    behind, before = texture(size, seed), texture(size, seed + 1000)
    y, x = np.mgrid[:size, :size]
    film = Film([], [], [], [], [])
    for t in range(frames):
        # Frame t shows at p what frame t - 1 showed at p + flow.
        centre = np.array([size / 2, size / 2]) - np.array(disc) * (t - (frames - 1) / 2)
        inside = np.hypot(x - centre[0], y - centre[1]) < size / 4
        earlier = centre + np.array(disc)
        flow = np.where(inside, np.array(disc)[:, None, None], np.array(background)[:, None, None])
        source_x, source_y = x + flow[0], y + flow[1]
        hidden = ~inside & (np.hypot(source_x - earlier[0], source_y - earlier[1]) < size / 4)
        within = (source_x >= 0) & (source_x < size) & (source_y >= 0) & (source_y < size)
        moved = np.roll(behind, (-t * background[1], -t * background[0]), axis=(1, 2))
        picture = np.where(inside, np.roll(before, (-t * disc[1], -t * disc[0]), axis=(1, 2)), moved)
        film.highs.append(torch.from_numpy(picture).float())
        film.lows.append(pool(film.highs[-1]))
        film.flows.append(flow)
        film.visible.append(within & ~hidden)
        film.objects.append(inside)
    return film


def true_warping_error(film: Film, frames: list[Tensor]) -> float:
    """Mean squared error along the true motion, over what is visible in both frames; colours from 0 to 1."""
    total = count = 0.0
    for t in range(1, len(frames)):
        y, x = np.nonzero(film.visible[t])
        flow = film.flows[t][:, y, x]
        now, before = frames[t].numpy(), frames[t - 1].numpy()
        total += float(((now[:, y, x] - before[:, y + flow[1], x + flow[0]]) ** 2).sum()) / 4
        count += 3 * len(y)
    return total / count


def rotated(size: int, degrees: float, shift: tuple[float, float], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A texture, turned and shifted: the frame now and before, low (3, h, w), and the flow (2, h, w) in low pixels."""
    extent = FACTOR * size
    picture = texture(2 * extent, seed)
    y, x = np.mgrid[:extent, :extent].astype(float)
    centre, angle = (extent - 1) / 2, np.radians(degrees)
    flow_x = np.cos(angle) * (x - centre) - np.sin(angle) * (y - centre) - (x - centre) + FACTOR * shift[0]
    flow_y = np.sin(angle) * (x - centre) + np.cos(angle) * (y - centre) - (y - centre) + FACTOR * shift[1]
    places = np.stack([y + flow_y, x + flow_x]) + extent / 2
    now = np.stack([ndimage.map_coordinates(plane, places, order=3) for plane in picture])
    before = picture[:, extent // 2 : extent // 2 + extent, extent // 2 : extent // 2 + extent]
    flow = torch.from_numpy(np.stack([flow_x, flow_y])) / FACTOR
    return pool(torch.from_numpy(now)).float(), pool(torch.from_numpy(before)).float(), pool(flow).float()
