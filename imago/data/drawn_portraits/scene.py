"""What is behind and below the head: background, neck and clothes."""

from __future__ import annotations

import colorsys
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from imago.data.drawn_portraits.attributes import PortraitAttributes
from imago.data.drawn_portraits.canvas import Canvas, tinted
from imago.data.drawn_portraits.geometry import ellipse, points, shifted, smooth
from imago.data.drawn_portraits.skin import ball_light

_BACKGROUND = 64  # pixels: smooth at any picture size


def draw_background(canvas: Canvas, attributes: PortraitAttributes) -> None:
    """Covers the canvas: a studio gradient, soft blots of colour (out of focus), or a wall with a window's light."""
    numbers = attributes.details("background", 120)
    kind, hue, saturation, value = numbers[:4].tolist()
    first = _colour(hue, 0.06 + 0.4 * saturation**1.5, 0.3 + 0.6 * value)
    second = _colour(hue + 0.16 * (numbers[4] - 0.5), 0.06 + 0.4 * numbers[5] ** 1.5, 0.2 + 0.7 * numbers[6])
    grid = (np.arange(_BACKGROUND) + 0.5) / _BACKGROUND
    x, y = grid[None, :], grid[:, None]
    angle = 2 * math.pi * numbers[7]
    if kind < 0.4:  # a lamp on a backdrop
        distance = np.hypot(x - 0.5 - 0.25 * math.cos(angle), y - 0.45 - 0.2 * math.sin(angle))
        mix = np.clip(distance / 0.85, 0, 1)
    else:
        along = (x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle)
        mix = np.clip(0.5 + along, 0, 1)
    pixels = first * (1 - mix[..., None]) + second * mix[..., None]
    if kind > 0.65:
        pixels = _blots(pixels, numbers[8:].reshape(-1, 7)[:16], hue)
    elif kind > 0.5:  # a soft edge between wall and something lighter
        edge = 1 / (1 + np.exp(-(x - 0.2 - 0.6 * numbers[8]) * 60)) * np.ones_like(y)
        pixels *= (0.78 + 0.4 * edge)[..., None]
    small = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    canvas.image.paste(small.resize((canvas.side, canvas.side), Image.Resampling.BICUBIC))


def _colour(hue: float, saturation: float, value: float) -> NDArray[np.float64]:
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))


def _blots(pixels: NDArray[np.float64], numbers: NDArray[np.float64], hue: float) -> NDArray[np.float64]:
    y, x = np.mgrid[0:_BACKGROUND, 0:_BACKGROUND] / _BACKGROUND
    for u, v, size, tone, saturation, value, opacity in numbers.tolist():
        disc = 1 / (1 + np.exp((np.hypot(x - u, y - v) / (0.06 + 0.16 * size) - 1) * 9))
        colour = _colour(hue + 0.25 * (tone - 0.5), 0.1 + 0.35 * saturation, 0.25 + 0.7 * value)
        pixels = pixels + (0.25 + 0.4 * opacity) * disc[..., None] * (colour - pixels)
    soft = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
    return np.asarray(soft, dtype=np.float64)


def draw_body(canvas: Canvas, attributes: PortraitAttributes) -> None:
    """Neck, shoulders and a garment, below the head."""
    numbers = attributes.details("clothes", 8)
    skin, chin = attributes.skin, attributes.shape.chin
    child = attributes.childlike
    thick = (0.62 if attributes.gender == "male" else 0.5) - 0.06 * child
    reach = (2.3 if attributes.gender == "male" else 1.95) - 0.35 * child
    base = chin + 0.3
    lit = math.sin(attributes.light[0])
    neck = smooth(
        points((-0.8 * thick, chin - 0.6), (0.8 * thick, chin - 0.6), (thick, chin), (thick + 0.2, base + 0.1),
               (1.5, base + 0.6), (0, base + 1.2), (-1.5, base + 0.6), (-thick - 0.2, base + 0.1), (-thick, chin))
    )  # fmt: skip
    canvas.fill(neck, tinted(skin, 0.84, (160, 80, 60), 0.06), flat=True)
    throat = canvas.stencil(neck, flat=True)
    canvas.fill(
        ellipse(-0.1 * lit, chin - 0.02, 0.95, 0.36), tinted(skin, 0.4, (70, 25, 20), 0.12), 0.62, 0.1, throat, True
    )
    dark_side = ellipse(-0.75 * lit if abs(lit) > 0.15 else 0.9, chin + 0.3, 0.34, 0.9)
    canvas.fill(dark_side, tinted(skin, 0.45), 0.35, 0.14, throat, True)

    hue, saturation, value, collar = numbers[:4].tolist()
    cloth = tuple(_colour(hue, 0.05 + 0.55 * saturation, 0.15 + 0.7 * value).tolist())
    drop = 0.15 + (0.45 if collar < 0.35 else 0.12)  # V-neck or round
    neckline = [(-thick - 0.18, base + 0.02), (0.0, base + drop + 0.12), (thick + 0.18, base + 0.02)]
    if collar >= 0.35:
        neckline = [neckline[0], (-0.5, base + 0.22), neckline[1], (0.5, base + 0.22), neckline[2]]
    shoulders = smooth(points((thick + 0.18, base + 0.02), (reach * 0.72, base + 0.22), (reach, base + 0.55),
                              (reach + 0.25, base + 1.6)), closed=False)  # fmt: skip
    garment = np.concatenate([points(*neckline[:-1]), shoulders, points((3, 6), (-3, 6)), shoulders[::-1] * [-1, 1]])
    stencil = canvas.stencil(garment, flat=True)
    if stencil is None:
        return
    canvas.fill(garment, tinted(cloth, 1.0), flat=True)
    canvas.shade(ball_light(attributes, (reach + 0.5, 1.9), (0, base + 1.6)) * 1.02, stencil)
    edge = points(*neckline)
    edge = edge if collar < 0.35 else smooth(edge, closed=False)
    canvas.stroke(shifted(edge, 0, 0.04), 0.09, tinted(cloth, 0.7), 0.9, 0.012, stencil, taper=False, flat=True)
    if collar > 0.7:  # lapels of a shirt
        for side in (-1, 1):
            lapel = points(
                (thick + 0.16, base - 0.06), (0.06, base + drop + 0.12), (0.42, base + 0.52), (thick + 0.42, base + 0.1)
            )
            canvas.fill(lapel * [side, 1], tinted(cloth, 1.18), 1, 0.006, flat=True)
            canvas.stroke(lapel[1:] * [side, 1], 0.025, tinted(cloth, 0.55), 0.8, 0.006, taper=False, flat=True)
