"""The keys of ``model=portrait_demo``; see :mod:`commands.portrait_demo`."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class PortraitDemoOptions:
    """All but ``_target_``. Each stage is a run of its own, of the preset that bears its name."""

    portraits: int = 40  # drawn at 768², for both up-resolution stages
    seeds: Any = "0-15"  # faces made from noise and up-resolved by the first of them
    size: int = 4096  # extent of the print, which is made of the first of these whose landmarks are found
    low: dict[str, Any] = field(
        default_factory=dict
    )  # options of experiment=portrait_demo_low: model.low.total_images=…
    upres: dict[str, Any] = field(default_factory=dict)  # of experiment=portrait_demo_upres
    print: dict[str, Any] = field(default_factory=dict)  # of experiment=portrait_demo_print
