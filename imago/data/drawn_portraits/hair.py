"""Hair on the head and on the face, as masses of soft strands."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from imago.data.drawn_portraits.attributes import PortraitAttributes
from imago.data.drawn_portraits.canvas import Canvas, Stencil, field_grid, tinted
from imago.data.drawn_portraits.geometry import Points, ellipse, mirrored, points, smooth
from imago.data.drawn_portraits.skin import ball_light

Curves = NDArray[np.float64]


def draw_hair_behind(canvas: Canvas, attributes: PortraitAttributes) -> None:
    """The mass that lies behind neck and face: long hair, the cloud of curls, a bun."""
    style = attributes.hair_style
    numbers = attributes.details("hair behind", 6)
    width = attributes.shape.width
    crown = attributes.shape.crown
    if style == "other" and attributes.hair_covered == "no":
        x, lift, size = 0.5 * (numbers[0] - 0.5), crown - 0.26, 0.36 + 0.12 * numbers[1]
        knot = ellipse(x, lift, size * 1.1, size)
        _paint_mass(canvas, attributes, knot, _swirls(attributes, x, lift, size), 0.95, False)
    if style.startswith("long"):
        curly = style == "long_curly"
        wide = width + (0.46 if curly else 0.2) + 0.18 * numbers[2]
        down = 1.7 + 1.1 * numbers[3]
        right = points((0, crown - 0.1), (0.7, crown + 0.06), (wide - 0.08, -0.5), (wide, 0.3), (wide + 0.06, 1.1),
                       (wide + 0.02, down - 0.2), (wide - 0.35, down + 0.1))  # fmt: skip
        mass = smooth(np.concatenate([right, mirrored(right[1:])]))
        if curly:
            mass = _bumpy(mass, attributes, 0.09)
        count = 120
        start = attributes.details("strands behind", 3 * count).reshape(count, 3)
        x = (start[:, 0] * 2 - 1) * (wide + 0.1)
        y = crown + 0.3 + 0.5 * start[:, 2]
        strands = _falling(x * 0.8, y, x, np.full(count, down + 0.1), 0.07 if curly else 0.015, start[:, 1])
        _paint_mass(canvas, attributes, mass, strands, 0.8, curly, shades=start[:, 2])


def draw_hair_in_front(canvas: Canvas, attributes: PortraitAttributes, head: Stencil) -> None:
    """The hair on the skull, with or without bangs, and the locks of long hair beside the face."""
    style = attributes.hair_style
    if style == "bald" or attributes.hair_covered in ("turban", "helmet"):
        return
    numbers = attributes.details("hairdo", 8)
    curly = style.endswith("curly")
    outer, inner = _scalp(attributes, numbers)
    mass = np.concatenate([outer, inner[::-1]])
    canvas.fill(_hairline_shadow(inner), tinted(attributes.skin, 0.45), 0.5, 0.05, head)
    if curly:
        outer = _bumpy_arc(outer, attributes, 0.06 if style == "short_curly" else 0.05)
        mass = np.concatenate([outer, inner[::-1]])
        _paint_curls(canvas, attributes, mass)
    else:
        _paint_mass(canvas, attributes, mass, _combed(attributes, outer, inner, numbers[0]), 1.0, curly=False)
    if style.startswith("long"):
        _draw_locks(canvas, attributes, head, curly)


def _hairline_shadow(inner: Points) -> Points:
    """The strip of forehead that the hairline shades."""
    return np.concatenate([inner * [0.97, 1] + [0, -0.08], (inner * [0.96, 1] + [0, 0.06])[::-1]])


def _scalp(attributes: PortraitAttributes, numbers: NDArray[np.float64]) -> tuple[Points, Points]:
    """Outer contour and hairline, both from the left to the right end."""
    shape, style = attributes.shape, attributes.hair_style
    width, crown = shape.width, shape.crown
    covered = attributes.hair_covered != "no"
    volume = 0.05 if covered else 0.09 + 0.12 * numbers[1]
    if style == "short_curly" and not covered:
        volume = 0.12 + 0.34 * numbers[1] ** 1.5
    elif style == "long_curly" and not covered:
        volume = 0.2 + 0.1 * numbers[1]
    low = 0.08 if attributes.gender == "male" else -0.02
    right = points((width + 0.01, low), (width + 0.03 + 0.35 * volume, -0.3), (width * 0.92 + 0.8 * volume, -0.78),
                   (width * 0.58 + 0.6 * volume, crown + 0.14 - 0.8 * volume))  # fmt: skip
    top = points((0.12 * (numbers[2] - 0.5), crown - volume))
    outer = smooth(np.concatenate([right * [-1, 1], top, right[::-1]]), False)

    bangs = attributes.visible_forehead == "no" and attributes.hair_covered == "no"
    part = (numbers[0] - 0.5) * 0.9
    if bangs:
        line = -0.46 - 0.06 * numbers[3]
        slant = 0.1 * (numbers[4] - 0.5)
        middle = points(
            (-0.62, line + 0.02 - slant), (-0.3, line), (0.0, line - 0.01), (0.3, line), (0.62, line + 0.02 + slant)
        )
    else:
        high = -0.92 - 0.1 * numbers[3] - (0.06 if attributes.wrinkles > 0.5 else 0.0)
        recede = 0.1 * attributes.wrinkles if attributes.gender == "male" else 0.0
        middle = points((-0.66, high + 0.1 - recede), (-0.34, high - 0.02 - recede), (part * 0.4, high - 0.04),
                        (0.34, high - 0.02 - recede), (0.66, high + 0.1 - recede))  # fmt: skip
    temple = points((width - 0.03, low), (width - 0.1, -0.2), (width - 0.13, -0.5))
    inner = smooth(np.concatenate([temple * [-1, 1], middle, temple[::-1]]), False)
    return outer, inner


def _combed(attributes: PortraitAttributes, outer: Points, inner: Points, part: float) -> Curves:
    """Strands from the parting over the skull to the hairline and the outer contour."""
    count = 210
    numbers = attributes.details("strands", 3 * count).reshape(count, 3)
    crown = attributes.shape.crown
    root_x = (part - 0.5) * 0.7
    where = numbers[:, 0]
    along = (where * (len(inner) - 1)).astype(int)
    ends = inner[along] + (numbers[:, 1:2] - 0.3) * [0, 0.14]
    to_outer = numbers[:, 2] < 0.35
    ends[to_outer] = outer[(where[to_outer] * (len(outer) - 1)).astype(int)]
    roots = np.stack([root_x + (ends[:, 0] - root_x) * 0.12, np.full(count, crown - 0.02) + 0.12 * numbers[:, 1]], 1)
    middle = np.stack(
        [roots[:, 0] + 0.72 * (ends[:, 0] - roots[:, 0]), roots[:, 1] + 0.3 * (ends[:, 1] - roots[:, 1])], 1
    )
    return _quadratic(roots, middle, ends)


def _quadratic(start: Points, middle: Points, end: Points, steps: int = 9) -> Curves:
    t = np.linspace(0, 1, steps)[None, :, None]
    return (1 - t) ** 2 * start[:, None] + 2 * t * (1 - t) * middle[:, None] + t**2 * end[:, None]


def _falling(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    end_x: NDArray[np.float64],
    end_y: NDArray[np.float64],
    wave: float,
    phase: NDArray[np.float64],
) -> Curves:
    """Strands that hang from (x, y) to (end_x, end_y), waving sideways by *wave*."""
    t = np.linspace(0, 1, 22)[None]
    swing = wave * np.sin(19 * t + 6.3 * phase[:, None]) * np.sqrt(t)
    curve_x = x[:, None] + (end_x - x)[:, None] * np.sqrt(t) + swing
    curve_y = y[:, None] + (end_y - y)[:, None] * t
    return np.stack([curve_x, curve_y], -1)


def _swirls(attributes: PortraitAttributes, x: float, y: float, size: float) -> Curves:
    numbers = attributes.details("bun", 40).reshape(20, 2)
    t = np.linspace(0, 1, 10)[None]
    radius = size * (0.25 + 0.8 * numbers[:, :1])
    angle = 2 * math.pi * numbers[:, 1:] + 2.2 * t
    return np.stack([x + radius * np.cos(angle), y + radius * 0.9 * np.sin(angle)], -1)


def _bumpy(outline: Points, attributes: PortraitAttributes, size: float) -> Points:
    centre = outline.mean(0)
    return outline + (outline - centre) / np.linalg.norm(outline - centre, axis=1, keepdims=True) * _bumps(
        attributes, len(outline), size
    )


def _bumpy_arc(outline: Points, attributes: PortraitAttributes, size: float) -> Points:
    fine = smooth(outline[::2], False, 4)
    direction = np.gradient(fine, axis=0)
    outward = np.stack([direction[:, 1], -direction[:, 0]], 1)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-9
    fade = np.minimum(1, np.minimum(np.arange(len(fine)), np.arange(len(fine))[::-1]) / 8)[:, None]
    return fine + outward * _bumps(attributes, len(fine), size) * fade


def _bumps(attributes: PortraitAttributes, count: int, size: float) -> NDArray[np.float64]:
    numbers = attributes.details("curls' outline", 4)
    t = np.arange(count) / count
    wave = np.zeros(count)
    for rank, number in enumerate(numbers.tolist()):
        wave += np.sin(2 * math.pi * ((9 + 5 * rank) * t + number)) / (1 + 0.4 * rank)
    return (size * 0.4 * wave)[:, None]


def _paint_mass(
    canvas: Canvas,
    attributes: PortraitAttributes,
    outline: Points,
    strands: Curves,
    gain: float,
    curly: bool,
    shades: NDArray[np.float64] | None = None,
) -> None:
    stencil = canvas.stencil(outline, 0.02 if curly else 0.012)
    if stencil is None:
        return
    hair = np.array(attributes.hair) * gain
    if shades is None:
        shades = attributes.details("shades of hair", len(strands))
    tones = _tones(hair, shades)
    canvas.paint_strands(stencil, tinted(hair, 0.92), strands, (0.022 if curly else 0.014) + 0.034 * shades, tones)
    canvas.shade(_sheen(attributes, curly), stencil)


def _tones(hair: NDArray[np.float64], shades: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours of strands: dark hair varies by a few levels, light hair by proportion."""
    return hair * (0.78 + 0.42 * shades[:, None]) + 20 * (shades[:, None] - 0.4)


