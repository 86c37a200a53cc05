"""Glasses and hats."""

from __future__ import annotations

import colorsys
import math

import numpy as np

from imago.data.drawn_portraits.attributes import PortraitAttributes
from imago.data.drawn_portraits.canvas import Canvas, Stencil, tinted
from imago.data.drawn_portraits.face import SIDES
from imago.data.drawn_portraits.geometry import Points, ellipse, mirrored, points, shifted, smooth
from imago.data.drawn_portraits.skin import ball_light


def draw_glasses(canvas: Canvas, attributes: PortraitAttributes, head: Stencil) -> None:
    """Eyeglasses let the eyes through; sunglasses hide them behind dark, slightly mirroring lenses."""
    if attributes.glasses == "no":
        return
    numbers = attributes.details("glasses", 6)
    sun = attributes.glasses == "sunglasses"
    frames = ((24, 22, 24), (70, 42, 26), (120, 30, 34), (40, 50, 80), (150, 140, 128))
    frame = frames[int(numbers[0] * len(frames))]
    thickness = (0.03 + 0.035 * numbers[1]) * (1.2 if sun else 1.0)
    half_x, half_y = 0.36 + 0.03 * numbers[2], (0.27 if sun else 0.24) + 0.05 * numbers[3]
    power = 2.0 if numbers[4] < 0.4 else 3.2  # round or squarish
    angle = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    rim = np.stack(
        [
            half_x * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / power),
            half_y * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / power),
        ],
        1,
    ) * (1 - 0.08 * np.sin(angle)[:, None] * [1, 0])
    width = attributes.shape.width
    lenses = [shifted(rim, side * 0.5, 0.04) for side in SIDES]
    canvas.fill([shifted(lens, 0, 0.06) for lens in lenses], tinted(attributes.skin, 0.5), 0.22, 0.06, head)
    for side, lens in zip(SIDES, lenses, strict=True):
        arm = points((side * (0.5 + half_x), -0.03), (side * width * 1.04, -0.06))
        canvas.stroke(arm, thickness * 1.1, frame, taper=False)
        stencil = canvas.stencil(lens)
        if sun:
            tint = tinted((26, 26, 30), 1.0, frame, 0.2)
            canvas.fill(lens, tint, 0.95)
            canvas.fill(shifted(lens * [1, 0.5], 0, 0.2), tinted(tint, 1.0, (150, 130, 120), 0.35), 0.4, 0.09, stencil)
            glare = shifted(points((-0.2, -0.26), (-0.02, -0.26), (-0.18, 0.26), (-0.3, 0.26)), side * 0.5, 0.04)
            canvas.fill(glare, (235, 240, 250), 0.16, 0.02, stencil)
        else:
            glare = shifted(points((0.02, -0.3), (0.12, -0.3), (-0.08, 0.3), (-0.18, 0.3)), side * 0.5, 0.04)
            canvas.fill(glare, (245, 250, 255), 0.14, 0.02, stencil)
        closed = np.concatenate([lens, lens[:1]])
        canvas.stroke(closed, thickness, frame, 1.0, 0.003, taper=False)
        canvas.stroke(
            closed[24:46], thickness * 0.35, tinted(frame, 1.3, (255, 255, 255), 0.3), 0.6, 0.004, taper=False
        )
    inner = 0.5 - half_x
    bridge = smooth(points((-inner, 0.0), (0, -0.05), (inner, 0.0)), closed=False)
    canvas.stroke(bridge, thickness * 1.2, frame, taper=False)


