"""The bare face: ears, skin, eyes, brows, nose, lips, wrinkles and freckles."""

from __future__ import annotations

import math

import numpy as np

from imago.data.drawn_portraits.attributes import PortraitAttributes
from imago.data.drawn_portraits.canvas import Canvas, Stencil, tinted
from imago.data.drawn_portraits.geometry import Points, ellipse, points, shifted, smooth
from imago.data.drawn_portraits.skin import skin_field

SIDES = (-1, 1)


def draw_face(canvas: Canvas, attributes: PortraitAttributes, landmarks: Points, outline: Points) -> Stencil:
    """Draws the face without hair.

    Args:
        canvas: What to draw on.
        attributes: Who is drawn.
        landmarks: The 68 points of the frontal face, face frame.
        outline: Outline of the bare head, face frame.

    Returns:
        The head's coverage, to keep later shadows on the skin.
    """
    field = skin_field(attributes, canvas.projection)
    _draw_ears(canvas, attributes)
    head = canvas.stencil(outline)
    assert head is not None, "the head lies in the picture"
    canvas.paint_field(field, head)
    _draw_age(canvas, attributes, head)
    _draw_nose(canvas, attributes, head)
    _draw_eyes(canvas, attributes, landmarks, head)
    _draw_brows(canvas, attributes, landmarks, head)
    _draw_mouth(canvas, attributes, landmarks, head)
    return head


def _draw_ears(canvas: Canvas, attributes: PortraitAttributes) -> None:
    skin, width = attributes.skin, attributes.shape.width
    for side in SIDES:
        lit = 0.82 + 0.12 * side * math.sin(attributes.light[0])
        lobe = points(
            (0.96, -0.12), (1.06, -0.2), (1.13, -0.13), (1.125, 0.1), (1.07, 0.29), (1.02, 0.36), (0.96, 0.34)
        )
        ear = smooth(lobe * [side * width, 1])
        canvas.fill(ear, tinted(skin, lit, (190, 80, 60), 0.08))
        inner = smooth(
            points((1.01, -0.06), (1.06, -0.12), (1.09, -0.06), (1.065, 0.12), (1.02, 0.24)) * [side * width, 1]
        )
        canvas.fill(inner, tinted(skin, lit * 0.62, (150, 50, 40), 0.08), 0.8, 0.025, canvas.stencil(ear))


def _draw_age(canvas: Canvas, attributes: PortraitAttributes, head: Stencil) -> None:
    shape, dark = attributes.shape, tinted(attributes.skin, 0.5, (110, 50, 40), 0.1)
    fold = 0.1 + 0.5 * attributes.wrinkles + 1.8 * max(shape.corners, 0)
    fold *= 1 - 0.5 * attributes.childlike
    for side in SIDES:
        line = points(
            (shape.nose_width * 1.25, shape.nose_tip - 0.08),
            (shape.mouth_width * 0.86 + 0.06, shape.mouth - 0.26),
            (shape.mouth_width + 0.13, shape.mouth - 0.02),
        )
        canvas.stroke(smooth(line * [side, 1], closed=False), 0.06, dark, min(fold, 0.65), 0.03, head)
    if attributes.wrinkles > 0.2:
        strength = 0.55 * attributes.wrinkles
        lines, feet = [], []
        for row in range(3):
            y = -0.62 - 0.14 * row
            reach = 0.55 - 0.06 * row
            lines.append(
                smooth(
                    points((-reach, y + 0.02), (-0.25, y - 0.02), (0, y + 0.01), (0.25, y - 0.02), (reach, y)), False
                )
            )
        for side in SIDES:
            feet += [
                smooth(points((0.75, 0.0), (0.84, slope * 0.5), (0.93, slope)) * [side, 1], False)
                for slope in (-0.09, 0.02, 0.12)
            ]
            bag = points((0.3, 0.17), (0.48, 0.23), (0.68, 0.16)) * [side, 1]
            canvas.stroke(smooth(bag, False), 0.035, dark, strength, 0.012, head)
            frown = points((0.07, -0.3), (0.06, -0.16)) * [side, 1]
            canvas.stroke(frown, 0.03, dark, 0.7 * strength, 0.012, head)
        canvas.stroke(lines, 0.028, dark, strength, 0.01, head)
        canvas.stroke(feet, 0.02, dark, strength, 0.007, head)
    spots = attributes.details("freckles", 181)
    if spots[0] < 0.18 and attributes.ethnicity == "white" and attributes.wrinkles < 0.9:
        where = spots[1:].reshape(60, 3)
        dots = [
            ellipse((u - 0.5) * 1.3, 0.24 + 0.42 * v + 0.1 * abs(u - 0.5), 0.008 + 0.012 * w, 0.007 + 0.011 * w, 8)
            for u, v, w in where.tolist()
        ]
        canvas.fill(dots, tinted(attributes.skin, 0.62, (150, 80, 40), 0.25), 0.5, 0.005, head)


