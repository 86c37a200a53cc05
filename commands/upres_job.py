"""What all kinds of up-resolution share: the stages, the search for faces, the files."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from commands.upres_options import checkpoints_of
from conf.upres_schema import UpresConfig
from imago import __version__
from imago.faces.finding import LandmarkFinder
from imago.faces.guide import draw_guide
from imago.faces.landmarks import Face
from imago.images import save_image
from imago.picture_files import write_picture
from imago.upres.chain import ChainResult, Step, portrait_steps, run_steps, scaled_landmarks, whole_steps
from imago.upres.contact_sheet import Shown, StageSheet
from imago.upres.options import TilingOptions
from imago.upres.selection import Choice
from imago.upres.stages import Stage

_IN_MEMORY = 1 << 29  # bytes of a result; larger ones lie in a temporary file
_GUIDE = 1024  # pixels of a guide that is only looked at

Progress = Callable[[int, int, int], None]


@dataclass
class UpresJob:
    """A checked request.

    Attributes:
        cfg: The options.
        stages: Loaded, at least one.
        options: How they go over a picture; the batch becomes smaller where memory runs out.
        finder: Finds faces; None: nobody looks for any.
        out: The folder to write to.
        written: Files, in order.
        sheet: Collects what is shown of every stage.
        shown: The names of the pictures on it.
        told: What was said once already.
    """

    cfg: UpresConfig
    stages: Sequence[Stage]
    options: TilingOptions
    finder: LandmarkFinder | None
    out: Path
    written: list[Path] = field(default_factory=list)
    sheet: StageSheet = field(default_factory=StageSheet)
    shown: list[str] = field(default_factory=list)
    told: set[str] = field(default_factory=set)

    @property
    def face_size(self) -> int:
        """Extent at which a face enters the first stage."""
        return int(self.stages[0].face_size)

    def portrait_steps(self, extent: tuple[int, int]) -> list[Step]:
        """The steps for a picture (height, width) of a face that is framed as in training."""
        return portrait_steps(self.stages, extent, self.cfg.size)

    def whole_steps(self, extent: tuple[int, int], largest: int | None = None) -> list[Step]:
        """The steps for any picture (height, width)."""
        return whole_steps(self.stages, extent, self.cfg.size, largest or self.cfg.largest)

    def enlarge(
        self, picture: Tensor, faces: Sequence[NDArray[np.float64]], steps: Sequence[Step], name: str
    ) -> tuple[NDArray[Any], ChainResult]:
        """Takes a picture through the steps.

        Args:
            picture: float32 ``(3, H, W)`` in [-1, 1].
            faces: Landmarks in its pixels.
            steps: From one of the methods above.
            name: Of the picture, for the progress bar.

        Returns:
            uint8 or uint16 ``(3, H', W')``, and what each step made.
        """
        kind = np.dtype(np.uint16 if self.cfg.bits == 16 else np.uint8)
        self.out.mkdir(parents=True, exist_ok=True)
        result = empty_picture((3, *steps[-1].high), kind, self.out)
        with tile_progress(name, len(steps)) as progress:
            chain = run_steps(steps, picture, faces, self.options, result, progress=progress)
        self.note(chain)
        return result, chain

    def enlarge_frame(
        self, picture: Tensor, faces: Sequence[NDArray[np.float64]], steps: Sequence[Step], choices: Any
    ) -> tuple[Tensor, Sequence[Choice]]:
        """The same for a frame of a film: float32 ``(3, H', W')``, and the choices of variants to be kept."""
        chain = run_steps(steps, picture, faces, self.options, choices=choices)
        self.note(chain)
        return chain.pictures[-1], chain.choices

    def note(self, chain: ChainResult) -> None:
        """Tells what went otherwise than asked, once, and goes on with the batch that fitted."""
        batch = min(report.batch for report in chain.reports)
        if any(report.halvings for report in chain.reports):
            self.options = replace(self.options, batch=max(1, min(batch, self.options.batch)))
            self.tell_once(f"memory ran out: going on with tiling.batch={self.options.batch}")
        if any(report.redone for report in chain.reports):
            self.tell_once(f"some tiles were not finite in {self.cfg.precision} and were made again in float32")

    def tell_once(self, message: str) -> None:
        """Prints a line that is not to be repeated for every picture."""
        if message not in self.told:
            self.told.add(message)
            print(message)

    def tell_left_out(self, there: int, count: int) -> None:
        """Tells what was left out because it is there."""
        if there:
            print(f"{there} of {count} results are in {self.out} already and are left out (skip_existing=true)")

    def tell_landmarks(self, unit: str) -> None:
        """Prints how often landmarks were found.

        Args:
            unit: What was looked at, in the plural.
        """
        if self.finder is not None and self.finder.pictures:
            print(self.finder.summary(unit))

    def find(self, image: NDArray[np.uint8]) -> list[Face]:
        """The faces of a picture, uint8 ``(H, W, 3)``, the most prominent first."""
        return [] if self.finder is None else self.finder.faces(image)

    def show(self, path: Path, picture: Tensor, faces: Sequence[NDArray[np.float64]], chain: ChainResult) -> None:
        """Puts a picture on the contact sheet, if there is to be one.

        Args:
            path: Of the result.
            picture: What went in, ``(3, H, W)`` in [-1, 1].
            faces: Landmarks in its pixels.
            chain: What came out.
        """
        if not self.cfg.contact_sheet:
            return
        height, width = picture.shape[1:]
        name = path.relative_to(self.out).with_suffix("").as_posix()
        row = [Shown(f"{name}, {width}×{height}", picture, detail=True)]
        if self.finder is not None:
            row.append(Shown(f"guide, {len(faces)} face{'s' * (len(faces) != 1)}", _guide(faces, (height, width))))
        for number, made in enumerate(chain.pictures, start=1):
            row.append(Shown(f"stage {number}, {made.shape[2]}×{made.shape[1]}", made, detail=True))
        eye = [faces[0][36:42].mean(axis=0) + 0.5] if faces else []
        self.sheet.add(row, *((float(x) / width, float(y) / height) for x, y in eye))
        self.shown.append(name)

    def write_sheet(self) -> None:
        """Writes the contact sheet, if there is anything to show: ``<name>-stages.png`` of a single picture."""
        if not self.shown:
            return
        name = f"{self.shown[0]}-stages.png" if len(self.shown) == 1 else "contact-sheet.png"
        path = save_image(self.out / name, self.sheet.picture())
        self.written.append(path)
        more = f"; {self.sheet.left_out} more pictures are not on it" if self.sheet.left_out else ""
        print(f"wrote {path}: every stage{more}")

    def write(self, path: Path, pixels: NDArray[Any], metadata: Mapping[str, object], **carried: Any) -> Path:
        """Writes a picture ``(H, W, C)`` with its dots per inch and how it was made.

        Args:
            path: The file.
            pixels: uint8 or uint16.
            metadata: What is particular to this picture.
            carried: ``icc_profile`` and ``exif`` of what it was made from.
        """
        texts = {**metadata, **self.metadata}
        path = write_picture(path, pixels, bits=self.cfg.bits, dpi=self.cfg.dpi, metadata=texts, **carried)
        self.written.append(path)
        return path

    @property
    def metadata(self) -> dict[str, object]:
        """How all pictures of this job were made."""
        tiling = self.options
        variants = f", {tiling.combine} of {' and '.join(tiling.variants)}" if len(tiling.variants) > 1 else ""
        return {
            "Software": f"imago {__version__}",
            "stages": ", ".join(checkpoints_of(self.cfg)),
            "tiling": f"stride {tiling.stride or 'of half a tile'}, colour {tiling.colour:g}{variants}",
        }


def _guide(faces: Sequence[NDArray[np.float64]], extent: tuple[int, int]) -> Tensor:
    """The guide of a picture (height, width) in colours, in [-1, 1], no larger than anybody looks at."""
    scale = min(1.0, _GUIDE / max(extent))
    small = max(1, round(extent[0] * scale)), max(1, round(extent[1] * scale))
    return draw_guide(scaled_landmarks(faces, extent, small), small) * 2 - 1


def extents_text(steps: Sequence[Step], extent: tuple[int, int]) -> str:
    """``128×128 → 768×768 → 4096×4096``: width before height, as people say it."""
    return " → ".join(f"{width}×{height}" for height, width in [extent, *(step.high for step in steps)])


def empty_picture(shape: tuple[int, ...], kind: np.dtype[Any], folder: Path) -> NDArray[Any]:
    """An array for a result: in memory, or if it is large in a file of the folder, which is gone with the array."""
    if int(np.prod(shape)) * kind.itemsize <= _IN_MEMORY:
        return np.empty(shape, kind)
    with tempfile.TemporaryFile(dir=folder) as file:  # the map keeps it alive
        return np.memmap(file, kind, "w+", shape=shape)


def finished(planes: NDArray[Any], alpha: NDArray[Any] | None = None, grey: bool = False) -> NDArray[Any]:
    """A result as the file holds it.

    Args:
        planes: uint8 or uint16 ``(3, H, W)``.
        alpha: float32 ``(h, w)`` in [0, 1], of any extent; enlarged by bicubic interpolation.
        grey: One channel, the mean of the three; three equal ones with transparency.

    Returns:
        ``(H, W, C)``, C = 1, 3 or 4.
    """
    if grey:
        means = np.empty(planes.shape[1:], planes.dtype)
        for row, values in enumerate(planes.swapaxes(0, 1)):
            means[row] = np.rint(values.mean(axis=0, dtype=np.float32))
        planes = means[None] if alpha is None else np.broadcast_to(means, planes.shape)
    if alpha is None:
        return planes.transpose(1, 2, 0)
    large = torch.nn.functional.interpolate(
        torch.from_numpy(alpha)[None, None], size=planes.shape[1:], mode="bicubic", antialias=True
    )[0, 0].clamp(0, 1)
    result = np.empty((*planes.shape[1:], 4), planes.dtype)
    result[..., :3] = planes.transpose(1, 2, 0)
    result[..., 3] = (large * float(np.iinfo(planes.dtype).max)).round().numpy()
    return result


@contextmanager
def tile_progress(name: str, steps: int) -> Iterator[Progress | None]:
    """A progress bar over the tiles of a picture, on a terminal only."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task(name)

        def tell(step: int, done: int, count: int) -> None:
            stage = f", stage {step + 1} of {steps}" if steps > 1 else ""
            bar.update(task, completed=done, total=count, description=f"{name}{stage}")

        yield tell


class Stopwatch:
    """Seconds since it was made, as text."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def __str__(self) -> str:
        seconds = time.perf_counter() - self.start
        return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
