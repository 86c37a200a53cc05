"""The labels of the pictures that generate.py makes."""

import hashlib
import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from imago.errors import UserError
from imago.labels import LabelDistribution, plain_name
from imago.networks.serialization import LoadedGenerator

_LONGEST = 120  # characters of a file name; systems allow 255 bytes


class PictureLabels:
    """Which labels each picture has: those asked for, the rest as of a random training image that has them.

    Args:
        distribution: The generator's; None: it was trained without labels.
        given: Column → code that were asked for.
    """

    def __init__(self, distribution: LabelDistribution | None, given: Mapping[int, int]) -> None:
        self.distribution = distribution
        self.given = dict(given)

    @classmethod
    def asked_for(cls, labels: Mapping[str, object], loaded: LoadedGenerator, checkpoint: str) -> "PictureLabels":
        """From the options ``labels.<name>=<value>``.

        Raises:
            UserError: The generator knows no such label or value, or no labels at all.
        """
        if loaded.labels is None:
            if labels:
                raise UserError(f"labels: the generator in {checkpoint} was trained without labels")
            return cls(None, {})
        return cls(loaded.labels, loaded.labels.coding.codes_of({str(k): str(v) for k, v in labels.items()}))

    def codes(self, seed: int, number: int) -> NDArray[np.int64] | None:
        """Codes ``(K,)`` of a picture, whatever pictures are made around it; None of an unconditional generator."""
        if self.distribution is None:
            return None
        return self.distribution.draw(seed, number, 1, "labels", self.given)[0].numpy()

    def texts(self, seed: int, number: int) -> dict[str, str]:
        """Column → value of a picture."""
        codes = self.codes(seed, number)
        if codes is None or self.distribution is None:
            return {}
        return self.distribution.coding.texts(codes.tolist())

    @property
    def words(self) -> dict[str, str]:
        """What was asked for as a command says it: ``{"glasses": "eyeglasses", "smile": "yes"}``."""
        if self.distribution is None:
            return {}
        asked = [(self.distribution.coding.columns[k], code) for k, code in self.given.items()]
        return dict(sorted((plain_name(column.name), plain_name(column.values[code])) for column, code in asked))

    @property
    def variant(self) -> str:
        """What was asked for as part of a file name: ``-glasses=eyeglasses-smile=yes``."""
        text = "".join(f"-{_safe(name)}={_safe(value)}" for name, value in self.words.items())
        if len(text) <= _LONGEST:
            return text
        return f"{text[:_LONGEST]}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def _safe(word: str) -> str:
    return re.sub(r"[^\w.-]+", "_", word)
