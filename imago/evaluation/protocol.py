"""How much is measured, and of what size: the numbers by which published values are compared."""

from dataclasses import dataclass

from imago.errors import UserError


@dataclass
class Protocol:
    """Defaults are those of the official PGGAN code for CelebA-HQ.

    A metric that compares with real images takes fewer where there are not enough of them (see
    :func:`imago.evaluation.measure.comparable`); the number is printed beside the value, and values of different
    numbers must not be compared.
    """

    swd_images: int = 16_384
    swd_patches: int = 128  # descriptors per image and level
    swd_directions: int = 512  # projections
    ms_ssim_images: int = 20_000  # two to a pair
    ms_ssim_resolution: int | None = None  # images are resized to this height first; null: as they are
    feature_images: int = 10_000  # of the Fréchet and kernel distance, precision and recall
    feature_resolution: int | None = None  # images are resized to this height before the extractor's own resizing
    score_images: int = 50_000  # of the Inception score
    score_splits: int = 10
    resize: str = "box"  # how to these heights: box, clean (bicubic) or tf1 (bilinear)
    pool: bool = False  # take all checkpoints together as one set of images
    face_images: int = 1_000
    memorisation_images: int = 1_000
    modes_images: int = 25_600
    path_length_samples: int = 10_000

    def check(self) -> None:
        """Refuses numbers that make no sense.

        Raises:
            UserError: Says which.
        """
        for name, value in vars(self).items():
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise UserError(f"protocol.{name} must be at least 1, not {value}")
        if self.resize not in ("box", "clean", "tf1"):
            raise UserError(f"protocol.resize must be box, clean or tf1, not {self.resize}")
