"""How a film is made stable."""

import math
from dataclasses import dataclass
from typing import Any

from imago.errors import UserError

MODES = ("frame_by_frame", "blended", "high_frequencies", "every_kth")


@dataclass(frozen=True)
class FilmOptions:
    """All that can be set; checks itself.

    Attributes:
        mode: "frame_by_frame": each frame on its own. "blended": each frame mixed with the one before, carried along
            the flow. "high_frequencies": the same for detail alone; what the low-resolution frame shows (colours,
            light) comes from the current frame. "every_kth": every k-th frame is up-resolved, those between are made
            of their two neighbours.
        strength: Share of the frame before, in [0, 1), where it is trusted fully and nothing moves. There, of flicker
            that differs in every frame, (1 - strength)² / (1 + strength) is left in squared warping error.
        motion: Motion, in low pixels per frame, at which that share is half as large. The faster things move, the
            sooner flicker differs, and the more the errors of the flow, which add up over 1 / (1 - share) frames,
            soften detail.
        k: Of "every_kth", at least 2.
        one_variant: Keep the variant (flipped, contrast, …) that was chosen for the first frame up-resolved; otherwise
            each frame chooses anew.
        landmark_sigma: Frames over which landmarks are smoothed, see
            :func:`imago.upres.film_landmarks.smooth_landmarks`; 0: not at all.
        landmark_hold: Frames for which a lost face's last landmarks are kept.
        flow_tolerance: How far from its start the flow there and back may end, in low pixels: there, trust falls to
            61% (one standard deviation of a Gaussian).
        colour_tolerance: How much the low frame may differ from what is carried over to it (see
            :class:`imago.upres.film_blending.Recursion`), mean absolute difference in [0, 2]; the same.
        cut: Mean trust below which a frame belongs to another scene than its neighbour, and nothing is carried over.

    Raises:
        UserError: A value that is none of these.
    """

    mode: str = "high_frequencies"
    strength: float = 0.9
    motion: float = 3.0
    k: int = 4
    one_variant: bool = True
    landmark_sigma: float = 2.0
    landmark_hold: int = 12
    flow_tolerance: float = 0.4
    colour_tolerance: float = 0.1
    cut: float = 0.25

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"mode={self.mode!r}: must be one of {', '.join(MODES)}")
        if not (_number(self.strength) and 0 <= self.strength < 1):
            raise UserError(f"strength={self.strength}: must be at least 0 and below 1")
        if not _whole(self.k, 2):
            raise UserError(f"k={self.k}: must be a whole number of frames, at least 2")
        if not isinstance(self.one_variant, bool):
            raise UserError(f"one_variant={self.one_variant}: must be true or false")
        if not (_number(self.landmark_sigma) and self.landmark_sigma >= 0):
            raise UserError(f"landmark_sigma={self.landmark_sigma}: must be a number of frames, at least 0")
        if not _whole(self.landmark_hold, 0):
            raise UserError(f"landmark_hold={self.landmark_hold}: must be a whole number of frames, at least 0")
        for name in ("motion", "flow_tolerance", "colour_tolerance"):
            if not (_number(getattr(self, name)) and getattr(self, name) > 0):
                raise UserError(f"{name}={getattr(self, name)}: must be positive")
        if not (_number(self.cut) and 0 <= self.cut <= 1):
            raise UserError(f"cut={self.cut}: must lie in [0, 1]")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
