"""Writes a packed data set so that it can be killed at any moment and continued later.

Pixels are appended to the files of the pack; from time to time the files are synced and then one line is added to
``journal.jsonl`` that says how far they are whole. To continue, the files are cut back to the journal's last whole
line. All names are within a ``.partial`` folder, and ``dataset.json`` is the last file written to it.
"""

import json
import logging
import os
import shutil
import time
import zipfile
import zlib
from array import array
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from imago.atomic import sync_folder
from imago.data.archives import stored_member, write_directory
from imago.data.labels import LabelTable
from imago.data.pack_format import (
    FORMAT,
    FORMAT_VERSION,
    LEFT_OUT,
    NAMES,
    file_checksums,
    member_name,
    pack_checksum,
)
from imago.data.preparation import Prepared
from imago.data.tables import table_text
from imago.errors import UserError

logger = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
COMMIT_SECONDS = 2.0  # work lost when the process is killed; syncing more often would slow small images down
_COUNTS = ("entries", "kept", "skipped", "upsampled", "name_bytes")  # of a record
_HEADER_BYTES = 128  # of every .npy file here, room for any count


@dataclass
class _Level:
    name: str  # of the file
    shape: tuple[int, int, int]  # (H, W, C)
    members: "array[int]" = field(default_factory=lambda: array("Q"))  # of a zip: CRC, size, CRC, size …
    size: int = 0  # bytes written

    @property
    def zipped(self) -> bool:
        return self.name.endswith(".zip")


class _Members(Sequence[zipfile.ZipInfo]):
    """The members of a zip, each made when it is asked for: 16 bytes a member, not a thousand."""

    def __init__(self, numbers: "array[int]") -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers) // 2

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return stored_member(member_name(index), self._numbers[2 * index], self._numbers[2 * index + 1])


