"""metrics.csv: rows by images_seen that survive kills and resumes.

Lightning's CSVLogger starts its file afresh when a run is resumed; this table drops the rows after the checkpoint that
the run goes on from, and keeps the rest.
"""

import csv
import errno
import io
import os
from collections.abc import Mapping
from pathlib import Path

from imago.atomic import atomic_path

CLOCK = "images_seen"


class CsvTable:
    """A CSV file whose first column is images_seen; new columns may appear later.

    Args:
        path: The file; made when the first row is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self._waiting: list[Mapping[str, float]] = []  # rows that the disk has not taken yet

    def rewind(self, images_seen: int) -> None:
        """Drops the rows of steps after ``images_seen`` and lines that a kill cut short."""
        if not self.path.exists():
            return
        rows = [row for row in read_rows(self.path) if float(row[CLOCK]) <= images_seen]
        self._rewrite(rows, list(rows[0]) if rows else [])

    def add(self, row: Mapping[str, float]) -> None:
        """Appends a row; it must hold ``images_seen``.

        Raises:
            OSError: The disk is full or not writable. The row is kept and written with the next one.
        """
        self._waiting.append(row)
        missing = [key for key in row if key not in self.columns]
        if missing:
            rows = read_rows(self.path) if self.columns else []
            self._rewrite(rows, [*self.columns, *missing])
        with open(self.path, "ab", buffering=0) as file:
            while self._waiting:
                text = io.StringIO()
                waiting = self._waiting[0]
                csv.writer(text).writerow([_format(waiting[key]) if key in waiting else "" for key in self.columns])
                _write_whole(file, text.getvalue().encode())
                del self._waiting[0]

    def _rewrite(self, rows: list[dict[str, str]], columns: list[str]) -> None:
        with atomic_path(self.path) as temporary, open(temporary, "w", newline="") as file:
            if columns:
                writer = csv.DictWriter(file, columns, restval="")
                writer.writeheader()
                writer.writerows(rows)
        self.columns = columns


def read_rows(path: Path) -> list[dict[str, str]]:
    """The whole rows of a table as text; a last line that was cut short is left out."""
    text = path.read_text()
    lines = text[: text.rfind("\n") + 1].splitlines()
    rows = list(csv.DictReader(lines))
    return [row for row in rows if row.get(CLOCK) and None not in row and None not in row.values()]


def _write_whole(file: io.FileIO, line: bytes) -> None:
    """Appends all of a line or nothing: a full disk may take a part of it."""
    end = file.seek(0, io.SEEK_END)
    try:
        written = file.write(line)
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)
    except OSError:
        file.truncate(end)
        raise


def _format(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.7g}"
