"""The files of a folder or of a zip, read the same way."""

import difflib
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from imago.data.archives import SharedZip
from imago.data.sources.source import UnreadableImageError
from imago.errors import UserError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

_LARGEST_FILE = 1 << 28  # bytes; a picture that claims more is a mistake or an attack

# A damaged member, no permission, a vanished file, an encrypted member, an unknown compression, its decoder.
_READING_ERRORS = (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, zlib.error, EOFError, KeyError)


def natural_key(name: str) -> tuple[object, ...]:
    """Sorts as people count: "a2" before "a10", folder by folder, without regard to case (ties by the exact name)."""
    parts = []
    for part in name.split("/"):
        pieces = re.split(r"([0-9]+)", part.casefold())
        # Odd pieces are digits. Length without zeros, then the digits: integer order for numbers of any length.
        parts.append([(len(p.lstrip("0")), p.lstrip("0")) if i % 2 else (0, p) for i, p in enumerate(pieces)])
    return (parts, name)


class FileTree:
    """A folder with its subfolders, or a zip; files are named relative to it, with forward slashes.

    Hidden files and folders and what macOS adds to zips are left out. Links are followed, each folder is seen once.
    It may be pickled and forked.

    Args:
        path: A folder or a zip file; ``~`` is expanded.

    Attributes:
        path: Absolute.
        name: The folder's name, or the zip's without its ending.
        is_zip: Whether it is a zip.

    Raises:
        UserError: `path` does not exist, or is neither a folder nor a whole zip.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        self._zip: SharedZip | None = None
        if self.path.is_dir():
            self.name = self.path.name
        elif self.path.exists():
            self.name = self.path.stem
            self._zip = _open_zip(self.path)
        else:
            raise UserError(f"{path}: no such folder or zip{suggestion(self.path)}")

    @property
    def is_zip(self) -> bool:
        return self._zip is not None

    def images(self, below: str = "") -> list[str]:
        """Names of the files with an image's ending, in natural order.

        Args:
            below: A folder within the tree; the whole tree by default. Empty where it does not exist.

        Raises:
            UserError: A folder cannot be read.
        """
        return sorted((name for name in self.files(below) if is_image(name)), key=natural_key)

    def files(self, below: str = "") -> set[str]:
        """Names of all files, whatever their endings.

        Args:
            below: A folder within the tree; the whole tree by default. Empty where it does not exist.

        Raises:
            UserError: A folder cannot be read.
        """
        prefix = f"{below.rstrip('/')}/" if below else ""
        if self._zip:
            # A name that stands twice counts once: the later member, as where it is unpacked.
            members = self._zip.archive.namelist()
            found = {name for name in members if name.startswith(prefix) and not name.endswith("/")}
        else:
            found = set(_files_below(self.path, self.path / below) if (self.path / below).is_dir() else ())
        return {name for name in found if not _is_hidden(name)}

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        if self._zip:
            return name in self._zip.archive.NameToInfo
        return (self.path / name).is_file()

    def stamp(self, name: str) -> list[str | int]:
        """What changes when the file does: its name, size and CRC (zip) or time of change (folder)."""
        if self._zip:
            info = self._zip.archive.getinfo(name)
            return [name, info.file_size, info.CRC]
        status = (self.path / name).stat()
        return [name, status.st_size, status.st_mtime_ns]

    def read(self, name: str) -> bytes:
        """The content of an image file.

        Raises:
            UnreadableImageError: It cannot be read; with the name.
        """
        try:
            if self._zip and (name.startswith("/") or ".." in PurePosixPath(name.replace("\\", "/")).parts):
                raise UnreadableImageError("its path points outside the archive", name)
            if self._zip:
                size = self._zip.archive.getinfo(name).file_size
            else:
                size = (self.path / name).stat().st_size
            if size > _LARGEST_FILE:
                raise UnreadableImageError(f"file of {size:,} bytes", name)
            return self._zip.read(name) if self._zip else (self.path / name).read_bytes()
        except _READING_ERRORS as error:
            raise UnreadableImageError(str(error) or type(error).__name__, name) from error

    def text(self, name: str) -> str:
        """The content of a file of labels or the like, as UTF-8 (a byte order mark is dropped).

        Raises:
            UserError: It is missing, unreadable or not text.
        """
        try:
            return self.read(name).decode("utf-8-sig")
        except (UnreadableImageError, UnicodeDecodeError) as error:
            raise UserError(f"{self.path}: cannot read {name} ({error})") from error

    def where(self, name: str = "") -> str:
        """For messages: the full path, ``archive.zip!name`` within a zip."""
        return f"{self.path}{'!' if self._zip else '/'}{name}" if name else str(self.path)


def is_image(name: str) -> bool:
    """Whether a file's name has an image's ending."""
    return name.lower().endswith(IMAGE_ENDINGS)


def folder_of(name: str) -> str:
    """ "a/b" of "a/b/c.png", "" of "c.png". Like the next ones: PurePosixPath takes seconds for 200,000 names."""
    return name.rpartition("/")[0]


def file_of(name: str) -> str:
    """ "c.png" of "a/b/c.png"."""
    return name.rpartition("/")[2]


def stem_of(name: str) -> str:
    """ "c" of "a/b/c.png"."""
    file = file_of(name)
    stem = file.rpartition(".")[0]
    return stem or file


def is_web_page(start: bytes) -> bool:
    """Whether a file that should be something else is HTML: what a failed download leaves (a quota, a login)."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))


def _is_hidden(name: str) -> bool:
    if "/." not in f"/{name}" and "__MACOSX" not in name:
        return False
    return any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in PurePosixPath(name).parts)


def _files_below(root: Path, folder: Path) -> Iterator[str]:
    """Names of the files below `folder` relative to `root`."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error

    seen = set()
    prefix = os.path.join(root, "")
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        for file in files:
            path = os.path.join(place, file)
            if os.path.isfile(path):
                yield path[len(prefix) :].replace(os.sep, "/")


def _open_zip(path: Path) -> SharedZip:
    if not path.is_file():
        raise UserError(f"{path}: neither a folder nor a zip file")
    shared = SharedZip(path)
    try:
        shared.archive.infolist()
    except zipfile.BadZipFile as error:
        with open(path, "rb") as file:
            if is_web_page(file.read(64)):
                raise UserError(f"{path}: a web page, not a zip: the download failed; download it again") from error
        if path.suffix.lower() == ".zip":
            raise UserError(f"{path}: broken zip ({error}); copy or download it again") from error
        raise UserError(f"{path}: neither a folder nor a zip of images") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror})") from error
    return shared


def suggestion(path: Path) -> str:
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