def draw_hat(canvas: Canvas, attributes: PortraitAttributes, head: Stencil) -> None:
    """Draws the cap, turban or helmet of the attributes, if any, with its shadow on the forehead."""
    kind = attributes.hair_covered
    if kind == "no":
        return
    numbers = attributes.details("hat", 6)
    # Low on the forehead, or high enough to show it.
    line = -0.56 if attributes.visible_forehead == "no" else -0.76
    saturation = 0.1 + 0.55 * numbers[1]
    cloth = tuple(255 * part for part in colorsys.hsv_to_rgb(numbers[0], saturation, 0.25 + 0.5 * numbers[2]))
    rim = _rim(attributes, line, 0.0, 0.36)
    shade = np.concatenate([shifted(rim, 0, -0.15), shifted(rim[::-1], 0, 0.12)])
    canvas.fill(shade, tinted(attributes.skin, 0.4), 0.55, 0.06, head)
    if kind == "cap":
        _draw_cap(canvas, attributes, line, cloth, numbers[3])
    elif kind == "turban":
        _draw_turban(canvas, attributes, line, cloth)
    else:
        _draw_helmet(canvas, attributes, line, cloth, numbers[3])


def _rim(attributes: PortraitAttributes, line: float, swell: float, sag: float) -> Points:
    """The lower edge of a hat, from left to right: high in front, as a ring above the eyes is seen, low at the ears."""
    reach = attributes.shape.width + 0.25 * swell
    right = points((0, line), (0.5, line + 0.12 * sag), (reach - 0.1, line + 0.6 * sag), (reach, line + sag))
    return smooth(np.concatenate([mirrored(right[1:]), right]), closed=False)


def _dome(attributes: PortraitAttributes, line: float, swell: float, lift: float, sag: float) -> Points:
    """Outline of a hat that sits on the skull: *swell* wider, *lift* higher."""
    width, crown = attributes.shape.width, attributes.shape.crown
    right = points(
        (width + 0.25 * swell, line + sag),
        (width + swell, line - 0.05),
        (width * 0.84 + swell, crown + 0.1),
        (0.5, crown - lift + 0.1),
    )
    arc = smooth(np.concatenate([right, points((0, crown - lift)), mirrored(right)]), closed=False)
    return np.concatenate([arc, _rim(attributes, line, swell, sag)[1:-1]])


def _draw_cap(
    canvas: Canvas, attributes: PortraitAttributes, line: float, cloth: tuple[float, ...], logo: float
) -> None:
    dome = _dome(attributes, line, 0.1, 0.2, 0.26)
    stencil = canvas.stencil(dome, 0.005)
    if stencil is None:
        return
    crown = attributes.shape.crown
    canvas.fill(dome, tinted(cloth, 0.95), 1, 0.005)
    seams = [
        smooth(points((x * 1.0, line - 0.02), (x * 0.85, (line + crown) / 2 - 0.12), (0, crown - 0.21)), False)
        for x in (-0.62, 0.0, 0.62)
    ]
    canvas.stroke(seams, 0.022, tinted(cloth, 0.6), 0.7, 0.008, stencil, taper=False)
    if logo < 0.5:
        badge = ellipse(0, (line + crown) / 2 - 0.04, 0.2, 0.16) if logo < 0.25 else points(
            (-0.18, line - 0.3), (0, line - 0.52), (0.18, line - 0.3), (0, line - 0.22)
        )  # fmt: skip
        canvas.fill(badge, tinted((240, 236, 226), 0.95), 0.9, 0.008, stencil)
    canvas.shade(ball_light(attributes, (1.35, 1.5), (0, -0.5)), stencil)
    canvas.fill(ellipse(0, crown - 0.22, 0.07, 0.035, 16), tinted(cloth, 0.75))
    brim = smooth(points((-0.95, line + 0.02), (-0.6, line - 0.14), (0, line - 0.2), (0.6, line - 0.14),
                         (0.95, line + 0.02), (0.72, line + 0.1), (0, line + 0.07), (-0.72, line + 0.1)))  # fmt: skip
    on_brim = canvas.stencil(brim)
    canvas.fill(shifted(brim, 0, -0.03), tinted(cloth, 0.4), 0.6, 0.03, stencil)
    canvas.fill(brim, tinted(cloth, 0.8))
    top = smooth(points((-0.8, line - 0.02), (0, line - 0.12), (0.8, line - 0.02)), closed=False)
    canvas.stroke(top, 0.1, tinted(cloth, 1.2, (255, 255, 255), 0.1), 0.5, 0.03, on_brim)
    edge = smooth(points((-0.88, line + 0.07), (0, line + 0.055), (0.88, line + 0.07)), closed=False)
    canvas.stroke(edge, 0.05, tinted(cloth, 0.5), 0.6, 0.015, on_brim)