def _draw_nose(canvas: Canvas, attributes: PortraitAttributes, head: Stencil) -> None:
    shape, skin = attributes.shape, attributes.skin
    # The points below the nose are marked at its lower edge: the shadow lies a little above them.
    wide, tip = shape.nose_width, shape.nose_tip - 0.015
    deep = tinted(skin, 0.4, (90, 30, 25), 0.12)
    underside = smooth(
        points((-wide * 0.9, tip - 0.01), (0, tip + 0.05), (wide * 0.9, tip - 0.01), (wide * 0.5, tip + 0.07),
               (0, tip + 0.09), (-wide * 0.5, tip + 0.07))
    )  # fmt: skip
    canvas.fill(underside, deep, 0.55, 0.025, head)
    for side in SIDES:
        wing = shifted(points((0.88, -0.17), (1.12, -0.09), (1.1, 0.01), (0.9, 0.035)) * [side * wide, 1], 0, tip)
        canvas.stroke(smooth(wing, closed=False), 0.04, deep, 0.6, 0.014, head)
        flank = points((0.17, -0.16), (0.115, 0.06), (0.125, 0.5 * tip), (wide * 0.8, tip - 0.16)) * [side, 1]
        away = 0.5 - 0.5 * side * math.sin(attributes.light[0])  # the flank in shadow is the one away from the light
        canvas.stroke(smooth(flank, closed=False), 0.11, deep, 0.14 + 0.34 * away, 0.05, head)
        nostril = ellipse(side * wide * 0.5, tip + 0.028, 0.068, 0.03, 20, tilt=-side * 0.25)
        canvas.fill(nostril, tinted(skin, 0.16, (50, 10, 10), 0.1), 0.9, 0.01, head)
    canvas.fill(
        ellipse(0.03 * math.sin(attributes.light[0]), tip - 0.1, 0.055, 0.05, 20), tinted(skin, 1.25), 0.5, 0.03
    )


def _draw_eyes(canvas: Canvas, attributes: PortraitAttributes, landmarks: Points, head: Stencil) -> None:
    shape, skin, iris = attributes.shape, attributes.skin, attributes.iris
    lash = tinted(skin, 0.1, (16, 10, 10), 0.6)
    crease = tinted(skin, 0.4, (90, 40, 30), 0.1)
    feminine = attributes.gender == "female" and attributes.age not in ("baby", "kid")
    radius = 0.1 + 0.02 * attributes.childlike
    glint = 0.03 * math.sin(attributes.light[0])
    lids = attributes.details("eye shadow", 4)
    for start, side in ((36, -1), (42, 1)):
        corners = landmarks[start : start + 6]
        opening = smooth(corners)
        upper, lower = smooth(corners[:4], closed=False), smooth(corners[[3, 4, 5, 0]], closed=False)
        if feminine and lids[0] < 0.5:
            shadow = tinted((110 + 90 * lids[1], 70 + 60 * lids[2], 80 + 80 * lids[3]), 0.85)
            canvas.stroke(shifted(upper, 0, -0.055), 0.11, shadow, 0.4, 0.025, head)
        eye = canvas.stencil(opening)
        if eye is None:
            continue
        white = tinted((240, 236, 232), 0.93 if sum(skin) > 330 else 0.86)
        canvas.fill(opening, white)
        for corner in (0, 3):
            canvas.fill(
                ellipse(float(corners[corner, 0]), float(corners[corner, 1]), 0.07, 0.08, 20),
                (186, 130, 120),
                0.5,
                0.02,
                eye,
            )
        x, y = side * 0.5 + shape.gaze, -0.006 - 0.03 * shape.eye_height
        canvas.fill(ellipse(x, y, radius, radius), tinted(iris, 0.35), 1, 0.004, eye)
        canvas.fill(ellipse(x, y, radius * 0.86, radius * 0.86), tinted(iris, 0.95), 1, 0.006, eye)
        canvas.fill(ellipse(x, y + radius * 0.4, radius * 0.6, radius * 0.42), tinted(iris, 1.5), 0.6, 0.016, eye)
        canvas.fill(ellipse(x, y, radius * 0.46, radius * 0.46), (10, 8, 10), 1, 0.005, eye)
        canvas.stroke(shifted(upper, 0, 0.025), 0.06, (38, 26, 26), 0.4, 0.016, eye)
        canvas.fill(ellipse(x + glint, y - 0.036, 0.022, 0.022, 16), (255, 255, 255), 0.95, 0.003)
        canvas.stroke(lower, 0.02, crease, 0.6, 0.006)
        canvas.stroke(upper, 0.05 if feminine else 0.04, lash, 0.95, 0.004)
        if attributes.ethnicity != "east_asian":
            canvas.stroke(shifted(upper, 0, 0.01 * attributes.childlike - 0.07), 0.03, crease, 0.75, 0.009, head)
        if feminine:
            outer = upper[:7] if side < 0 else upper[-7:][::-1]
            lashes = [
                np.stack([root, shifted(root, side * (0.045 - 0.006 * rank), -0.045 - 0.004 * rank)])
                for rank, root in enumerate(outer[::2])
            ]
            canvas.stroke(lashes, 0.02, lash, 0.9)


