"""Small CSV files whose fields are names of files, which may hold anything."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from imago.errors import UserError

# All that some reader takes for the end of a line; csv.writer leaves most of it bare.
_NEEDS_QUOTES = re.compile('[",\\r\\n\\v\\f\\x1c-\\x1e\\x85\u2028\u2029]')


def table_text(rows: Iterable[Sequence[str]]) -> bytes:
    """The rows as a CSV, UTF-8; what is no UTF-8 in a file's name stays as it is there."""
    lines = (",".join(_quoted(field) for field in row) + "\n" for row in rows)
    return "".join(lines).encode("utf-8", "surrogateescape")


def _quoted(field: str) -> str:
    return '"' + field.replace('"', '""') + '"' if _NEEDS_QUOTES.search(field) else field


def read_text(path: Path) -> str:
    """The text of a file; bytes that are no UTF-8, as names of files may hold, become surrogates.

    Raises:
        UserError: It cannot be read, or is no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if b"\0" in content:
        raise UserError(f"{path}: not a text file in UTF-8")
    return content.decode("utf-8-sig", "surrogateescape")


def read_table(path: Path) -> list[list[str]]:
    """The rows of a CSV, by whatever program it was written.

    Raises:
        UserError: It cannot be read, or is no table.
    """
    try:
        return [row for row in csv.reader(io.StringIO(read_text(path), newline="")) if row]
    except csv.Error as error:
        raise UserError(f"{path}: not a table ({error})") from error