@lru_cache(maxsize=2)  # the parts of one head of hair share it
def _sheen(attributes: PortraitAttributes, curly: bool) -> NDArray[np.floating]:
    """Light on the hair: the ball of the head, and on smooth hair a glossy band where strands face the light."""
    x, y = field_grid()
    light = ball_light(attributes, (1.6, 2.3), (0.0, 0.4)) * (0.95 if curly else 0.92)
    if curly:
        return light
    lean = math.sin(attributes.light[0])
    band = np.exp(-(((y + 1.08 - 0.28 * x**2 + 0.12 * lean * x) / 0.13) ** 2)) * (0.6 + 0.4 * np.tanh(2 * lean * x))
    return light + 0.16 * band * np.clip(1.4 - np.abs(x), 0, 1)


def _paint_curls(canvas: Canvas, attributes: PortraitAttributes, outline: Points) -> None:
    """Short arcs, dark ones under light ones, all over the mass."""
    count = 420
    numbers = attributes.details("curls", 5 * count).reshape(count, 5)
    low, high = outline.min(0), outline.max(0)
    centre = low + numbers[:, :2] * (high - low)
    radius = 0.035 + 0.055 * numbers[:, 2:3]
    angle = 2 * math.pi * numbers[:, 3:4] + np.linspace(0, 3.4, 8)[None]
    curls = np.stack([centre[:, :1] + radius * np.cos(angle), centre[:, 1:] + radius * np.sin(angle)], -1)
    shades = 0.65 * numbers[:, 4] + 0.35 * np.arange(count) / count
    stencil = canvas.stencil(outline, 0.02)
    if stencil is None:
        return
    hair = np.array(attributes.hair)
    canvas.paint_strands(stencil, tinted(hair, 0.82), curls, 0.035 + 0.025 * shades, _tones(hair, shades))
    canvas.shade(_sheen(attributes, curly=True), stencil)


