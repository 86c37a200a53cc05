"""When something is due: a function of the clock, so that a resumed run does it at the same images as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imago.errors import UserError

if TYPE_CHECKING:
    from lightning_modules.adversarial import AdversarialModule


def due(module: AdversarialModule, every_images: int) -> bool:
    """Whether the newest step carried images_seen over a multiple of ``every_images``."""
    return module.images_seen // every_images != module.step_started_at // every_images


def check_interval(name: str, images: int) -> int:
    """``images`` if it can be an interval.

    Raises:
        UserError: It is below 1.
    """
    if images < 1:
        raise UserError(f"{name} must be at least 1, not {images}")
    return images
