"""Label files as data sets ship them: where they lie, and the tables in them, joined by file name later."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from imago.data.sources.file_tree import FileTree, file_of, is_web_page
from imago.data.sources.source import UnreadableImageError
from imago.errors import UserError

_SIDE_FOLDERS = ("", "Anno", "Eval", "labels")  # of the folders around an image folder or a zip


@dataclass(frozen=True)
class LabelFile:
    """A text file and where it lies, for messages."""

    where: str
    text: str

    @property
    def is_csv(self) -> bool:
        return self.where.lower().endswith(".csv")


def find_file(tree: FileTree, files: Iterable[str], *candidates: str) -> tuple[str, bytes] | None:
    """The first of these files that is found: anywhere within the tree, beside it, or beside the folder around it.

    So labels are found wherever the user points: at the data set, at its folder of images, or at a zip of these.

    Args:
        tree: The folder or zip.
        files: The names of its files.
        *candidates: File names without folders.

    Returns:
        Where it is, for messages, and its content.

    Raises:
        UserError: The file is a web page or cannot be read.
    """
    within: dict[str, str] = {}
    for name in files:
        file = file_of(name)
        if file in candidates:
            best = within.get(file)
            if best is None or (name.count("/"), name) < (best.count("/"), best):
                within[file] = name
    for candidate in candidates:
        if candidate in within:
            try:
                return _checked(tree.where(within[candidate]), tree.read(within[candidate]))
            except UnreadableImageError as error:
                raise UserError(f"{tree.where(within[candidate])}: cannot be read ({error.reason})") from error
    around = [tree.path.parent, tree.path.parent.parent]
    for place in (folder / side for folder in around for side in _SIDE_FOLDERS):
        for candidate in candidates:
            if (place / candidate).is_file():
                try:
                    return _checked(str(place / candidate), (place / candidate).read_bytes())
                except OSError as error:
                    raise UserError(f"{place / candidate}: cannot be read ({error.strerror})") from error
    return None


def _checked(where: str, content: bytes) -> tuple[str, bytes]:
    if is_web_page(content[:64]):
        raise UserError(f"{where}: a web page, not labels: the download failed; download it again")
    return where, content


def find_label_file(tree: FileTree, files: Iterable[str], *candidates: str) -> LabelFile | None:
    """Like :func:`find_file`, for text (UTF-8; a byte order mark is dropped).

    Raises:
        UserError: The file is a web page, unreadable or not text.
    """
    found = find_file(tree, files, *candidates)
    if found is None:
        return None
    where, content = found
    try:
        return LabelFile(where, content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: cannot be read as text ({error})") from error


@dataclass(frozen=True)
class Table:
    """Rows by file name.

    Attributes:
        columns: Names of the values; empty where the file has no header.
        rows: (file name, values), in the order of the file. Reading them raises UserError at a misshapen row.
    """

    columns: Sequence[str]
    rows: Iterator[tuple[str, list[str]]]


def read_table(file: LabelFile, headers: int | None = None, width: int | None = None) -> Table:
    """A table in one of the forms of CelebA and its descendants.

    - ``.csv``: a header, commas (Kaggle).
    - A line with the number of rows, a line with the names of the columns, rows parted by spaces (``list_*.txt``).
    - A line with the names of the columns, rows parted by spaces (``CelebA-HQ-to-CelebA-mapping.txt``).
    - Rows parted by spaces only (``list_eval_partition.txt``).

    The first column is the file name; in a header it may be named or not.

    Args:
        file: The file.
        headers: Lines before the rows: 0, 1 or 2; ignored for csv. None: told by the first line.
        width: Values per row; checked where given.

    Raises:
        UserError: The header or, while the rows are read, a row is not as it should be, or rows are missing.
    """
    lines = file.text.splitlines()
    if file.is_csv:
        reader = csv.reader(io.StringIO(file.text))
        columns = next(reader, [])[1:]
        return Table(columns, _rows(file, reader, 2, len(columns) if width is None else width, None))
    if headers is None:
        headers = 2 if lines and lines[0].strip().isdigit() else 0
    expected = None
    if headers == 2:
        if len(lines) < 2 or not lines[0].strip().isdigit():
            raise UserError(f"{file.where}: the first line must be the number of rows, the second the columns' names")
        expected = int(lines[0])
    columns = lines[headers - 1].split() if headers and len(lines) >= headers else []
    if width is None and lines[headers:]:
        width = len(lines[headers].split()) - 1
    if columns and len(columns) == (width or 0) + 1:
        columns = columns[1:]  # the file name's column is named, too
    if columns and width is not None and len(columns) != width:
        raise UserError(f"{file.where}: {len(columns)} columns are named, but the first row has {width} values")
    split = (line.split() for line in lines[headers:])
    return Table(columns, _rows(file, split, headers + 1, width or 0, expected))


def _rows(
    file: LabelFile, rows: Iterable[list[str]], first_line: int, width: int, expected: int | None
) -> Iterator[tuple[str, list[str]]]:
    found = 0
    for line, row in enumerate(rows, first_line):
        if not row:
            continue
        if len(row) != width + 1:
            raise UserError(f"{file.where}, line {line}: {len(row)} values instead of {width + 1}; is the file whole?")
        found += 1
        yield row[0], row[1:]
    if expected is not None and found != expected:
        raise UserError(f"{file.where}: {found} rows, but the first line says {expected}; download it again")
