"""LSUN (Yu et al. 2015): one LMDB per category and split, or the folder of files that its tool exports."""

import hashlib
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from imago.data.sources.data_files import fingerprint_of, refuse_web_page, stamps
from imago.data.sources.decoding import decode
from imago.data.sources.file_tree import FileTree, stem_of, suggestion
from imago.data.sources.image_files import ImageFileSource
from imago.data.sources.source import Item, UnreadableImageError
from imago.errors import MissingDependencyError, UserError

SPLITS = ("train", "val", "test")


class LSUN:
    """The images of one category, in the order of the database's keys.

    The order is that of PGGAN's tool, which takes the first 100,000 of each category. Images that cannot be decoded
    (LSUN has some) are unreadable, and count towards `max_images`.

    Args:
        root: The folder of the databases, one database (a folder with a ``data.mdb``), or a folder of exported
            ``.webp`` files, flat or nested; ``~`` is expanded.
        category: "bedroom", "church_outdoor", … Empty where `root` is the database itself or holds only one.
        split: "train" or "val" ("test" has no categories).
        max_images: Take only the first so many; None takes all.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA) channels of the items' images.
        background: RGB colour shown through transparent images.
        minimum_side: Images with a smaller side are unreadable.

    Attributes:
        name: "lsun_<category>_<split>".
        path: The database or the folder that is read.

    Raises:
        UserError: Nothing there, an unknown option, a damaged or truncated database.
        MissingDependencyError: lmdb is not installed.
    """

    layout: ClassVar[str] = "<root>/<category>_train_lmdb/data.mdb (unzipped), or a folder of exported .webp files"

    def __init__(
        self,
        root: str | Path,
        category: str = "",
        split: str = "train",
        max_images: int | None = None,
        channels: int = 3,
        background: Sequence[int] = (255, 255, 255),
        minimum_side: int = 8,
    ) -> None:
        if split not in SPLITS:
            raise UserError(f"split={split!r}: must be one of {', '.join(SPLITS)}")
        if max_images is not None and max_images < 1:
            raise UserError(f"max_images={max_images}: must be at least 1, or null for all")
        self.path = _find(Path(root).expanduser().absolute(), root, category, split)
        self.channels, self.minimum_side = channels, minimum_side
        self.background = (int(background[0]), int(background[1]), int(background[2]))
        self._keys, self._ends = b"", array("q", [0])
        self._files: ImageFileSource | None = None
        if (self.path / "data.mdb").is_file():
            self.name = f"lsun_{self.path.name.removesuffix('_lmdb')}"
            self._read_keys(max_images)
        else:
            self.name = f"lsun_{self.path.name}"
            tree = FileTree(self.path)
            # By file name alone, as the database orders its keys: the folders only repeat their first letters.
            names = sorted(tree.images(), key=lambda name: (os.fsencode(stem_of(name)), name))[:max_images]
            self._files = ImageFileSource(
                tree, names, self.name, channels=channels, background=background, minimum_side=minimum_side
            )
        if not len(self):
            raise UserError(f"{self.path}: holds no images; expected {self.layout}")

    def _read_keys(self, max_images: int | None) -> None:
        keys = bytearray()
        environment = _environment(self.path)
        with environment.begin(buffers=False) as transaction:
            for key in transaction.cursor().iternext(keys=True, values=False):
                if max_images is not None and len(self) >= max_images:
                    break
                keys += key
                self._ends.append(len(keys))
        self._keys = bytes(keys)  # one object for three million keys, which would be 300 MB as a list

    def __len__(self) -> int:
        return len(self._files) if self._files else len(self._ends) - 1

    def _key(self, index: int) -> bytes:
        return self._keys[self._ends[index] : self._ends[index + 1]]

    def item_name(self, index: int) -> str:
        """The key in the database, or the exported file's name."""
        return self._files.item_name(index) if self._files else self._key(index).decode("utf-8", "backslashreplace")

    def fingerprint(self) -> str:
        """Hash of the reading parameters, the keys, and the database's size and time of change."""
        if self._files:
            return self._files.fingerprint()
        parameters = [self.channels, self.background, self.minimum_side]
        keys = hashlib.blake2b(self._keys + self._ends.tobytes(), digest_size=16).hexdigest()
        return fingerprint_of("lsun", parameters, keys, stamps([self.path / "data.mdb"]))

    def read(self, index: int) -> Item:
        """One image; see :meth:`imago.data.sources.source.Source.read`."""
        if self._files:
            return self._files.read(index)
        name = self.item_name(index)
        try:
            with _environment(self.path).begin(buffers=False) as transaction:
                content = transaction.get(self._key(index))
            if content is None:
                raise UnreadableImageError("no longer in the database")
            return Item(decode(content, self.channels, self.background, self.minimum_side), name)
        except UnreadableImageError as error:
            raise UnreadableImageError(error.reason, name) from error


def _find(path: Path, root: str | Path, category: str, split: str) -> Path:
    """The database, or the folder of exported files."""
    if not path.is_dir():
        problem = "a file; unzip it and give the folder" if path.exists() else f"no such folder{suggestion(path)}"
        raise UserError(f"{root}: {problem}; expected {LSUN.layout}")
    if (path / "data.mdb").is_file():
        if category and not path.name.startswith(f"{category}_{split}"):
            raise UserError(f"{root}: this is the database {path.name}, not {category}_{split}_lmdb")
        return path
    held = sorted(folder.parent.name for folder in path.glob("*/data.mdb"))
    if category:
        for name in (f"{category}_{split}_lmdb", f"{category}_{split}", category):
            if (path / name / "data.mdb").is_file() or (name != f"{category}_{split}_lmdb" and (path / name).is_dir()):
                return path / name
        zipped = path / f"{category}_{split}_lmdb.zip"
        hint = f"unzip {zipped.name} first" if zipped.is_file() else f"expected {LSUN.layout}"
        listed = f"; it holds {', '.join(held)}" if held else ""
        raise UserError(f"{root}: no {category}_{split}_lmdb in it{listed}; {hint}")
    of_split = [name for name in held if name.endswith(f"_{split}_lmdb")]
    if len(of_split) == 1:
        return path / of_split[0]
    if held:
        raise UserError(f"{root}: name one with category=…; it holds {', '.join(held)}")
    if any(path.rglob("*.webp")):
        return path
    raise UserError(f"{root}: no LSUN database in it; expected {LSUN.layout}")


# LMDB forbids to open a database twice in one process, so all readers share one; a fork opens its own.
_environments: dict[Path, tuple[int, Any]] = {}


def _environment(path: Path) -> Any:
    """The open database of this process.

    Raises:
        UserError: It is damaged or truncated.
        MissingDependencyError: lmdb is not installed.
    """
    opened = _environments.get(path)
    if opened is None or opened[0] != os.getpid():
        if opened:
            opened[1].close()  # what the fork inherited: its own copies of the handle and the map
        _environments[path] = opened = (os.getpid(), _open(path))
    return opened[1]


def _open(path: Path) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise MissingDependencyError("lmdb", "to read LSUN", extra="formats") from error
    file = path / "data.mdb"
    refuse_web_page(file)
    try:
        environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise UserError(f"{file}: not a whole LMDB database ({error}); download it again") from error
    # Pages beyond the file's end would not raise: reading the memory map there kills the process.
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = file.stat().st_size
    if size < needed:
        environment.close()
        raise UserError(f"{file}: truncated ({size:,} of {needed:,} bytes); download it again")
    return environment
