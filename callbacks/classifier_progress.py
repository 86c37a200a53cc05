"""The progress bar of a classifier, which does not grow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callbacks.progress import Progress

if TYPE_CHECKING:
    from lightning_modules.adversarial import AdversarialModule


class ClassifierProgress(Progress):
    """As :class:`Progress`, with the loss in place of the phase of growth.

    Args:
        label: What is being trained ("real").
        refresh_seconds: How often the bar changes.
        line_seconds: How often a line is written where there is no terminal.
    """

    def __init__(self, label: str, refresh_seconds: float = 0.5, line_seconds: float = 30.0) -> None:
        super().__init__(refresh_seconds, line_seconds)
        self.label = label

    def _fields(self, module: AdversarialModule) -> dict[str, Any]:
        loss = float(module.terms["loss"]) if module.terms else float("nan")
        return {
            **super()._fields(module),
            "phase": f"{self.label}: {module.images_seen / 1000:.1f} kimg, loss {loss:.3f}",
        }
