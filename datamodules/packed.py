"""Packed images as an endless stream of batches addressed by images_seen; made from sources on first use."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from imago.data import PackedDataset
from imago.data.packing import cached_pack
from imago.data.sampler import flips, sample_indices
from imago.data.sources.drawn import DrawnPortraits
from imago.data.sources.folder import FolderSource
from imago.data.sources.source import Source
from imago.errors import UserError
from imago.growth import GrowthSchedule
from lightning_modules.adversarial import AdversarialModule

logger = logging.getLogger("imago")


class BatchStream(IterableDataset[dict[str, Any]]):
    """This process's share of every batch from ``images_seen`` on, without end.

    Each batch is a function of (seed, images_seen): ``images`` (n_critic, N, C, H, W) uint8 at the resolution that the
    schedule has reached, mirrored already; ``images_seen``, the position it belongs to. With loader workers, worker w
    of n makes every n-th batch.

    Args:
        dataset: Where the images come from.
        schedule: Resolution and batch size over images_seen.
        seed: Keys order and mirroring.
        images_seen: Position of the first batch.
        n_critic: Discriminator steps, hence global batches, per training step.
        rank: This process.
        processes: How many there are.
        mirror: Flip half of the images left to right.
    """

    def __init__(
        self,
        dataset: PackedDataset,
        schedule: GrowthSchedule,
        seed: int,
        images_seen: int = 0,
        n_critic: int = 1,
        rank: int = 0,
        processes: int = 1,
        mirror: bool = True,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.schedule = schedule
        self.seed = seed
        self.images_seen = images_seen
        self.n_critic = n_critic
        self.rank = rank
        self.processes = processes
        self.mirror = mirror

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        this, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for number, (position, stage) in enumerate(self.schedule.steps(self.images_seen, self.n_critic)):
            if number % workers != this:
                continue
            share = stage.batch_size // self.processes
            images = [
                self._share(position + i * stage.batch_size + self.rank * share, share, stage.resolution)
                for i in range(self.n_critic)
            ]
            yield {"images": torch.from_numpy(np.stack(images)), "images_seen": position}

    def _share(self, first: int, count: int, resolution: int) -> np.ndarray:
        images = self.dataset.images(sample_indices(self.seed, len(self.dataset), first, count), resolution)
        if self.mirror:
            flipped = flips(self.seed, first, count)
            images[flipped] = images[flipped, ..., ::-1]
        return images


class PackedDataModule(pl.LightningDataModule):
    """Training batches from a packed data set.

    Args:
        resolution: Largest height that training reads.
        base: (height, width) of the smallest images.
        seed: Keys order and mirroring.
        path: The packed data set.
        channels: Colour channels that the networks expect.
        mirror: Flip half of the images left to right.
        workers: Loader processes.
        pack_workers: Processes while packing; None: one per core.
        cache: Where packs are kept; None: the default cache.
        zip_from: Levels from this height on are stored as PNGs.
    """

    def __init__(
        self,
        resolution: int,
        base: Sequence[int],
        seed: int,
        path: str | None = None,
        channels: int = 3,
        mirror: bool = True,
        workers: int = 0,
        pack_workers: int | None = None,
        cache: str | None = None,
        zip_from: int = 256,
    ) -> None:
        super().__init__()
        if workers < 0 or (pack_workers is not None and pack_workers < 1):
            raise UserError(
                f"data.workers must not be negative ({workers}), data.pack_workers not below 1 ({pack_workers})"
            )
        self.resolution = resolution
        self.base = (base[0], base[1])
        self.seed = seed
        self.path = path
        self.channels = channels
        self.mirror = mirror
        self.workers = workers
        self.pack_workers = pack_workers or len(os.sched_getaffinity(0))
        self.cache = Path(cache).expanduser() if cache else None
        self.zip_from = zip_from
        self.expected_checksum: str | None = None  # of a run that goes on
        self.dataset: PackedDataset | None = None

    def source(self) -> Source | None:
        """What to pack on first use; None where the data set is packed already."""
        return None

    def packing_options(self) -> dict[str, Any]:
        """Options of :func:`imago.data.packing.pack` besides the common ones."""
        return {}

    def open_dataset(self) -> PackedDataset:
        """The packed data set, made on first use."""
        source = self.source()
        if source is None:
            assert self.path is not None
            return PackedDataset(Path(self.path).expanduser())
        if not 0 <= self.packing_options().get("max_unreadable", 0) <= 1:
            raise UserError("data.max_unreadable is a share: it must lie in [0, 1]")
        return cached_pack(
            source,
            self.cache,
            resolution=self.resolution,
            base=self.base,
            channels=self.channels,
            zip_from=self.zip_from,
            workers=self.pack_workers,
            progress=PackingProgress(source.name),
            **self.packing_options(),
        )

    def prepare_data(self) -> None:
        """Packs on one process while the others wait, and checks that the data are what the run needs.

        Raises:
            UserError: Other channels, shape or resolution than the networks', or other data than the run began with.
        """
        dataset = self.open_dataset()
        if dataset.channels != self.channels:
            raise UserError(f"{dataset.name} has {dataset.channels} channels and data.channels={self.channels}")
        if tuple(dataset.base) != self.base:
            raise UserError(f"{dataset.name} was packed with base {dataset.base}, not {self.base}")
        dataset.extent(self.resolution)
        if self.expected_checksum is not None and dataset.checksum != self.expected_checksum:
            raise UserError(f"{dataset.name} is not the data that this run began with; choose another run_dir")
        self.dataset = dataset

    def setup(self, stage: str) -> None:
        """Opens the data set on the processes that have not prepared it."""
        if self.dataset is None:
            self.dataset = self.open_dataset()
        assert self.trainer is not None
        for callback in self.trainer.checkpoint_callbacks:
            callback.extra_state["data_checksum"] = self.dataset.checksum  # type: ignore[attr-defined]

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """An endless loader that begins at the module's images_seen."""
        assert self.trainer is not None
        assert self.dataset is not None
        module = self.trainer.lightning_module
        assert isinstance(module, AdversarialModule)
        stream = BatchStream(
            self.dataset,
            module.schedule,
            self.seed,
            module.images_seen,
            module.n_critic,
            self.trainer.global_rank,
            self.trainer.world_size,
            self.mirror,
        )
        return DataLoader(
            stream,
            batch_size=None,
            num_workers=self.workers,
            pin_memory=module.device.type == "cuda",
            persistent_workers=False,
        )


