"""Perceptual hashes against SciPy's DCT, and their groups against brute force."""

import io
import time

import numpy as np
import pytest
from PIL import Image
from scipy import fft

from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.data.near_duplicates import near_duplicates, perceptual_hash


def bits(text: str) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8))


def test_the_hash_is_the_sign_of_low_frequencies() -> None:
    image, _ = draw_portrait(sample_attributes(0, 3), 64)
    grey = np.asarray(Image.fromarray(image).convert("L"))
    small = np.rint(grey.reshape(32, 2, 32, 2).mean((1, 3)) + 1e-9)
    coefficients = fft.dctn(small, norm="ortho")[:8, :8]
    coefficients[0] *= np.sqrt(2)  # the hash leaves the constant cosine unscaled
    coefficients[:, 0] *= np.sqrt(2)
    flat = coefficients.ravel()
    expected = flat > np.median(flat[1:])
    expected[0] = False
    assert (bits(perceptual_hash(image)).astype(bool) != expected).sum() <= 1  # a tie in rounding


def test_copies_are_near_and_others_far() -> None:
    hashes = []
    for index in range(12):
        image, _ = draw_portrait(sample_attributes(0, index), 256)
        file = io.BytesIO()
        Image.fromarray(image).resize((150, 150)).save(file, "JPEG", quality=30)
        brighter = np.clip(image.astype(int) + 10, 0, 255).astype(np.uint8)
        original = bits(perceptual_hash(image))
        assert (bits(perceptual_hash(np.asarray(Image.open(file)))) != original).sum() <= 6
        assert (bits(perceptual_hash(brighter)) != original).sum() <= 6
        hashes.append(original)
    distances = [(a != b).sum() for i, a in enumerate(hashes) for b in hashes[:i]]
    assert np.min(distances) > 6


def brute_force(hashes: list[str], distance: int) -> list[list[int]]:
    table = np.array([bits(text) for text in hashes]).astype(int)
    near = (table[:, None] != table[None]).sum(axis=2) <= distance
    groups, seen = [], set()
    for start in range(len(hashes)):
        if start in seen:
            continue
        group, waiting = {start}, [start]
        while waiting:
            new = set(np.flatnonzero(near[waiting.pop()]).tolist()) - group
            group |= new
            waiting += new
        seen |= group
        if len(group) > 1:
            groups.append(sorted(group))
    return groups


@pytest.mark.parametrize("distance", [0, 1, 3, 6, 10])
def test_the_groups_are_those_of_brute_force(distance: int) -> None:
    rng = np.random.default_rng(distance)
    codes = list(rng.integers(0, 2, (150, 64)))
    for _ in range(250):  # chains of copies, each some bits from the one before
        copy = codes[rng.integers(len(codes))].copy()
        copy[rng.choice(64, rng.integers(0, 12), replace=False)] ^= 1
        codes.append(copy)
    hashes = [np.packbits(code.astype(np.uint8)).tobytes().hex() for code in codes]
    assert near_duplicates(hashes, distance) == brute_force(hashes, distance)


def test_200_000_hashes_take_seconds() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 1 << 64, 200_000, dtype=np.uint64, endpoint=False)
    codes[150_000:150_500] = codes[:500] ^ np.uint64(0b101 << 30)
    hashes = [f"{code:016x}" for code in codes.tolist()]
    start = time.process_time()
    groups = near_duplicates(hashes, 4)
    assert time.process_time() - start < 30
    assert groups == [[i, 150_000 + i] for i in range(500)]


def test_edges_and_wrong_input() -> None:
    assert near_duplicates([]) == []
    assert near_duplicates(["00" * 8]) == []
    assert near_duplicates(["00" * 8, "00" * 7 + "03", "00" * 7 + "0f", "ff" * 8]) == [[0, 1, 2]]
    assert near_duplicates(["00" * 8] * 3) == [[0, 1, 2]]
    with pytest.raises(ValueError, match="from 0 to 10"):
        near_duplicates([], 11)
    with pytest.raises(ValueError, match="16 hexadecimal"):
        near_duplicates(["abc"])
    assert perceptual_hash(np.full((64, 64, 1), 7, np.uint8)) == "00" * 8
