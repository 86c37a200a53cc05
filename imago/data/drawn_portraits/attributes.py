"""Who is drawn: attributes of a portrait, sampled jointly, labelled in the vocabulary of the Curtó & Zarza faces.

The column names and values are those of ``c&z.csv`` (Curtó et al. 2020, "High-resolution Deep Convolutional Generative
Adversarial Networks", section 3; the file holds the age ``elderly``, which the paper's table leaves out).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imago.randomness import uniform

VOCABULARY: dict[str, tuple[str, ...]] = {
    "Age": (
        "baby",
        "kid",
        "teenager",
        "early_adulthood",
        "adult",
        "middle_aged",
        "senior",
        "retirement",
        "elderly",
    ),
    "Ethnicity": ("black", "white", "east_asian", "south_asian"),
    "Eyes Color": ("brown", "other", "blue", "green"),
    "Facial Hair": (
        "no",
        "light_mustache",
        "light_goatee",
        "light_beard",
        "thick_mustache",
        "thick_goatee",
        "thick_beard",
    ),
    "Gender": ("male", "female"),
    "Glasses": ("no", "eyeglasses", "sunglasses"),
    "Hair Color": ("black", "brown", "other", "blonde", "white", "red"),
    "Hair Covered": ("no", "turban", "cap", "helmet"),
    "Hair Style": ("short_straight", "long_straight", "short_curly", "long_curly", "bald", "other"),
    "Smile": ("yes", "no"),
    "Visible Forehead": ("yes", "no"),
}

Colour = tuple[float, float, float]
"""Red, green, blue in [0, 255]."""

_SKIN: dict[str, tuple[Colour, ...]] = {  # each a path from the lightest to the darkest tone
    "white": ((250, 220, 200), (240, 200, 172), (222, 176, 144)),
    "east_asian": ((248, 216, 184), (236, 196, 156), (212, 166, 124)),
    "south_asian": ((214, 166, 124), (180, 130, 92), (138, 94, 64)),
    "black": ((160, 110, 80), (116, 76, 54), (82, 54, 40)),
}
_HAIR: dict[str, tuple[Colour, ...]] = {
    "black": ((30, 25, 25), (38, 34, 38), (24, 22, 28)),
    "brown": ((66, 44, 30), (92, 60, 38), (120, 82, 52)),
    "blonde": ((196, 158, 98), (222, 188, 126), (176, 136, 80)),
    "red": ((152, 70, 34), (176, 88, 44), (128, 50, 30)),
    "white": ((226, 224, 220), (236, 234, 228), (214, 212, 210)),
    "other": ((134, 132, 132), (108, 108, 112), (160, 158, 156)),  # grey
    "dyed": ((70, 96, 140), (150, 80, 116), (64, 110, 100)),  # labelled "other"
}
_IRIS: dict[str, tuple[Colour, ...]] = {
    "brown": ((84, 52, 28), (58, 36, 22), (108, 70, 38)),
    "blue": ((78, 120, 168), (104, 148, 184), (60, 96, 142)),
    "green": ((86, 124, 80), (108, 140, 92), (70, 108, 84)),
    "other": ((136, 104, 54), (124, 128, 128), (150, 124, 62)),  # amber, grey, hazel
}
_AGES = (0.03, 0.12, 0.14, 0.23, 0.14, 0.15, 0.09, 0.06, 0.04)
_GREY = {"middle_aged": 0.15, "senior": 0.5, "retirement": 0.75, "elderly": 0.95}
_WRINKLES = {"adult": 0.1, "middle_aged": 0.35, "senior": 0.6, "retirement": 0.8, "elderly": 1.0}
_CHILDLIKE = {"baby": 1.0, "kid": 0.6, "teenager": 0.2}


@dataclass(frozen=True)
class Pose:
    """Where the head is and where it looks.

    Attributes:
        roll: Tilt in the picture plane, radians, clockwise as seen.
        yaw: Turn about the vertical axis, radians; positive turns the nose to the right of the picture.
        pitch: Nod, radians; positive lowers the nose.
        scale: Distance of the eye centres as a fraction of the picture's side.
        centre: The point between the eyes as fractions (x, y) of the picture's side.
    """

    roll: float
    yaw: float
    pitch: float
    scale: float
    centre: tuple[float, float]


@dataclass(frozen=True)
class FaceShape:
    """Proportions in the face frame: origin between the eyes, x right, y down, unit the distance of the eyes."""

    width: float  # half width at the ears
    chin: float
    jaw: float  # how far the jaw is out, relative
    crown: float  # top of the skull (negative)
    eye_width: float
    eye_height: float
    eye_slant: float
    brow: float  # height of the brows (negative)
    brow_thickness: float
    brow_angle: float
    nose_width: float
    nose_tip: float
    mouth: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    mouth_open: float
    corners: float  # how far the corners of the mouth are raised
    gaze: float


@dataclass(frozen=True)
class PortraitAttributes:
    """All that decides a drawn portrait. The same attributes give the same face at every size.

    The first eleven are the labels (see :data:`VOCABULARY`). ``seed`` and ``index`` key the details (strands of hair,
    freckles, background), see :meth:`details`.
    """

    age: str
    ethnicity: str
    eyes_color: str
    facial_hair: str
    gender: str
    glasses: str
    hair_color: str
    hair_covered: str
    hair_style: str
    smile: str
    visible_forehead: str
    pose: Pose
    shape: FaceShape
    skin: Colour
    hair: Colour
    iris: Colour
    light: tuple[float, float]  # azimuth (positive: from the right of the picture) and elevation, radians
    wrinkles: float  # 0 … 1
    childlike: float  # 0 (adult) … 1 (baby)
    seed: int
    index: int

    def labels(self) -> dict[str, str]:
        """The labels, keyed by the columns of the Curtó & Zarza file, in its order."""
        return {column: getattr(self, column.lower().replace(" ", "_")) for column in VOCABULARY}

    def details(self, purpose: str, count: int) -> NDArray[np.float64]:
        """Uniform numbers in [0, 1) for one kind of detail: ``(count,)``, the same at every picture size."""
        return uniform(self.seed, f"drawn portrait/{purpose}", self.index, 1, count)[0]


class _Draws:
    """Uniform numbers handed out one after the other as ranges and choices."""

    def __init__(self, numbers: NDArray[np.float64]) -> None:
        self._numbers = iter(numbers.tolist())

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * next(self._numbers)

    def chance(self, probability: float) -> bool:
        return next(self._numbers) < probability

    def bell(self, spread: float) -> float:
        """Around zero within ±spread, denser in the middle."""
        return spread * (next(self._numbers) + next(self._numbers) - 1.0)

    def choice(self, weights: Mapping[str, float]) -> str:
        position = next(self._numbers) * sum(weights.values())
        for value, weight in weights.items():
            position -= weight
            if position < 0 and weight > 0:
                return value
        return max(weights, key=lambda value: weights[value])  # rounding ate the last of the weight

    def colour(self, path: tuple[Colour, ...]) -> Colour:
        """A point on the polyline of colours *path*."""
        position = self.between(0, len(path) - 1)
        first = min(int(position), len(path) - 2)
        mixed = np.array(path[first]) + (position - first) * (np.array(path[first + 1]) - np.array(path[first]))
        return (float(mixed[0]), float(mixed[1]), float(mixed[2]))

    def one_of(self, colours: tuple[Colour, ...]) -> Colour:
        gain = self.between(0.9, 1.1)
        red, green, blue = colours[int(self.between(0, len(colours)))]
        return (min(255.0, red * gain), min(255.0, green * gain), min(255.0, blue * gain))


def sample_attributes(seed: int, index: int) -> PortraitAttributes:
    """Samples the attributes of portrait *index* of the collection *seed*.

    Args:
        seed: Names the collection.
        index: Position in it, ≥ 0.

    Raises:
        ValueError: The index is negative.
    """
    if index < 0:
        raise ValueError(f"a portrait's index is 0 or more, got {index}")
    draws = _Draws(uniform(seed, "drawn portrait", index, 1, 96)[0])
    age = draws.choice(dict(zip(VOCABULARY["Age"], _AGES, strict=True)))
    gender = draws.choice({"male": 0.52, "female": 0.48})
    ethnicity = draws.choice({"black": 0.26, "white": 0.32, "east_asian": 0.21, "south_asian": 0.21})
    childlike = _CHILDLIKE.get(age, 0.0)
    grown = age not in _CHILDLIKE

    covered = draws.choice(
        {
            "no": 0.84,
            "cap": 0.08,
            "turban": 0.05 if grown else 0.01,
            "helmet": 0.03 if age != "baby" else 0.0,
        }
    )
    hidden = covered in ("turban", "helmet")
    style = _hair_style(draws, age, gender, ethnicity)
    if hidden or (covered == "cap" and style == "other"):
        style = "other" if hidden else "short_straight"
    hair_color = _hair_color(draws, age, ethnicity)
    dyed = hair_color == "other" and age in ("teenager", "early_adulthood", "adult")
    hair = draws.one_of(_HAIR["dyed" if dyed else hair_color])
    if hidden or style == "bald":  # the colour still shows in brows and beard, not on the head
        hair_color = "other"

    glasses = draws.choice({"no": 0.76, "eyeglasses": 0.0 if age == "baby" else 0.17, "sunglasses": 0.07})
    pale_eyes = 1.0 if ethnicity == "white" else 0.04
    eyes_color = draws.choice({"brown": 0.5, "blue": 0.28 * pale_eyes, "green": 0.16 * pale_eyes, "other": 0.08})
    iris = draws.one_of(_IRIS[eyes_color])
    if glasses == "sunglasses":
        eyes_color = "other"  # cannot be seen
    facial_hair = "no"
    if gender == "male" and grown:
        kinds = dict.fromkeys(VOCABULARY["Facial Hair"][1:], 1.0)
        facial_hair = draws.choice({"no": 6.0, **kinds})
    else:
        draws.between(0, 1)
    smile = draws.choice({"yes": 0.55, "no": 0.45})
    bangs = draws.chance(0.38 if style.startswith("long") else 0.22) and style not in ("bald", "other")
    if covered == "no":
        visible_forehead = "no" if bangs else "yes"
    else:
        visible_forehead = draws.choice({"yes": 0.5, "no": 0.5})

    return PortraitAttributes(
        age=age,
        ethnicity=ethnicity,
        eyes_color=eyes_color,
        facial_hair=facial_hair,
        gender=gender,
        glasses=glasses,
        hair_color=hair_color,
        hair_covered=covered,
        hair_style=style,
        smile=smile,
        visible_forehead=visible_forehead,
        pose=Pose(
            roll=draws.bell(np.radians(11)),
            yaw=draws.bell(np.radians(15)),
            pitch=draws.bell(np.radians(8)),
            scale=draws.between(0.205, 0.248),
            centre=(0.5 + draws.bell(0.04), 0.46 + draws.bell(0.03)),
        ),
        shape=_face_shape(draws, gender, ethnicity, childlike, smile == "yes"),
        skin=draws.colour(_SKIN[ethnicity]),
        hair=hair,
        iris=iris,
        light=(draws.bell(np.radians(70)), draws.between(np.radians(15), np.radians(50))),
        wrinkles=_WRINKLES.get(age, 0.0),
        childlike=childlike,
        seed=seed,
        index=index,
    )


def _hair_style(draws: _Draws, age: str, gender: str, ethnicity: str) -> str:
    curly = {"black": 0.65, "white": 0.25, "east_asian": 0.08, "south_asian": 0.25}[ethnicity]
    if age == "baby":
        long, bald, other = 0.0, 0.3, 0.0
    elif gender == "female":
        long, bald, other = 0.62, 0.015, 0.14
    else:
        bald = 0.03 if age in ("kid", "teenager") else 0.35 if age in _GREY else 0.14
        long, other = 0.1, 0.05
    short = 1.0 - long - bald - other
    return draws.choice(
        {
            "short_straight": short * (1 - curly),
            "short_curly": short * curly,
            "long_straight": long * (1 - curly),
            "long_curly": long * curly,
            "bald": bald,
            "other": other,  # gathered in a bun
        }
    )


def _hair_color(draws: _Draws, age: str, ethnicity: str) -> str:
    grey = _GREY.get(age, 0.02)
    if ethnicity == "white":
        pigmented = {"black": 0.17, "brown": 0.45, "blonde": 0.28, "red": 0.1}
    elif ethnicity == "east_asian":
        pigmented = {"black": 0.78, "brown": 0.18, "blonde": 0.03, "red": 0.01}
    else:
        pigmented = {"black": 0.84, "brown": 0.13, "blonde": 0.02, "red": 0.01}
    white = 0.0 if age not in _GREY else 0.9 if age == "elderly" else 0.5
    weights = {color: weight * (1 - grey) for color, weight in pigmented.items()}
    return draws.choice({**weights, "white": grey * white, "other": grey * (1 - white)})


def _face_shape(draws: _Draws, gender: str, ethnicity: str, childlike: float, smile: bool) -> FaceShape:
    male = 1.0 if gender == "male" else 0.0
    full = {"black": 1.0, "white": 0.0, "east_asian": 0.35, "south_asian": 0.35}[ethnicity]
    narrow = 1.0 if ethnicity == "east_asian" else 0.0
    broad = draws.between(0, 1) if smile else 0.0
    return FaceShape(
        width=draws.between(0.97, 1.07) + 0.05 * childlike + 0.02 * male,
        chin=draws.between(1.68, 1.84) + 0.05 * male - 0.2 * childlike,
        jaw=draws.between(0.60, 0.74) + 0.05 * male + 0.06 * childlike,
        crown=-draws.between(1.26, 1.38) - 0.06 * childlike,
        eye_width=draws.between(0.37, 0.42) + 0.03 * childlike,
        eye_height=(draws.between(0.155, 0.2) + 0.03 * childlike - 0.015 * male)
        * (1 - 0.2 * narrow)
        * (1 - 0.15 * broad),
        eye_slant=draws.between(-0.005, 0.02) + 0.02 * narrow,
        brow=-draws.between(0.28, 0.36) + 0.03 * male,
        brow_thickness=draws.between(0.06, 0.09) + 0.035 * male - 0.03 * childlike,
        brow_angle=draws.bell(0.05),
        nose_width=draws.between(0.19, 0.23) + 0.05 * full + 0.015 * male,
        nose_tip=draws.between(0.65, 0.75) - 0.13 * childlike,
        mouth=draws.between(1.06, 1.13) - 0.12 * childlike,
        mouth_width=draws.between(0.37, 0.44) + 0.07 * broad + (0.02 if smile else 0.0) - 0.04 * childlike,
        upper_lip=draws.between(0.06, 0.085) + 0.03 * full - 0.01 * male,
        lower_lip=draws.between(0.095, 0.13) + 0.035 * full - 0.01 * male,
        mouth_open=0.14 * (broad - 0.35) / 0.65 if broad > 0.35 else 0.0,
        corners=draws.between(0.06, 0.09) + 0.04 * broad if smile else draws.between(-0.035, 0.005),
        gaze=draws.bell(0.05),
    )
