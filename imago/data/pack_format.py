"""What a packed data set looks like on the disk: names of files, the description, checksums."""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from imago.errors import UserError

FORMAT = "imago packed data set"
FORMAT_VERSION = 1
NAMES = "names.jsonl"
LEFT_OUT = "unreadable.csv"


def member_name(index: int) -> str:
    """Where image `index` lies in a zip of PNGs: the names that StyleGAN's tools write and read."""
    return f"{index // 1000:05d}/img{index:08d}.png"


def is_packed(path: Path) -> bool:
    """Whether `path` is a folder that :func:`imago.data.packing.pack` made, of whatever format version."""
    try:
        description = json.loads((path / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(description, dict) and description.get("format") == FORMAT


def read_description(path: Path) -> dict[str, Any]:
    """The content of ``dataset.json``.

    Raises:
        UserError: There is none, it cannot be read, or it is of something else or of another format version.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; a packed data set is a folder with a dataset.json")
    try:
        description = json.loads((path / "dataset.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: not a packed data set: no dataset.json") from error
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path}: not a packed data set: dataset.json cannot be read ({error})") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise UserError(f"{path}: not a packed data set: its dataset.json is of something else")
    if description.get("version") != FORMAT_VERSION:
        found = description.get("version")
        raise UserError(f"{path}: packed in format {found}, this imago reads {FORMAT_VERSION}; pack the data again")
    return description


def file_checksum(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    digest = hashlib.sha256()  # the processor has instructions for it; twice as fast as BLAKE2b
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def file_checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Name → SHA-256 of files in a folder; several at once, since hashing lets other threads run."""
    ordered = sorted(names)
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:
        return dict(zip(ordered, pool.map(file_checksum, [folder / name for name in ordered]), strict=True))


def pack_checksum(description: dict[str, Any]) -> str:
    """Of everything that dataset.json says, the files' checksums included, but for this checksum itself."""
    content = {key: value for key, value in description.items() if key != "checksum"}
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()