class DrawnPortraitsDataModule(PackedDataModule):
    """Portraits drawn by imago itself.

    Args:
        count: How many.
        drawing_seed: Which.
        size: They are drawn at least at this size, and larger if the run needs it.
        **options: See :class:`PackedDataModule`.
    """

    def __init__(self, count: int, drawing_seed: int, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.count = count
        self.drawing_seed = drawing_seed
        self.size = size

    def source(self) -> Source:
        return DrawnPortraits(self.count, max(self.size, self.resolution), self.drawing_seed)


class FolderDataModule(PackedDataModule):
    """Any folder or zip of images.

    Args:
        background: RGB under transparent pixels.
        max_unreadable: Larger share of unreadable files is an error.
        **options: See :class:`PackedDataModule`.
    """

    def __init__(self, background: Sequence[int], max_unreadable: float, **options: Any) -> None:
        super().__init__(**options)
        if len(background) != 3:
            raise UserError(f"data.background must be [red, green, blue], not {list(background)}")
        self.background = (background[0], background[1], background[2])
        self.max_unreadable = max_unreadable

    def source(self) -> Source:
        assert self.path is not None
        return FolderSource(self.path, channels=self.channels, background=self.background)

    def packing_options(self) -> dict[str, Any]:
        return {"max_unreadable": self.max_unreadable}


class PackingProgress:
    """Tells how far packing is: a changing line on a terminal, one line at the start elsewhere."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._told = False

    def __call__(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done >= total else "\r"
            print(f"packing {self.name}: {done} of {total} images", end=end, file=sys.stderr, flush=True)
        elif not self._told:
            self._told = True
            logger.info("packing %s: %d images", self.name, total)
