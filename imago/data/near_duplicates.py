"""Pictures that are nearly the same: a hash of what they look like, and groups of hashes a few bits apart."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 32  # pixels that the picture is shrunk to
_FREQUENCIES = 8
_BITS = 64
_FARTHEST = 10  # bits; beyond, the parts become so short that nearly all would be compared
_BITS_OF = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(
    1, dtype=np.uint8
)


def perceptual_hash(image: NDArray[np.uint8]) -> str:
    """The DCT hash: for each of the 8 × 8 lowest frequencies whether it is above their median.

    It hardly changes when a picture is scaled, compressed or a little brighter; it does when it is mirrored or cropped.
    The constant term is left out of the median and its bit is 0, since brightness alone is not to count.

    Args:
        image: uint8 ``(H, W, C)``.

    Returns:
        16 hexadecimal digits, the frequencies row by row, the first at the highest bit.
    """
    colours = image[..., 0] if image.shape[2] == 1 else image[..., :3]
    picture = Image.fromarray(np.ascontiguousarray(colours)).convert("L")
    small = np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=None), dtype=np.float64)
    k, x = np.arange(_FREQUENCIES)[:, None], np.arange(_SIDE)[None]
    cosines = np.cos(np.pi * k * (2 * x + 1) / (2 * _SIDE))
    coefficients = (cosines @ small @ cosines.T).ravel()
    # Where a direction has no structure at all, rounding is not to decide.
    coefficients[np.abs(coefficients) < 1e-6] = 0.0
    bits = coefficients > np.median(coefficients[1:])
    bits[0] = False
    return np.packbits(bits).tobytes().hex()


def near_duplicates(hashes: Sequence[str], distance: int = 2) -> list[list[int]]:
    """Groups of pictures whose hashes differ in few bits, directly or through others of the group.

    Two hashes that differ in at most d bits agree in at least two of d + 2 parts (multi-index hashing, Norouzi et al.
    2012), so only hashes that share two parts are compared: seconds for 200,000 pictures, where comparing all would
    take 20 billion comparisons.

    Args:
        hashes: By :func:`perceptual_hash`.
        distance: Bits, 0 … 10 (always even between hashes of pictures). Copies that were scaled or compressed differ in
            0 to 6, but aligned faces look alike to the hash: among 16,000 of them, 22 of 24 pairs 2 bits apart were
            the same photo, 5 of 24 pairs 4 bits apart. For pictures of other things 6 is usual.

    Returns:
        The groups of two or more, as positions in ascending order; groups ordered by their first.

    Raises:
        ValueError: The distance is out of range, or a hash is not 16 hexadecimal digits.
    """
    if not 0 <= distance <= _FARTHEST:
        raise ValueError(f"distance={distance}: must be from 0 to {_FARTHEST} bits")
    if any(len(text) != _BITS // 4 for text in hashes):
        raise ValueError("a hash is 16 hexadecimal digits")
    codes = np.array([int(text, 16) for text in hashes], dtype=np.uint64)
    # Equal hashes first: a thousand copies of one picture are one code in what follows.
    unique, inverse = np.unique(codes, return_inverse=True)
    groups = _components(len(unique), _near_pairs(unique, distance))[inverse]
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    result = [group.tolist() for group in np.split(order, starts[1:]) if len(group) > 1]
    return sorted(result, key=lambda group: group[0])


def _near_pairs(codes: NDArray[np.uint64], distance: int) -> NDArray[np.intp]:
    """Positions ``(P, 2)`` of different codes at most `distance` bits apart; a pair may occur several times."""
    edges = np.linspace(0, _BITS, distance + 3).astype(int).tolist()
    masks = [np.uint64(((1 << (high - low)) - 1) << low) for low, high in itertools.pairwise(edges)]
    found = [np.empty((0, 2), dtype=np.intp)]
    for one, two in itertools.combinations(masks, 2):
        keys = codes & (one | two)
        order = np.argsort(keys, kind="stable")
        keys, ordered = keys[order], codes[order]
        here = np.arange(len(codes) - 1)
        for step in range(1, len(codes)):  # each code with the next but (step − 1), as long as they share the key
            here = here[: np.searchsorted(here, len(codes) - step)]
            here = here[keys[here] == keys[here + step]]
            if len(here) == 0:
                break
            near = here[_bits(ordered[here] ^ ordered[here + step]) <= distance]
            found.append(np.stack([order[near], order[near + step]], axis=1))
    return np.concatenate(found)


def _components(count: int, pairs: NDArray[np.intp]) -> NDArray[np.intp]:
    """The smallest member of each one's connected component, ``(count,)``."""
    labels = np.arange(count)
    while True:
        lowest = np.minimum(labels[pairs[:, 0]], labels[pairs[:, 1]])
        new = labels.copy()
        for side in (0, 1):
            np.minimum.at(
                new, labels[pairs[:, side]], lowest
            )  # the representative moves, and with it all it stands for
        new = new[new[labels]]
        if (new == labels).all():
            return labels
        labels = new


def _bits(codes: NDArray[np.uint64]) -> NDArray[np.intp]:
    """How many bits are set."""
    return _BITS_OF[codes.view(np.uint16).reshape(-1, 4)].sum(axis=1, dtype=np.intp)
