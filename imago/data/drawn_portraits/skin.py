"""Skin lit as a relief: a height field of the face, its normals, and soft light on them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imago.data.drawn_portraits.attributes import PortraitAttributes
from imago.data.drawn_portraits.canvas import field_grid
from imago.data.drawn_portraits.geometry import Projection, depth

Grid = NDArray[Any]
Bump = tuple[float, float, float, float, float]
"""A Gaussian: centre x, centre y, width x, width y, height."""


def _both_sides(*bumps: Bump) -> list[Bump]:
    return [(side * x, y, sx, sy, gain) for x, y, sx, sy, gain in bumps for side in (-1, 1)]


def _sum_of_bumps(x: Grid, y: Grid, bumps: list[Bump]) -> Grid:
    """Sum of Gaussians at (x, y)."""
    total = np.zeros_like(x)
    for centre_x, centre_y, width_x, width_y, height in bumps:
        total += np.float32(height) * np.exp(-(((x - centre_x) / width_x) ** 2) - ((y - centre_y) / width_y) ** 2)
    return total


def light_direction(attributes: PortraitAttributes) -> NDArray[np.float64]:
    """Unit vector towards the light in the view frame: x right, y down, z to the viewer."""
    azimuth, elevation = attributes.light
    picture = (math.sin(azimuth) * math.cos(elevation), -math.sin(elevation))
    # The lamp stays where it is when the head tilts.
    cosine, sine = math.cos(attributes.pose.roll), math.sin(attributes.pose.roll)
    x = cosine * picture[0] + sine * picture[1]
    y = -sine * picture[0] + cosine * picture[1]
    return np.array([x, y, math.cos(azimuth) * math.cos(elevation)])


def normals_of(z: Grid) -> tuple[Grid, Grid, Grid]:
    """Unit normals (x, y, z) of a height field sampled on :func:`field_grid`."""
    x, y = field_grid()
    slope_y, slope_x = np.gradient(z, float(y[1, 0] - y[0, 0]), float(x[0, 1] - x[0, 0]))
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    return -slope_x / length, -slope_y / length, 1 / length


def ball_light(attributes: PortraitAttributes, radius: tuple[float, float], centre: tuple[float, float]) -> Grid:
    """Brightness, about 1 on average, of a lit ellipsoid: for hair, hats and other things around the head."""
    x, y = field_grid()
    nx, ny = (x - centre[0]) / radius[0], (y - centre[1]) / radius[1]
    reach = np.hypot(nx, ny)
    inwards = np.minimum(1, 0.93 / np.maximum(reach, 1e-3))  # beyond the rim the shade of the rim goes on
    nx, ny = nx * inwards, ny * inwards
    nz = np.sqrt(1 - nx**2 - ny**2)
    lx, ly, lz = light_direction(attributes)
    return 0.62 + 0.55 * np.maximum(nx * lx + ny * ly + nz * lz, 0)


def skin_field(attributes: PortraitAttributes, projection: Projection) -> NDArray[np.uint8]:
    """Colours of the lit skin on the view frame's field grid: ``(154, 122, 3)`` uint8."""
    shape = attributes.shape
    x, y = projection.from_view(*field_grid())
    x, y = x.astype(np.float32), y.astype(np.float32)
    mouth, tip, wide = shape.mouth, shape.nose_tip, shape.nose_width
    smile = max(shape.corners, 0.0)
    child, wrinkles = attributes.childlike, attributes.wrinkles

    bumps: list[Bump] = [
        (0, tip * 0.45, 0.10, tip * 0.42, 0.13),  # bridge of the nose
        (0, tip - 0.06, 0.13, 0.12, 0.07),
        (0, mouth + 0.02, 0.40, 0.26, 0.07),
        (0, mouth - 0.04 - shape.upper_lip / 2, 0.26, 0.06, 0.025),
        (0, mouth + shape.mouth_open + shape.lower_lip * 0.5, 0.24, 0.08, 0.04),
        (0, mouth + shape.mouth_open + shape.lower_lip + 0.1, 0.24, 0.06, -0.035),
        (0, shape.chin - 0.2, 0.24, 0.17, 0.08),
        (0, mouth - shape.upper_lip - 0.1, 0.035, 0.09, -0.012),  # philtrum
        (0, -0.72, 0.5, 0.28, 0.05),
        (0, -0.06, 0.2, 0.14, -0.03),
    ]
    bumps += _both_sides(
        (0.9 * wide, tip - 0.06, 0.075, 0.075, 0.08),
        (0.49, 0.0, 0.30, 0.17, -0.11),
        (0.5, 0.0, 0.19, 0.12, 0.06),
        (0.47, -0.26, 0.32, 0.08, 0.045 * (1 - 0.6 * child)),
        (0.60, 0.50, 0.26, 0.22, 0.06 + 0.45 * smile + 0.05 * child),
        (0.62, 0.95, 0.2, 0.26, -0.015 + 0.05 * child - 0.05 * wrinkles),
        (0.97, -0.25, 0.2, 0.3, -0.05),
        (0.5, 0.24, 0.2, 0.05, -0.012 - 0.02 * wrinkles),
    )
    z = depth(x, y, tip) + _sum_of_bumps(x, y, bumps)
    nx, ny, nz = normals_of(z)
    lx, ly, lz = light_direction(attributes)
    facing = nx * lx + ny * ly + nz * lz
    diffuse = np.clip((facing + 0.25) / 1.25, 0, 1)
    half = np.array([lx, ly, lz + 1]) / np.linalg.norm([lx, ly, lz + 1])
    gloss = np.clip(nx * half[0] + ny * half[1] + nz * half[2], 0, 1) ** 22

    # Hollows see less of the sky.
    hollows: list[Bump] = [
        (0, tip + 0.1, wide * 1.1, 0.055, 0.34),
        (0, mouth + shape.mouth_open + shape.lower_lip + 0.08, 0.26, 0.06, 0.2),
        (0, mouth - shape.upper_lip - 0.09, 0.05, 0.08, 0.08),
    ]
    hollows += _both_sides(
        (0.45, -0.12, 0.30, 0.11, 0.26),
        (0.17, -0.06, 0.11, 0.18, 0.2),
        (0.48, 0.17, 0.26, 0.06, 0.13 + 0.1 * wrinkles),
        (wide * 1.3, tip - 0.02, 0.06, 0.1, 0.16),
        (shape.mouth_width + 0.1, mouth - shape.corners, 0.08, 0.1, 0.12),
        (1.05 * shape.width, 0.45, 0.16, 0.8, 0.25),
    )
    shade = (0.47 + 0.55 * diffuse) * (1 - np.clip(_sum_of_bumps(x, y, hollows), 0, 0.7))
    shade *= 1 - 0.22 * np.clip((y - shape.chin + 0.25) / 0.35, 0, 1)  # the jaw turns under
    shade = np.clip(shade, 0.16, 1.05)[..., None]

    # Shadows on skin are warm: light that entered it leaves red (so blue fades first).
    skin = np.array(attributes.skin, dtype=np.float32)
    colours = skin * shade ** np.array([0.85, 1.02, 1.12], dtype=np.float32)

    flush = _sum_of_bumps(x, y, [*_both_sides((0.6, 0.5, 0.25, 0.2, 0.5)), (0, tip, 0.16, 0.14, 0.4)])
    pale = float(skin.mean()) / 255
    red = (0.6 + 0.8 * attributes.details("flush", 1)[0]) * 0.16 * pale
    colours *= 1 + red * flush[..., None] * np.array([0.35, -0.7, -0.55], dtype=np.float32)
    mottle = _mottle(attributes)
    colours *= (1 + 0.03 * mottle)[..., None]
    colours += (gloss * (20 + 22 * (1 - pale)))[..., None] * np.array([1, 0.95, 0.9], dtype=np.float32)
    return np.clip(colours, 0, 255).astype(np.uint8)


def _mottle(attributes: PortraitAttributes) -> Grid:
    """Smooth unevenness of the skin on the field grid, within about ±1."""
    height, width = field_grid()[0].shape
    coarse = attributes.details("mottle", 31 * 25).reshape(31, 25) * 2 - 1
    rows, columns = np.linspace(0, 29.999, height), np.linspace(0, 23.999, width)
    r, c = rows.astype(int), columns.astype(int)
    fr, fc = (rows - r)[:, None], (columns - c)[None]
    upper = coarse[r][:, c] * (1 - fc) + coarse[r][:, c + 1] * fc
    lower = coarse[r + 1][:, c] * (1 - fc) + coarse[r + 1][:, c + 1] * fc
    return upper * (1 - fr) + lower * fr