def _draw_locks(canvas: Canvas, attributes: PortraitAttributes, head: Stencil, curly: bool) -> None:
    """Two curtains from the temples down past the jaw; they cover the ears and the rim of the cheeks."""
    width = attributes.shape.width
    numbers = attributes.details("locks", 6)
    down = 1.75 + 0.9 * numbers[0]
    count = 60
    for side, purpose in ((-1, "left lock"), (1, "right lock")):
        bulge = 0.16 + 0.1 * numbers[1] + (0.2 if curly else 0)
        edge = width - 0.04 + 0.04 * numbers[2]
        lock = points((width - 0.12, -0.62), (width + 0.04, -0.72), (width + bulge, -0.2), (width + bulge + 0.04, 0.7),
                      (width + bulge, down), (width - 0.12, down + 0.14), (edge - 0.06, 1.3), (edge, 0.6),
                      (edge, 0.0))  # fmt: skip
        outline = smooth(lock * [side, 1])
        if curly:
            outline = _bumpy(outline, attributes, 0.05)
        strand = attributes.details(purpose, 3 * count).reshape(count, 3)
        x = side * (width - 0.05 + (bulge + 0.1) * strand[:, 0])
        curves = _falling(
            x - side * 0.3 * (bulge + 0.1) * strand[:, 0], -0.8 + 0.45 * strand[:, 0] * strand[:, 2], x,
            np.full(count, down + 0.1), 0.065 if curly else 0.012, strand[:, 1],
        )  # fmt: skip
        shadow = smooth(lock * [side, 1] - [side * 0.05, -0.02])
        canvas.fill(shadow, tinted(attributes.skin, 0.4), 0.45, 0.05, head)
        _paint_mass(canvas, attributes, outline, curves, 0.95, curly, shades=strand[:, 2])