def _draw_turban(canvas: Canvas, attributes: PortraitAttributes, line: float, cloth: tuple[float, ...]) -> None:
    dome = _dome(attributes, line, 0.22, 0.36, 0.5)
    stencil = canvas.stencil(dome, 0.006)
    if stencil is None:
        return
    width = attributes.shape.width + 0.25
    canvas.fill(dome, tinted(cloth, 0.95), 1, 0.006)
    # Bands wound alternately from either ear, one above the other, crossing over the forehead.
    for rank in range(14):
        side, step = (1 if rank % 2 else -1), rank // 2
        rise = 0.17 * step
        band = points((-width, line + 0.5 - 0.8 * rise), (-0.55, line + 0.1 - rise), (0.0, line - 0.14 - rise),
                      (0.4, line - 0.3 - rise))  # fmt: skip
        curve = smooth(band * [side, 1], closed=False)
        canvas.stroke(
            shifted(curve, 0, -0.07), 0.16, tinted(cloth, 1.04 - 0.03 * (rank % 2)), 0.9, 0.01, stencil, False
        )
        canvas.stroke(shifted(curve, 0, -0.1), 0.06, tinted(cloth, 1.15, (255, 255, 255), 0.08), 0.6, 0.025, stencil)
        canvas.stroke(shifted(curve, 0, 0.012), 0.035, tinted(cloth, 0.45), 0.7, 0.012, stencil)
    canvas.shade(ball_light(attributes, (1.5, 1.7), (0, -0.5)), stencil)


def _draw_helmet(
    canvas: Canvas, attributes: PortraitAttributes, line: float, shell: tuple[float, ...], stripe: float
) -> None:
    dome = _dome(attributes, line, 0.17, 0.3, 0.42)
    stencil = canvas.stencil(dome, 0.004)
    if stencil is None:
        return
    width, crown, chin = attributes.shape.width, attributes.shape.crown, attributes.shape.chin
    straps = [
        smooth(points((width + 0.06, line + 0.3), (width + 0.02, 0.5), (width * 0.84, 1.1)) * [side, 1], False)
        for side in SIDES
    ]
    canvas.stroke(straps, 0.06, (36, 34, 36), 0.95, 0.006, taper=False)
    under = smooth(
        points((-width * 0.84, 1.1), (-0.45, chin + 0.02), (0, chin + 0.1), (0.45, chin + 0.02), (width * 0.84, 1.1)),
        False,
    )
    canvas.stroke(under, 0.06, (36, 34, 36), 0.95, 0.006, taper=False)
    canvas.fill(dome, tinted(shell, 1.0), 1, 0.004)
    if stripe < 0.6:
        bands = [points((x - 0.09, line), (x - 0.07, crown - 0.4), (x + 0.07, crown - 0.4), (x + 0.09, line))
                 for x in ((0.0,) if stripe < 0.3 else (-0.34, 0.34))]  # fmt: skip
        canvas.fill(bands, tinted((238, 236, 230), 0.95), 0.95, 0.006, stencil)
    canvas.shade(ball_light(attributes, (1.4, 1.6), (0, -0.5)), stencil)
    lit = 0.5 * math.sin(attributes.light[0])
    canvas.fill(ellipse(lit, crown + 0.06, 0.34, 0.12, tilt=0.4 * lit), (255, 255, 255), 0.5, 0.07, stencil)
    canvas.fill(ellipse(lit * 1.1, crown + 0.0, 0.12, 0.035, tilt=0.4 * lit), (255, 255, 255), 0.7, 0.02, stencil)
    rim = _rim(attributes, line, 0.17, 0.42)
    canvas.stroke(rim, 0.1, tinted(shell, 0.5), 1.0, 0.008, taper=False)
