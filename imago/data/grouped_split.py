"""Parts of a data set that share no group: no person, no owner of photos, no scene."""

import hashlib
from collections import Counter
from collections.abc import Mapping

from imago.errors import UserError

PARTS = ("train", "validation", "test")


def grouped_split(
    sizes: Mapping[str, int],
    validation_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 0,
    strata: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Assigns whole groups to "train", "validation" or "test" so that the parts hold given shares of the images.

    The groups come in an order that their names and the seed determine. Each goes to the test part if that has room
    for it, else to the validation part if that has, else to the training part. Where there are enough small groups,
    the shares are met to the image; they are never exceeded by more than rounding.

    Args:
        sizes: Group → number of its images.
        validation_share: Share of all images, 0 to 1.
        test_share: Share of all images, 0 to 1.
        seed: Of the order.
        strata: Group → kind. The shares are then kept within each kind, so that the parts resemble each other.

    Returns:
        Group → part. It depends neither on the order of `sizes` nor on the process.

    Raises:
        UserError: Shares below 0, or of more than 1 together.
    """
    if min(validation_share, test_share) < 0 or validation_share + test_share > 1:
        raise UserError(f"{validation_share=}, {test_share=}: must not be negative, nor exceed 1 together")
    kinds = dict.fromkeys(sizes, "") if strata is None else strata
    totals: Counter[str] = Counter()
    for group, size in sizes.items():
        totals[kinds[group]] += size
    shares = {"test": test_share, "validation": validation_share}
    room = {(kind, part): round(share * total) for kind, total in totals.items() for part, share in shares.items()}

    def key(group: str) -> tuple[bytes, str]:
        return hashlib.blake2b(f"{seed}/{group}".encode(), digest_size=16).digest(), group

    parts = {}
    for group in sorted(sizes, key=key):
        kind, size = kinds[group], sizes[group]
        parts[group] = next((part for part in shares if size <= room[kind, part]), "train")
        if parts[group] != "train":
            room[kind, parts[group]] -= size
    return parts