def draw_facial_hair(canvas: Canvas, attributes: PortraitAttributes, landmarks: Points, head: Stencil) -> None:
    """Mustache, goatee or beard: light is short and lets the skin through, thick hides it."""
    if attributes.facial_hair == "no":
        return
    density, kind = attributes.facial_hair.split("_")
    thick = density == "thick"
    shape = attributes.shape
    mouth, corner = shape.mouth, shape.mouth_width
    top = mouth - shape.upper_lip
    bottom = mouth + shape.mouth_open + shape.lower_lip
    areas: list[Points] = []
    if kind in ("mustache", "beard"):
        drop = 0.1 if thick or kind == "beard" else 0.02
        side = points((0, shape.nose_tip + 0.13), (0.2, shape.nose_tip + 0.13), (corner * 0.9, top - 0.04),
                      (corner + 0.08, mouth - shape.corners + drop), (corner * 0.75, top + 0.06), (0.25, top - 0.005),
                      (0, top + 0.015))  # fmt: skip
        areas.append(smooth(np.concatenate([side, mirrored(side[1:-1])])))
    if kind == "goatee":
        reach = 0.34 if thick else 0.26
        long = shape.chin + (0.16 if thick else 0.0)
        side = points(
            (0, bottom + 0.05), (0.1, bottom + 0.07), (reach, bottom + 0.16), (reach, shape.chin - 0.12), (0.16, long)
        )
        areas.append(smooth(np.concatenate([side, points((0, long + 0.03)), mirrored(side[1:])])))
    if kind == "beard":
        jaw = landmarks[1:16].copy()
        centre = np.array([0, 0.9])
        grow = 1.05 if thick else 1.0
        outer = centre + (jaw - centre) * grow
        right = points((0.93 * shape.width, 0.3), (0.78 * shape.width, 0.66), (corner + 0.17, mouth - 0.16),
                       (corner + 0.03, mouth + 0.07), (0.3, bottom + 0.05), (0, bottom + 0.1))  # fmt: skip
        inner = np.concatenate([right, mirrored(right[:-1])])
        areas.append(np.concatenate([smooth(outer, False, 4), smooth(inner, False, 4)]))
    whole = canvas.stencil(areas, 0.025 if thick else 0.045)
    lips = canvas.stencil(landmarks[48:60], 0.01)
    if whole is None or lips is None:
        return
    whole = whole.without(lips)
    if not thick:
        inside = whole.within(head)
        assert inside is not None, "facial hair lies on the face"
        whole = inside
    count = {"mustache": 90, "goatee": 90, "beard": 320}[kind]
    numbers = attributes.details("facial hair", 4 * count).reshape(count, 4)
    low, high = np.concatenate(areas).min(0), np.concatenate(areas).max(0)
    roots = low + numbers[:, :2] * (high - low)
    length = (0.1 if thick else 0.06) * (0.6 + 0.8 * numbers[:, 2:3])
    aside = roots[:, :1] * 0.5 + np.sign(roots[:, :1]) * (0.6 if kind == "mustache" else 0.1)
    tips = roots + length * np.concatenate([aside, np.ones_like(aside) * (0.5 if kind == "mustache" else 1.0)], 1)
    hair = np.minimum(np.array(attributes.hair) * 0.9, 215)
    strands = _quadratic(roots, (roots + tips) / 2, tips, 3)
    colours = _tones(hair, numbers[:, 3])
    canvas.paint_strands(whole.scaled(0.92 if thick else 0.5), tinted(hair, 0.85), strands, 0.024, colours)
    canvas.shade(ball_light(attributes, (1.25, 2.0), (0.0, 0.3)) * 0.97, whole.scaled(0.8))
    if thick:  # single hairs that leave the mass, so that it does not end like a mask
        free = (whole.at(canvas.pixels(roots)) > 100) & (lips.at(canvas.pixels(tips)) < 20)
        for dark in (False, True):
            chosen = list(strands[free & ((numbers[:, 3] < 0.5) == dark)])
            if chosen:
                canvas.stroke(chosen, 0.016, tinted(hair, 0.75 if dark else 1.05), 0.55)
