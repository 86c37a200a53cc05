"""MNIST (LeCun et al. 1998), and MNIST-RGB: three digits stacked as colours, to count modes."""

import gzip
import hashlib
import struct
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from imago.data.sources.data_files import PerProcess, fingerprint_of, refuse_web_page
from imago.data.sources.file_tree import suggestion
from imago.data.sources.source import Item
from imago.errors import UserError
from imago.randomness import uniform

_PREFIXES = {"train": ("train",), "test": ("t10k",), "all": ("train", "t10k")}
_IMAGES_MAGIC, _LABELS_MAGIC = 2051, 2049  # unsigned bytes in three dimensions, and in one


class MNIST:
    """MNIST's digits, or MNIST-RGB made of them.

    With variant "grey", images are the digits, one channel, and the label column "digit" holds "0" … "9". With
    "rgb", image *i* stacks the three digits that (digit_seed, i) draws, as red, green and blue; the label column
    "number" holds the number that they form, "0" … "999" (Metz et al. 2016; Karras et al. 2018, appendix E: how many
    of the 1,000 does a generator find?). PGGAN's tool makes 1,000,000 images with seed 123; the draws here are others,
    from the same distribution.

    Args:
        root: The folder of the four idx files, gzipped or not, in either spelling (``train-images-idx3-ubyte``,
            ``train-images.idx3-ubyte``); also torchvision's ``MNIST/raw`` below it. ``~`` is expanded.
        split: "train" (60,000), "test" (10,000) or "all".
        variant: "grey" or "rgb".
        count: How many images to make ("rgb").
        digit_seed: Of the draws ("rgb").
        pad: Whether to add two black pixels on each side: 32×32 instead of 28×28.

    Raises:
        UserError: Unknown options, missing files, damaged files.
    """

    layout: ClassVar[str] = (
        "<root>/train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
        "t10k-labels-idx1-ubyte.gz (or unpacked)"
    )

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        variant: str = "grey",
        count: int = 1_000_000,
        digit_seed: int = 123,
        pad: bool = True,
    ) -> None:
        if split not in _PREFIXES:
            raise UserError(f"split={split!r}: must be one of {', '.join(_PREFIXES)}")
        if variant not in ("grey", "rgb"):
            raise UserError(f"variant={variant!r}: must be grey or rgb")
        if count < 1:
            raise UserError(f"count={count}: must be at least 1")
        self.variant, self.digit_seed, self.pad = variant, digit_seed, pad
        self.name = ("mnist" if variant == "grey" else "mnist_rgb") + ("" if split == "all" else f"_{split}")
        path = _find(Path(root).expanduser().absolute(), root)
        self._digits = PerProcess(_Digits, path, _PREFIXES[split])  # 47 MB, loaded again in each process
        self._digit_count = len(self._digits.get().labels)
        self._count = count if variant == "rgb" else self._digit_count
        self._content = self._digits.get().fingerprint

    def __len__(self) -> int:
        return self._count

    def fingerprint(self) -> str:
        """Hash of the content of the files and of the parameters."""
        rgb = (self._count, self.digit_seed) if self.variant == "rgb" else None
        return fingerprint_of("mnist", self._content, self.pad, rgb)

    def item_name(self, index: int) -> str:
        """The variant and the position."""
        return f"{self.name}/{index:07d}"

    def parts(self, index: int) -> list[int]:
        """The positions of the digits that an image is made of: one, or three for red, green and blue."""
        if self.variant == "grey":
            return [index]
        draws = uniform(self.digit_seed, "mnist-rgb", index, 1, size=3)[0]
        return [int(place) for place in draws * self._digit_count]

    def read(self, index: int) -> Item:
        """One image, 32×32 or 28×28, grey or RGB; see :meth:`imago.data.sources.source.Source.read`."""
        if not 0 <= index < self._count:
            raise IndexError(f"image {index} of {self._count}")
        digits, parts = self._digits.get(), self.parts(index)
        image = np.stack([digits.images[part] for part in parts], axis=2)  # (28, 28, 1 or 3)
        if self.pad:
            image = np.pad(image, ((2, 2), (2, 2), (0, 0)))
        number = int("".join(str(digits.labels[part]) for part in parts))
        return Item(image, self.item_name(index), {"digit" if self.variant == "grey" else "number": str(number)})


class _Digits:
    """The content of the files: images uint8 ``(N, 28, 28)``, labels uint8 ``(N,)``."""

    def __init__(self, folder: Path, prefixes: tuple[str, ...]) -> None:
        digest = hashlib.blake2b(digest_size=16)
        images, labels = [], []
        for prefix in prefixes:
            images.append(_read_idx(folder, f"{prefix}-images", _IMAGES_MAGIC))
            labels.append(_read_idx(folder, f"{prefix}-labels", _LABELS_MAGIC))
            if len(images[-1]) != len(labels[-1]):
                found = f"{len(images[-1])} images and {len(labels[-1])} labels"
                raise UserError(f"{folder}: {found} in the {prefix} files; do they belong together?")
            digest.update(images[-1].tobytes() + labels[-1].tobytes())
        self.images, self.labels = np.concatenate(images), np.concatenate(labels)
        self.fingerprint = digest.hexdigest()


def _find(path: Path, root: str | Path) -> Path:
    if not path.is_dir():
        problem = "a file, not a folder" if path.exists() else f"no such folder{suggestion(path)}"
        raise UserError(f"{root}: {problem}; expected {MNIST.layout}")
    for place in (path, path / "raw", path / "MNIST" / "raw", path / "mnist"):
        if any(place.glob("t*-images*idx3-ubyte*")):
            return place
    raise UserError(f"{root}: no MNIST files in it; expected {MNIST.layout}")


def _read_idx(folder: Path, base: str, magic: int) -> NDArray[np.uint8]:
    """The array of an idx file: a big-endian magic number, the dimensions, and the bytes."""
    dimensions = magic & 0xFF
    names = [f"{base}{dot}idx{dimensions}-ubyte{gz}" for gz in ("", ".gz") for dot in ("-", ".")]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise UserError(f"{folder}: no {names[2]} in it; expected {MNIST.layout}")
    refuse_web_page(path)
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":  # some keep the ending, some do not
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged or truncated ({error}); download it again") from error
    header = 4 + 4 * dimensions
    if len(content) < header or struct.unpack(">I", content[:4])[0] != magic:
        found = struct.unpack(">I", content[:4])[0] if len(content) >= 4 else "nothing"
        raise UserError(f"{path}: its magic number is {found}, expected {magic}: not the idx file of its name")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if dimensions == 3 and shape[1:] != (28, 28):
        raise UserError(f"{path}: images of {shape[1]}x{shape[2]}, expected 28x28")
    if len(content) - header != int(np.prod(shape, dtype=np.int64)) or not shape[0]:
        raise UserError(f"{path}: {len(content) - header:,} bytes for the shape {shape}: truncated; download it again")
    array = np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
    if dimensions == 1 and array.max() > 9:
        raise UserError(f"{path}: a label of {array.max()}, expected digits")
    return array
