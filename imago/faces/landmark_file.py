"""Landmarks that were found before: a CSV file with one face a row."""

import csv
import hashlib
import io
import math
from array import array
from pathlib import Path, PurePosixPath

import numpy as np

from imago.errors import UserError
from imago.faces.landmarks import Face

_LENGTHS = (10, 136)  # numbers in a row: x and y of 5 or of 68 points


class LandmarkFile:
    """Faces by the name of their photo, from a CSV file ``name,x0,y0,x1,y1,…``.

    A row has 68 points, or the five of :func:`imago.faces.landmarks.five_points`, in pixels of the photo with pixel
    centres at integers. Several rows with one name are several faces, in the order of the file; a row with a name and
    no number says that the photo holds no face. A first row that starts with "name" and holds no
    number is a header.

    Args:
        path: The file, UTF-8; ``~`` is expanded.

    Raises:
        UserError: It cannot be read, or a row is neither of these; with the line.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        try:
            content = self.path.read_bytes()
            rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or "not a CSV file in UTF-8"
            raise UserError(f"landmarks_file={self.path}: {reason}") from error
        self.digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        # Four bytes a number: 200,000 faces take 110 MB in each process, as objects several times that.
        self._numbers = array("f")
        self._faces: dict[str, list[tuple[int, int]]] = {}  # name → (place of its first number, how many) of each face
        for line, row in enumerate(rows, start=1):
            if not row or (line == 1 and _is_header(row)):
                continue
            faces = self._faces.setdefault(row[0].strip().replace("\\", "/"), [])
            values = [value for value in row[1:] if value.strip()]
            if values:
                faces.append((len(self._numbers), len(values)))
                self._numbers.extend(self._parsed(values, line))

    def __len__(self) -> int:
        return len(self._faces)

    def faces(self, name: str) -> list[Face] | None:
        """The faces of the photo `name`; None where the file does not mention it.

        The file may give names with their folders, as the source does, or without.
        """
        places = self._faces.get(name, self._faces.get(PurePosixPath(name).name))
        if places is None:
            return None
        numbers = (self._numbers[start : start + count] for start, count in places)
        return [Face.from_landmarks(np.array(values, dtype=np.float64).reshape(-1, 2)) for values in numbers]

    def _parsed(self, values: list[str], line: int) -> list[float]:
        where = f"landmarks_file={self.path}, line {line}"
        if len(values) not in _LENGTHS:
            raise UserError(f"{where}: {len(values)} numbers; need x and y of 68 or of 5 points, 136 or 10 numbers")
        try:
            numbers = [float(value) for value in values]
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
        if not all(math.isfinite(number) for number in numbers):
            raise UserError(f"{where}: a coordinate is not finite; leave out the numbers where there is no face")
        return numbers


def _is_header(row: list[str]) -> bool:
    return row[0].strip().lower() == "name" and not any(_is_number(value) for value in row[1:])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
