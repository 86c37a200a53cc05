"""What the tests of all readers share: encoded images, zips, and the contract that every reader keeps."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imago.data.sources.source import Source
from imago.errors import UserError

WEB_PAGE = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>"


def noise(seed: int, height: int = 24, width: int = 20, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)


@pytest.fixture
def save_image() -> Callable[[Path, np.ndarray], None]:
    """Saves an array in the format of the path's ending, and makes the folders."""
    return _save


@pytest.fixture
def make_noise() -> Callable[..., np.ndarray]:
    """make_noise(seed, height, width, channels): uint8."""
    return noise


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """encode(array, format): the bytes of an image file."""

    def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, kind)
        return file.getvalue()

    return encoded


@pytest.fixture
def zip_of() -> Callable[[Path, Path], Path]:
    """zip_of(folder, to): the folder's content as a zip; with the folder itself where `inside` is false."""

    def make(folder: Path, to: Path, inside: bool = True) -> Path:
        with zipfile.ZipFile(to, "w") as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder if inside else folder.parent))
        return to

    return make


@pytest.fixture
def refusal() -> Callable[..., str]:
    """refusal(reader, *arguments, **options): the one line that the reader refuses them with."""

    def message(reader: Callable[..., Any], *arguments: Any, **options: Any) -> str:
        with pytest.raises(UserError) as caught:
            reader(*arguments, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return message


@pytest.fixture
def keeps_the_contract() -> Callable[[Source], None]:
    """Checks what every reader promises: unique names that items bear, pickling, a stable fingerprint."""

    def check(source: Source) -> None:
        names = [source.item_name(index) for index in range(len(source))]
        assert len(set(names)) == len(names) > 0
        copy = pickle.loads(pickle.dumps(source))
        assert (len(copy), copy.name, copy.fingerprint()) == (len(source), source.name, source.fingerprint())
        for index in (0, len(source) - 1):
            one, other = source.read(index), copy.read(index)
            assert one.name == other.name == names[index]
            assert one.image.dtype == np.uint8
            assert one.image.ndim == 3
            np.testing.assert_array_equal(one.image, other.image)
            assert one.labels == other.labels
        again = pickle.loads(pickle.dumps(copy))
        assert again.fingerprint() == source.fingerprint()

    return check


@pytest.fixture
def web_page() -> bytes:
    """What a failed download leaves under the name of the real file."""
    return WEB_PAGE