def _draw_brows(canvas: Canvas, attributes: PortraitAttributes, landmarks: Points, head: Stencil) -> None:
    thickness = attributes.shape.brow_thickness
    colour = np.minimum(np.array(attributes.hair) * 0.8, np.array(attributes.skin) * 0.62)
    if attributes.hair_color == "white" or sum(attributes.hair) > 600:
        colour = np.array(attributes.hair) * 0.35 + np.array(attributes.skin) * 0.35
    noise = attributes.details("brows", 112).reshape(56, 2)
    for start in (17, 22):
        arc = smooth(landmarks[start : start + 5], closed=False)
        if start == 22:
            arc = arc[::-1]  # from the outer end to the nose
        canvas.stroke(shifted(arc, 0, 0.005), thickness, tinted(colour, 1.0), 0.68, 0.02, head)
        outward = -1 if start == 17 else 1
        rank = np.linspace(0, len(arc) - 1, len(noise)).astype(int)
        hairs = []
        for place, (u, v) in zip(rank.tolist(), noise.tolist(), strict=True):
            root = shifted(arc[place], 0, 0.03 + (u - 0.45) * thickness * 0.8)
            hairs.append(np.stack([root, shifted(root, outward * 0.07, -0.045 * (0.3 + v * place / len(arc)))]))
        canvas.stroke(hairs, 0.018, tinted(colour, 0.85), 0.55, 0.004, head)


def _lip_line(five: Points) -> Points:
    """A smooth curve through the five inner points of one lip; between corner and middle it is a parabola."""
    corner_to_middle = 0.366
    between = five[[1, 3]] + (five[[0, 4]] - five[[1, 3]]) * [0.5, corner_to_middle]
    return smooth(np.concatenate([five[:1], between[:1], five[1:4], between[1:], five[4:]]), closed=False)


def _draw_mouth(canvas: Canvas, attributes: PortraitAttributes, landmarks: Points, head: Stencil) -> None:
    shape, skin = attributes.shape, np.array(attributes.skin)
    paint = attributes.details("lipstick", 4)
    made_up = attributes.gender == "female" and attributes.age not in ("baby", "kid") and paint[0] < 0.5
    lip = skin * 0.62 + np.array([176, 72, 74]) * 0.34
    if made_up:
        lipstick = np.array([150 + 60 * paint[1], 30 + 50 * paint[2], 50 + 50 * paint[3]])
        lip = lip * 0.4 + lipstick * 0.6
    outer_top, outer_bottom = landmarks[48:55], np.concatenate([landmarks[54:60], landmarks[48:49]])
    inner_top = _lip_line(landmarks[60:65])
    inner_bottom = _lip_line(landmarks[[64, 65, 66, 67, 60]])
    upper = np.concatenate([smooth(outer_top, False), inner_top[::-1]])
    lower = np.concatenate([smooth(outer_bottom, False), inner_bottom[::-1]])
    opening = np.concatenate([inner_top, inner_bottom])

    canvas.fill(opening, (74, 24, 26))
    if shape.mouth_open > 0.03:
        inside = canvas.stencil(opening)
        teeth = inner_top
        height = min(0.1, shape.mouth_open * 0.95)
        teeth = np.concatenate([teeth, shifted(teeth[::-1], 0, height)])
        canvas.fill(teeth, (240, 234, 224), 1, 0.006, inside)
        gaps = [
            points((x, shape.mouth - 0.06), (x, shape.mouth + height + 0.02))
            for x in np.array([-0.21, -0.13, -0.055, 0.02, 0.095, 0.17, 0.24]) * 0.98 - 0.0175
        ]
        canvas.stroke(gaps, 0.01, (196, 176, 164), 0.6, 0.004, inside, taper=False)
        canvas.stroke(inner_top, 0.05, (60, 20, 22), 0.45, 0.014, inside)
    canvas.fill(upper, tinted(lip, 0.8), 1, 0.008)
    canvas.fill(lower, tinted(lip, 0.98), 1, 0.008)
    lit = shape.mouth + shape.mouth_open + 0.45 * shape.lower_lip
    lower_lip = canvas.stencil(lower)
    rim = smooth(outer_bottom, False)
    canvas.stroke(rim, 0.06, tinted(lip, 0.6), 0.5, 0.025, lower_lip)
    glow = ellipse(0.06 * math.sin(attributes.light[0]), lit, shape.mouth_width * 0.42, shape.lower_lip * 0.2, 24)
    canvas.fill(glow, tinted(lip, 1.35, (255, 240, 235), 0.15), 0.6, 0.025, lower_lip)
    canvas.stroke(inner_top, 0.03, tinted(lip, 0.3), 0.9, 0.006)
    corner_shade = [ellipse(x, y, 0.035, 0.03, 12) for x, y in landmarks[[48, 54]].tolist()]
    canvas.fill(corner_shade, tinted(skin, 0.35, (80, 20, 20), 0.15), 0.6, 0.018, head)
    below = shifted(points((-0.2, 0), (0, 0.03), (0.2, 0)), 0, shape.mouth + shape.mouth_open + shape.lower_lip + 0.06)
    canvas.stroke(smooth(below, False), 0.09, tinted(skin, 0.5), 0.42, 0.035, head)
