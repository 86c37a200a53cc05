"""Data sets as people have them, packed on first use."""

import hashlib
import inspect
import logging
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from datamodules.packed import PackedDataModule
from datamodules.progress import PreparationProgress
from imago.data.pack_format import is_packed
from imago.data.packed import PackedDataset
from imago.data.packing import cached_pack, default_cache
from imago.data.scoring import keep_best, score
from imago.data.sources.build import build_source, find_reader
from imago.data.sources.drawn import DrawnPortraits
from imago.data.sources.recipes import ALL_IMAGES, CELEBA_HQ_LIKE
from imago.data.sources.source import Source
from imago.errors import UserError

logger = logging.getLogger("imago")


class PreparingDataModule(PackedDataModule, ABC):
    """A pack that is made on first use, on one process while the others wait.

    Args:
        cache: Where packs are kept; None: the default cache.
        pack_workers: Processes while packing; None: one per core.
        zip_from: Levels from this height on are stored as PNGs.
        png_level: Compression of the PNGs, 0 to 9.
        max_unreadable: Larger share of unreadable files is an error.
        **options: See :class:`PackedDataModule`.
    """

    def __init__(
        self,
        cache: str | None = None,
        pack_workers: int | None = None,
        zip_from: int = 256,
        png_level: int = 1,
        max_unreadable: float = 0.01,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if pack_workers is not None and pack_workers < 1:
            raise UserError(f"data.pack_workers={pack_workers} must not be below 1")
        if not 0 <= max_unreadable <= 1:
            raise UserError("data.max_unreadable is a share: it must lie in [0, 1]")
        self.cache = Path(cache).expanduser() if cache else None
        self.pack_workers = pack_workers or len(os.sched_getaffinity(0))
        self.zip_from = zip_from
        self.png_level = png_level
        self.max_unreadable = max_unreadable

    @abstractmethod
    def source(self) -> Source:
        """What to pack."""

    def check(self) -> None:
        super().check()
        self.source()

    def open_dataset(self) -> PackedDataset:
        source = self.source()
        with PreparationProgress(f"packing {source.name}") as progress:
            return cached_pack(
                source,
                self.cache,
                resolution=self.resolution,
                base=self.base,
                channels=self.channels,
                zip_from=self.zip_from,
                png_level=self.png_level,
                max_unreadable=self.max_unreadable,
                workers=self.pack_workers,
                progress=progress,
            )


class DrawnPortraitsDataModule(PreparingDataModule):
    """Portraits drawn by imago itself.

    Args:
        count: How many.
        drawing_seed: Which.
        size: They are drawn at least at this size, and larger if the run needs it.
        **options: See :class:`PreparingDataModule`.
    """

    def __init__(self, count: int, drawing_seed: int, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.count = count
        self.drawing_seed = drawing_seed
        self.size = size

    def source(self) -> Source:
        return DrawnPortraits(self.count, max(self.size, self.resolution), self.drawing_seed)


class SourceDataModule(PreparingDataModule):
    """Any of the readers in :mod:`imago.data.sources`.

    Args:
        reader: The reader's class, "package.module.Class".
        root: Where the data lie.
        path: The same as `root`; or a pack that prepare.py made of them, which is then used as it is.
        keep: A list of what to keep; see :func:`imago.data.sources.subset.keep_listed`.
        keep_best: Keep only this many, the best by :mod:`imago.data.quality`.
        **options: Of the reader, and of :class:`PreparingDataModule`.
    """

    def __init__(
        self,
        reader: str,
        root: str | None = None,
        path: str | None = None,
        keep: str | None = None,
        keep_best: int | None = None,
        **options: Any,
    ) -> None:
        ours = set(_parameters(PackedDataModule)) | set(_parameters(PreparingDataModule))
        # Of Curtó's own synthetic faces it says whether to take them, elsewhere it names packs.
        if options.get("include_synthetic") is False:
            del options["include_synthetic"]
        of_reader = {"include_synthetic"} if options.get("include_synthetic") is True else set()
        super().__init__(**{name: value for name, value in options.items() if name in ours - of_reader})
        if root is not None and path is not None:
            raise UserError(f"data.root={root} and data.path={path} say the same: give one of them")
        if root is None and path is None:
            raise UserError("data.root is needed: add data.root=… (where the data lie) to the command")
        self.reader = reader
        self.root: str = root or path  # type: ignore[assignment]
        self.keep = keep
        self.keep_best = keep_best
        self.reader_options = {name: value for name, value in options.items() if name not in ours - of_reader}
        self._source: Source | None = None

    @property
    def is_packed(self) -> bool:
        """Whether `root` is a pack already."""
        return is_packed(Path(self.root).expanduser())

    def check(self) -> None:
        PackedDataModule.check(self)
        if self.reader_options.get("include_synthetic"):
            self._check_own_synthetic()
        if not self.is_packed:
            self._all()
        elif self.keep is not None or self.keep_best is not None:
            raise UserError(f"data.keep and data.keep_best do not act on {self.root}, which is packed already")

    def _check_own_synthetic(self) -> None:
        """Refuses ``include_synthetic=true`` where no reader acts on it."""
        if self.is_packed:
            raise UserError(
                f"data.include_synthetic=true does not act on {self.root}, which is packed already; give the folder of "
                "a synthetic pack"
            )
        if "include_synthetic" not in inspect.signature(find_reader(self.reader)).parameters:
            name = self.reader.rpartition(".")[2]
            raise UserError(
                f"data.include_synthetic=true: {name} reads no synthetic images of its own, as data=curto does; give "
                "the folder of a synthetic pack"
            )

    def _all(self) -> Source:
        """The source before the best are chosen."""
        if self._source is None:
            options = {"root": self.root, **self.reader_options}
            self._source = build_source(self.reader, options, self.channels, self.keep)
        return self._source

    def source(self) -> Source:
        if self.keep_best is None:
            return self._all()
        source = self._all()
        digest = hashlib.blake2b(source.fingerprint().encode(), digest_size=6).hexdigest()
        folder = (self.cache or default_cache()) / f"scores-{digest}"
        with PreparationProgress(f"scoring {source.name}") as progress:
            scores = score(source, folder, workers=self.pack_workers, progress=progress)
        assert scores is not None  # there is one shard
        return keep_best(source, self.keep_best, scores, str(folder))

    def open_dataset(self) -> PackedDataset:
        dataset = PackedDataset(Path(self.root).expanduser()) if self.is_packed else super().open_dataset()
        if dataset.source == "AlignedFaces":
            logger.info("%s: %s", dataset.name, CELEBA_HQ_LIKE)
        return dataset


class LsunDataModule(SourceDataModule):
    """LSUN, mirrored as in the paper (Karras et al. 2018, appendix G) unless said otherwise.

    Args:
        mirror: None: all categories but bedroom and dog, of which the paper used all images, unmirrored.
        **options: See :class:`SourceDataModule`.
    """

    def __init__(self, mirror: bool | None = None, **options: Any) -> None:
        if mirror is None:
            mirror = options.get("category") not in ALL_IMAGES
        super().__init__(mirror=mirror, **options)


def _parameters(cls: type) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name != "options"]
