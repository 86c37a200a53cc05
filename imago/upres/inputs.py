"""What is to be up-resolved: pictures, folders of them, films; where each result goes; and what failed."""

import glob
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imago.data.sources.file_tree import IMAGE_ENDINGS, FileTree, natural_key, suggestion
from imago.errors import UserError

FILM_INPUT_ENDINGS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".gif")


@dataclass(frozen=True)
class InputFile:
    """One file to be up-resolved.

    Attributes:
        path: Where it lies.
        name: As it is told to the user: the path within the given folder, or the file's name.
        target: Where the result goes.
    """

    path: Path
    name: str
    target: Path

    @property
    def is_film(self) -> bool:
        return self.path.suffix.lower() in FILM_INPUT_ENDINGS


@dataclass(frozen=True)
class Inputs:
    """What was found.

    Attributes:
        files: To be done, in natural order within each input, the inputs in the order in which they were given.
        existing: Results that are there already and are left alone.
    """

    files: tuple[InputFile, ...]
    existing: tuple[Path, ...] = ()


def find_inputs(
    given: str | Path | Sequence[str | Path],
    out: str | Path,
    ending: str = ".png",
    *,
    film_ending: str = ".mp4",
    skip_existing: bool = False,
) -> Inputs:
    """The files that an input means, and for each where its result goes.

    A folder means all pictures in it and below. Hidden files and folders, and whatever has no picture's ending
    (``desktop.ini``, ``Thumbs.db``), are left out, and so are the results in `out` where that lies in the folder. A
    file is taken as it is given, whatever its ending. ``*``, ``?`` and ``**`` are patterns where no file has that name.

    Results keep the subfolders of the folder given; of several folders, each goes into a subfolder of its own name.
    Where two files would give the same result, ``a.jpg`` and ``a.png``, both keep their ending in its name:
    ``a_jpg.png`` and ``a_png.png``; a number tells apart what is still the same.

    Args:
        given: A picture, a film, a folder or a pattern, or several; ``~`` is expanded.
        out: The folder for results.
        ending: Of the pictures written, with the dot.
        film_ending: Of the films written, with the dot; "" for a folder of frames.
        skip_existing: Leave out files whose result is there.

    Raises:
        UserError: Nothing there, a folder without pictures, `out` is an input folder, or a result would overwrite an
            input.
    """
    out = Path(out).expanduser()
    several = [given] if isinstance(given, str | Path) else list(given)
    paths = [path for entry in several for path in _expanded(entry)]
    folders = sum(path.is_dir() for path in paths)
    found: dict[Path, tuple[str, Path]] = {}  # real path → name, and the result's path within `out`, with its ending
    for path in paths:
        for file, name in _files_of(path, out):
            inside = Path(path.resolve().name) / name if path.is_dir() and folders > 1 else Path(name)
            found.setdefault(file.resolve(), (name, inside))
    if not found:
        raise UserError(f"input={given}: nothing to do; no pictures are given")
    wanted = {}
    for real, (_, inside) in found.items():
        film = real.suffix.lower() in FILM_INPUT_ENDINGS
        wanted[real] = (inside, film_ending if film else ending)
    targets = {real: out / place for real, place in _told_apart(wanted).items()}
    for real, target in targets.items():
        if target.resolve() in found:
            raise UserError(f"{target}: would be overwritten by the result of {real.name}; give another folder as out=")
    files = tuple(InputFile(real, name, targets[real]) for real, (name, _) in found.items())
    if not skip_existing:
        return Inputs(files)
    return Inputs(
        tuple(file for file in files if not file.target.exists()),
        tuple(file.target for file in files if file.target.exists()),
    )


def _expanded(entry: str | Path) -> list[Path]:
    path = Path(entry).expanduser()
    if path.exists():
        return [path]
    if any(mark in str(path) for mark in "*?["):
        matches = sorted(glob.glob(str(path), recursive=True), key=natural_key)
        if not matches:
            raise UserError(f"input={entry}: no file fits this pattern")
        return [Path(match) for match in matches]
    raise UserError(f"input={entry}: no such file or folder{suggestion(path.absolute())}")


def _files_of(path: Path, out: Path) -> Iterable[tuple[Path, str]]:
    """The files of an input, each with its name."""
    if not path.is_dir():
        return [(path, path.name)]
    if out.resolve() == path.resolve():
        raise UserError(f"out={out} is the folder of the pictures: the next run would take the results for pictures")
    results = os.path.join(out.resolve(), "")
    names = FileTree(path).images()
    if results.startswith(os.path.join(path.resolve(), "")):
        names = [name for name in names if not str((path / name).resolve()).startswith(results)]
    if not names:
        raise UserError(f"input={path}: no pictures in this folder; accepted endings: {' '.join(IMAGE_ENDINGS)}")
    return [(path / name, name) for name in names]


def _told_apart(wanted: dict[Path, tuple[Path, str]]) -> dict[Path, Path]:
    """A path for each result, no two the same even where upper and lower case are."""

    def plain(place: Path, ending: str) -> Path:
        return place.with_name(place.stem + ending)

    def with_ending(place: Path, ending: str) -> Path:
        return place.with_name(f"{place.stem}_{place.suffix[1:]}{ending}" if place.suffix else place.name + ending)

    claims: dict[str, list[Path]] = defaultdict(list)
    for real, request in wanted.items():
        claims[str(plain(*request)).casefold()].append(real)
    result: dict[Path, Path] = {}
    taken: set[str] = set()
    for alone in (True, False):  # first those whose name nobody else wants, so that they keep it
        for reals in claims.values():
            if (len(reals) == 1) != alone:
                continue
            for real in reals:
                target = plain(*wanted[real]) if alone else with_ending(*wanted[real])
                number = 2
                first = target
                while str(target).casefold() in taken:
                    target, number = first.with_name(f"{first.stem}_{number}{first.suffix}"), number + 1
                taken.add(str(target).casefold())
                result[real] = target
    return result