class PackWriter:
    """Writes into `folder`, continuing what an earlier writer of the same `identity` left there.

    Use as a context manager: ``position`` says which entry of the source comes next; :meth:`append` them, then
    :meth:`finish`.

    Args:
        folder: The ``.partial`` folder.
        identity: All that the content depends on, as JSON values.
        shapes: Height → ``(H, W, C)`` of each level.
        zip_from: Heights from which levels are zips of PNGs.

    Raises:
        UserError: `folder` holds something that is not an interrupted pack.
    """

    def __init__(
        self, folder: Path, identity: dict[str, Any], shapes: dict[int, tuple[int, int, int]], zip_from: int
    ) -> None:
        self.folder = folder
        self.identity = json.loads(json.dumps(identity))  # as it will be read back
        self.levels = {
            height: _Level(f"pixels_{height:04d}.{'zip' if height >= zip_from else 'npy'}", shape)
            for height, shape in shapes.items()
        }
        self._clear()
        self._open_files = ExitStack()
        self._files: dict[str, IO[bytes]] = {}
        self._journal: IO[bytes] | None = None

    def _clear(self) -> None:
        self.position = self.kept = self.skipped = self.upsampled = 0
        self.left_out: list[tuple[str, str]] = []
        self._name_bytes = 0
        self._labels = LabelTable()
        self._landmarks = False  # whether landmarks.npy exists: from the first item that has some
        for level in self.levels.values():
            level.members, level.size = array("Q"), 0 if level.zipped else _HEADER_BYTES
        self._pending = _empty_record()
        self._committed_at = time.monotonic()

    def __enter__(self) -> "PackWriter":
        if self.folder.exists() and not self._resume():
            shutil.rmtree(self.folder)
            self._clear()
        self.folder.mkdir(exist_ok=True)
        self._journal = self._open_files.enter_context(open(self.folder / JOURNAL, "ab"))
        if self._journal.tell() == 0:
            self._write_line(self.identity)
        for name, size in self._sizes().items():
            self._open(name, size)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open_files.close()

    def _sizes(self) -> dict[str, int]:
        sizes = {level.name: level.size for level in self.levels.values()} | {NAMES: self._name_bytes}
        if self._landmarks:
            sizes["landmarks.npy"] = _HEADER_BYTES + self.kept * 68 * 2 * 4
        return sizes

    def _open(self, name: str, size: int) -> None:
        path = self.folder / name
        path.touch()
        file = self._open_files.enter_context(open(path, "r+b"))  # noqa: SIM115 — closed in __exit__
        file.truncate(size)
        file.seek(size)
        self._files[name] = file

    def _resume(self) -> bool:
        """Restores the state that the journal records; False where it is another pack's or does not fit the files."""
        try:
            lines = (self.folder / JOURNAL).read_bytes().splitlines(keepends=True)
        except FileNotFoundError as error:
            if any(self.folder.iterdir()) and not (self.folder / "dataset.json").is_file():
                raise UserError(f"{self.folder}: exists and is not an interrupted pack; move it away") from error
            return False
        whole = 0
        for line in lines:
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                record = None
            if record is None or (whole == 0 and record != self.identity):
                break
            if whole > 0:
                self._apply(record)
            whole += len(line)
        if whole == 0:
            return False
        for name, size in self._sizes().items():
            path = self.folder / name
            if self.kept and (not path.is_file() or path.stat().st_size < size):
                logger.warning("%s: the interrupted pack is damaged (%s); starting over", self.folder, name)
                return False
        os.truncate(self.folder / JOURNAL, whole)
        return True

    def _apply(self, record: dict[str, Any]) -> None:
        """Moves the state on by one record of the journal."""
        self.position += record["entries"]
        self.skipped += record["skipped"]
        self.upsampled += record["upsampled"]
        self.left_out += [(name, reason) for name, reason in record["left_out"]]
        self._name_bytes += record["name_bytes"]
        self._landmarks |= record["landmarks"]
        columns = record["labels"]
        rows = [{name: values[i] for name, values in columns.items()} for i in range(record["kept"])]
        self._labels.extend(rows)
        for height, members in record["members"].items():
            level = self.levels[int(height)]
            for crc, size in members:
                member = stored_member(member_name(len(level.members) // 2), crc, size)
                level.members.extend((crc, size))
                level.size += len(member.FileHeader()) + size
        self.kept += record["kept"]
        for level in self.levels.values():
            if not level.zipped:
                level.size = _HEADER_BYTES + self.kept * int(np.prod(level.shape))

    def append(self, prepared: Prepared) -> None:
        """Writes the next items; now and then makes them durable."""
        kept = len(prepared.labels)
        record: dict[str, Any] = {
            "entries": prepared.entries,
            "kept": kept,
            "skipped": prepared.skipped,
            "upsampled": prepared.upsampled,
            "left_out": prepared.left_out,
            "name_bytes": 0,
            "landmarks": bool(np.isfinite(prepared.landmarks).any()),
            "labels": _columns(prepared.labels),
            "members": {},
        }
        for height, level in self.levels.items():
            file, images = self._files[level.name], prepared.levels[height]
            if isinstance(images, np.ndarray):
                file.write(np.ascontiguousarray(images).data)
                continue
            record["members"][str(height)] = [[zlib.crc32(png), len(png)] for png in images]
            for i, (png, (crc, size)) in enumerate(zip(images, record["members"][str(height)], strict=True)):
                file.write(stored_member(member_name(self.kept + i), crc, size).FileHeader())
                file.write(png)
        # JSON strings, because names may hold line breaks and bytes that are no UTF-8.
        names = "".join(f"{json.dumps(name)}\n" for name in prepared.names).encode()
        record["name_bytes"] = self._files[NAMES].write(names)
        if record["landmarks"] and not self._landmarks:
            self._open("landmarks.npy", _HEADER_BYTES)
            self._files["landmarks.npy"].write(np.full((self.kept, 68, 2), np.nan, "<f4").tobytes())
        if "landmarks.npy" in self._files:
            self._files["landmarks.npy"].write(prepared.landmarks.astype("<f4").tobytes())
        self._apply(record)
        _join(self._pending, record)
        if time.monotonic() - self._committed_at >= COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Makes all that was appended durable, pixels first, then the line of the journal that vouches for them."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        if self._pending["entries"]:
            self._write_line(self._pending)
        self._pending = _empty_record()
        self._committed_at = time.monotonic()

    def _write_line(self, value: dict[str, Any]) -> None:
        assert self._journal is not None
        self._journal.write(json.dumps(value).encode() + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def write_left_out(self) -> Path:
        """Writes the list of entries without an image and returns where it is."""
        path = self.folder / LEFT_OUT
        write_durably(path, [table_text([("name", "reason"), *self.left_out])])
        return path

    def finish(self, about: dict[str, Any]) -> None:
        """Completes the files and writes ``dataset.json``: what `about` says, and what only the writer knows."""
        self.commit()
        for level in self.levels.values():
            if level.zipped:
                write_directory(self._files[level.name], _Members(level.members))
            else:
                self._write_header(level.name, "|u1", (self.kept, *level.shape))
        if self._landmarks:
            self._write_header("landmarks.npy", "<f4", (self.kept, 68, 2))
        names = list(self._sizes())
        columns, labels = self._labels.finish()
        if labels is not None:
            header = _npy_header("<i2", labels.shape)
            write_durably(self.folder / "labels.npy", [header, labels.astype("<i2").tobytes()])
            names.append("labels.npy")
        if self.left_out:
            names.append(self.write_left_out().name)
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        description = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            **about,
            "count": self.kept,
            "unreadable": len(self.left_out),
            "skipped": self.skipped,
            "upsampled": self.upsampled,
            "label_columns": [{"name": name, "values": values} for name, values in columns],
            "checksums": file_checksums(self.folder, names),
        }
        description["checksum"] = pack_checksum(description)
        temporary = self.folder / "dataset.json.new"
        write_durably(temporary, [json.dumps(description, indent=1).encode() + b"\n"])
        os.replace(temporary, self.folder / "dataset.json")
        (self.folder / JOURNAL).unlink()
        sync_folder(self.folder)

    def _write_header(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        self._files[name].seek(0)
        self._files[name].write(_npy_header(dtype, shape))


def _npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Header of a .npy file, version 1.0, of a fixed length, so that it can be written when the count is known."""
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape})
    return (
        b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little") + f"{text:<{_HEADER_BYTES - 11}}\n".encode()
    )


def _empty_record() -> dict[str, Any]:
    counts = dict.fromkeys(_COUNTS, 0)
    return {**counts, "left_out": [], "landmarks": False, "labels": {}, "members": {}}


def _columns(rows: list[dict[str, str] | None]) -> dict[str, list[str]]:
    """Rows of labels as columns: names written once, which keeps the journal small. Unknown values are empty."""
    names = dict.fromkeys(name for row in rows for name in row or {})
    return {name: [(row or {}).get(name, "") for row in rows] for name in names}


def _join(record: dict[str, Any], more: dict[str, Any]) -> None:
    """Adds the record of the next items to `record`."""
    for name in {**record["labels"], **more["labels"]}:
        values = record["labels"].setdefault(name, [""] * record["kept"])
        values += more["labels"].get(name, [""] * more["kept"])
    for height, members in more["members"].items():
        record["members"].setdefault(height, []).extend(members)
    record["landmarks"] |= more["landmarks"]
    for key in _COUNTS:
        record[key] += more[key]
    record["left_out"] += more["left_out"]


def write_durably(path: Path, blocks: Iterable[bytes]) -> None:
    """Writes a file that is whole on the disk when this returns."""
    with open(path, "wb") as file:
        for block in blocks:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
