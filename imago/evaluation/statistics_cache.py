"""What was measured of real images, kept on disk: features and numbers, by the data's checksum and the protocol."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from imago.atomic import atomic_path
from imago.distributed import of_first_process, rank_and_world_size

_VERSION = 2  # of what is kept: a change of a metric's arithmetic makes it higher


class StatisticsCache:
    """Keeps results in a folder. What is damaged there, or cannot be written, is measured again.

    Args:
        folder: Where; None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def tensors(self, key: dict[str, Any], measure: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors that are the same on all processes: from the cache, or else measured (by all) and kept.

        Args:
            key: Everything that they depend on, as JSON values.
            measure: Makes them.
        """
        path = self._path(key, "safetensors")
        found = _read_tensors(path)
        if not of_first_process(found is not None):
            found = measured = measure()
            self._write(path, lambda: safetensors.torch.save(measured, {"key": json.dumps(key)}))
        elif found is None:  # another machine, which does not see the folder
            found = {}
        return found if rank_and_world_size()[1] == 1 else of_first_process(found)

    def numbers(self, key: dict[str, Any], measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Likewise, for numbers by name."""
        path = self._path(key, "json")
        found = of_first_process(_read_numbers(path))
        if found is None:
            found = measure()
            self._write(path, lambda: json.dumps({"key": key, "numbers": found}).encode())
        return found

    def _path(self, key: dict[str, Any], ending: str) -> Path | None:
        if self.folder is None:
            return None
        text = json.dumps({"version": _VERSION, **key}, sort_keys=True)
        return self.folder / f"{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}.{ending}"

    @staticmethod
    def _write(path: Path | None, content: Callable[[], bytes]) -> None:
        if path is None or rank_and_world_size()[0] != 0:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                temporary.write_bytes(content())
        except OSError:
            return  # a full disk costs time, nothing else


def _read_tensors(path: Path | None) -> dict[str, Tensor] | None:
    if path is None or not path.exists():
        return None
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError):
        return None


def _read_numbers(path: Path | None) -> dict[str, float] | None:
    if path is None or not path.exists():
        return None
    try:
        numbers = json.loads(path.read_text())["numbers"]
        return {str(name): float(value) for name, value in numbers.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
