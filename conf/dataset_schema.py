"""The options of ``generate.py what=dataset``."""

from dataclasses import dataclass


@dataclass
class DatasetConfig:
    """Which pictures are kept, and how they are packed."""

    # Keep only pictures in which a face is found (needs imago[faces]).
    detect_faces: bool = False

    # Keep only pictures that are not copies: those further from every training image, by their pixels, than the nearest
    # `closest` share of the training images are from each other. Needs `data`.
    closest: float | None = None

    # The pack that the generator was trained on; by default that of the checkpoint's run, if it was a pack.
    data: str | None = None

    # Stop with an error when so many pictures per kept one have been tried.
    max_tries: float = 20.0

    # Levels of this height and larger are stored as PNGs.
    zip_from: int = 256
