"""Any folder or zip of images."""

import difflib
import hashlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from imago.data.archives import SharedZip
from imago.data.sources.decoding import decode
from imago.data.sources.source import Item, UnreadableImageError
from imago.errors import UserError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

_LARGEST_FILE = 1 << 30  # bytes; a member that claims more is a mistake or an attack


def natural_key(name: str) -> tuple[object, ...]:
    """Sorts as people count: "a2" before "a10", folder by folder, without regard to case (ties by the exact name)."""
    parts = []
    for part in name.split("/"):
        pieces = re.split(r"([0-9]+)", part.casefold())
        # Odd pieces are digits. Length without zeros, then the digits: integer order for numbers of any length.
        parts.append([(len(p.lstrip("0")), p.lstrip("0")) if i % 2 else (0, p) for i, p in enumerate(pieces)])
    return (parts, name)


class FolderSource:
    """All images of a folder (with its subfolders) or of a zip, in natural order of their names.

    Hidden files and folders and what macOS adds to zips are left out, and so are files with other endings. See
    :func:`imago.data.sources.decoding.decode` for what is done to colours, transparency and orientation.

    Args:
        path: A folder or a zip file; ``~`` is expanded.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA) channels of the items' images.
        background: RGB colour shown through transparent images where channels < 4.
        minimum_side: Images with a smaller side are unreadable.

    Raises:
        UserError: `path` does not exist, is neither a folder nor a whole zip, or holds no images.
    """

    def __init__(
        self,
        path: str | Path,
        channels: int = 3,
        background: tuple[int, int, int] = (255, 255, 255),
        minimum_side: int = 8,
    ) -> None:
        if channels not in (1, 3, 4):
            raise UserError(f"channels={channels}: must be 1 (grey), 3 (RGB) or 4 (RGBA)")
        if len(background) != 3 or not all(0 <= value <= 255 for value in background):
            raise UserError(f"background={tuple(background)}: must be three values from 0 to 255")
        self.path = Path(path).expanduser().absolute()
        self.channels = channels
        self.background = (int(background[0]), int(background[1]), int(background[2]))
        self.minimum_side = minimum_side
        self._zip: SharedZip | None = None
        if self.path.is_dir():
            self.name = self.path.name
            found = list(_images_below(self.path))
        elif self.path.exists():
            self.name = self.path.stem
            self._zip = _open_zip(self.path)
            found = [info.filename for info in self._zip.archive.infolist() if _is_image(info.filename)]
        else:
            raise UserError(f"{path}: no such folder or zip{_suggestion(self.path)}")
        if not found:
            kind = "zip" if self._zip else "folder"
            raise UserError(f"{path}: no images in this {kind}; accepted endings: {' '.join(ENDINGS)}")
        self.names = sorted(found, key=natural_key)

    def __len__(self) -> int:
        return len(self.names)

    def fingerprint(self) -> str:
        """Hash of the reading parameters, the names, and for each file its size and CRC (zip) or time (folder).

        The path is not part of it: a moved zip is the same source. The files of a folder are not read, so a copy
        that does not keep their times is another source.
        """
        digest = hashlib.blake2b(digest_size=16)
        parameters = {"channels": self.channels, "background": self.background, "minimum_side": self.minimum_side}
        digest.update(json.dumps(parameters, sort_keys=True).encode())
        for name in self.names:
            if self._zip:
                info = self._zip.archive.getinfo(name)
                stamp = [name, info.file_size, info.CRC]
            else:
                status = (self.path / name).stat()
                stamp = [name, status.st_size, status.st_mtime_ns]
            digest.update(json.dumps(stamp).encode())
        return digest.hexdigest()

    def read(self, index: int) -> Item:
        """Reads and decodes one image; see :meth:`imago.data.sources.source.Source.read`."""
        name = self.names[index]
        try:
            image = decode(self._content(name), self.channels, self.background, self.minimum_side)
        except UnreadableImageError as error:
            raise UnreadableImageError(error.reason, name) from error
        return Item(image, name)

    def _content(self, name: str) -> bytes:
        try:
            if self._zip:
                size = self._zip.archive.getinfo(name).file_size
            else:
                size = (self.path / name).stat().st_size
            if size > _LARGEST_FILE:
                raise UnreadableImageError(f"file of {size:,} bytes")
            return self._zip.read(name) if self._zip else (self.path / name).read_bytes()
        # A damaged member, no permission, a vanished file, an encrypted member, an unknown compression, its decoder.
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, zlib.error, EOFError) as error:
            raise UnreadableImageError(str(error) or type(error).__name__) from error


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    if name.endswith("/") or any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
        return False
    return path.suffix.lower() in ENDINGS


def _images_below(folder: Path) -> Iterator[str]:
    """Names of the images relative to `folder`, with forward slashes. Links are followed, each folder is seen once."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error

    seen = set()
    for root, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        status = os.stat(root)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        for file in files:
            name = (Path(root) / file).relative_to(folder).as_posix()
            if _is_image(name) and (Path(root) / file).is_file():
                yield name


def _open_zip(path: Path) -> SharedZip:
    if not path.is_file():
        raise UserError(f"{path}: neither a folder nor a zip file")
    shared = SharedZip(path)
    try:
        shared.archive.infolist()
    except zipfile.BadZipFile as error:
        if path.suffix.lower() == ".zip":
            raise UserError(f"{path}: broken zip ({error}); copy or download it again") from error
        raise UserError(f"{path}: neither a folder nor a zip of images") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror})") from error
    return shared


def _suggestion(path: Path) -> str:
    """What may have been meant, for the end of an error message; may be empty."""
    parent = path.parent
    if not parent.is_dir():
        return f" (nor a folder {parent})"
    try:
        names = os.listdir(parent)
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(str(parent / name) for name in close)}?" if close else ""
