"""Pairs of low-resolution crops with their guide and the crops they are of, from packed pictures."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.packed import BatchStream, check_loading
from imago.data.packed import PackedDataset
from imago.data.packing import default_cache
from imago.errors import UserError
from imago.faces.pack_landmarks import LANDMARK_SOURCES, landmarks_of_pack
from imago.growth import GrowthSchedule, GrowthStage
from imago.stop_signals import ignore_stop_signals
from imago.upres.degradation import Degradation
from imago.upres.pairs import PairGeometry, PairMaker
from lightning_modules.adversarial import AdversarialModule
from lightning_modules.upres import Upres


class PairStream(BatchStream):
    """Like :class:`BatchStream`, of pairs: ``images`` (n_critic, N, 3, S, S) uint8 are the crops at full size,
    ``stacks`` (n_critic, N, 3 + G, crop, crop) float32 what they are to be made from.
    """

    def __init__(self, pairs: PairMaker, schedule: GrowthSchedule, seed: int, **options: Any) -> None:
        super().__init__(cast(Any, pairs), schedule, seed, **options)
        self.pairs = pairs

    def _batch(self, position: int, stage: GrowthStage) -> dict[str, Any]:
        share = stage.batch_size // self.processes
        firsts = [position + i * stage.batch_size + self.rank * share for i in range(self.n_critic)]
        made = [self.pairs.pairs(first, share) for first in firsts]
        images, stacks = zip(*made, strict=True)
        return {"images": torch.stack(images), "stacks": torch.stack(stacks), "images_seen": position}


class UpresPairsDataModule(pl.LightningDataModule):
    """Training batches for up-resolution, from one or several packed data sets of the run's resolution or above.

    Args:
        resolution: Height of the pictures. Larger ones are shrunk to it.
        base: (height, width) of the aspect.
        seed: Keys order, crops, mirroring and degradation.
        path: The packed data set, or several.
        channels: Colour channels; 3.
        mirror: Flip half of the pictures left to right; None: yes.
        workers: Loader processes.
        threads: Threads that make pairs ahead, in each of these or in the main process.
        prefetch: Batches that are kept ready.
        verify: Compare arrays and landmarks with their checksums before training.
        held_out: The last so many pictures of each pack are not trained on, but shown and measured.
        landmarks: ``auto``, ``pack``, ``dlib`` or ``none``; see :func:`landmarks_of_pack`.
        guide_dropout: Share of the pairs with an empty guide.
        degradation: See :class:`Degradation`.
        cache: Where landmarks that were found are kept; None: the default cache.
        labels: Not for this model.
        include_synthetic: Not for this model.

    Raises:
        UserError: Values out of range.
    """

    def __init__(
        self,
        resolution: int,
        base: Sequence[int],
        seed: int,
        path: str | Sequence[str],
        channels: int = 3,
        mirror: bool | None = True,
        workers: int = 0,
        threads: int = 2,
        prefetch: int = 2,
        verify: bool = True,
        held_out: int = 8,
        landmarks: str = "auto",
        guide_dropout: float = 0.1,
        degradation: Mapping[str, float] | None = None,
        cache: str | None = None,
        labels: Sequence[str] | None = None,
        include_synthetic: Any = None,
    ) -> None:
        super().__init__()
        if labels or include_synthetic:
            raise UserError("data=upres_pairs takes neither data.labels nor data.include_synthetic; give several paths")
        check_loading(workers, threads, prefetch)
        self.resolution = resolution
        self.base = (base[0], base[1])
        self.seed = seed
        self.paths = [path] if isinstance(path, str) else list(path or [])
        if not self.paths or not all(isinstance(one, str) and one for one in self.paths):
            raise UserError("data.path= is empty: give the folder of a pack, or several, [a,b]")
        self.channels = channels
        self.mirror = mirror is not False
        self.workers = workers
        self.threads = threads
        self.prefetch = prefetch
        self.verify = verify
        self.held_out = held_out
        self.landmarks = landmarks
        self.guide_dropout = guide_dropout
        if landmarks not in LANDMARK_SOURCES:
            raise UserError(f"data.landmarks={landmarks}: must be one of {', '.join(LANDMARK_SOURCES)}")
        unknown = set(degradation or {}) - {one.name for one in fields(Degradation)}
        if unknown:
            raise UserError(f"data.degradation has no {', '.join(sorted(unknown))}")
        self.degradation = Degradation(**(degradation or {}))
        self.cache = Path(cache).expanduser() if cache else None
        self.labels = None
        self.expected_checksum: str | None = None
        self.real: PackedDataset | None = None
        self.datasets: list[PackedDataset] = []
        self.found: list[NDArray[np.float32] | None] = []
        self.pairs: PairMaker | None = None

    @property
    def checksum(self) -> str:
        """Identifies the content of all packs and their landmarks."""
        digest = hashlib.blake2b(digest_size=16)
        for dataset, marks in zip(self.datasets, self.found, strict=True):
            digest.update(dataset.checksum.encode())
            digest.update(b"" if marks is None else np.ascontiguousarray(marks).tobytes())
        return digest.hexdigest()

    def check(self) -> None:
        """Says what is wrong with the options before anything is written.

        Raises:
            UserError: The data are not there.
        """
        self._opened()

    def check_module(self, module: AdversarialModule) -> None:
        """Says what of the data does not fit the model before anything is written.

        Args:
            module: What is to be trained.

        Raises:
            UserError: Not an up-resolution model, other channels or another aspect than the run's, pictures that are
                too small or too few.
        """
        if not isinstance(module, Upres):
            raise UserError("data=upres_pairs makes pairs for model=upres only")
        datasets = self._opened()
        for dataset in datasets:
            if dataset.channels != self.channels:
                raise UserError(f"{dataset.name} has {dataset.channels} channels and data.channels={self.channels}")
            if dataset.base[0] * self.base[1] != dataset.base[1] * self.base[0]:
                raise UserError(f"{dataset.name} has the aspect of {dataset.base}, the run that of {self.base}")
        self._maker(datasets, [None] * len(datasets), module.geometry)

    def _maker(
        self, datasets: list[PackedDataset], found: Sequence[NDArray[np.float32] | None], geometry: PairGeometry
    ) -> PairMaker:
        return PairMaker(
            datasets,
            found,
            geometry,
            self.seed,
            self.mirror,
            self.guide_dropout,
            self.degradation,
            self.held_out,
        )

    def label_distribution(self) -> None:
        """None: there are no labels."""
        return

    def prepare_data(self) -> None:
        """Opens and checks the packs, and finds landmarks where they hold none.

        Raises:
            UserError: Other data than the run began with, or a damaged pack.
        """
        if self.found:
            return
        self.datasets = self._opened()
        for dataset in self.datasets:
            if self.verify:
                dataset.verify(zips=False)
        cache = self.cache or default_cache()
        self.found = [landmarks_of_pack(dataset, self.landmarks, cache) for dataset in self.datasets]
        if self.expected_checksum is not None and self.checksum != self.expected_checksum:
            raise UserError(f"{', '.join(self.paths)}: not the data that this run began with; choose another run_dir")

    def _opened(self) -> list[PackedDataset]:
        return [PackedDataset(Path(path).expanduser()) for path in self.paths]

    def setup(self, stage: str) -> None:
        """Opens the packs on the processes that have not, and takes the geometry from the model."""
        self.prepare_data()
        self.real = self.datasets[0]
        assert self.trainer is not None
        module: Upres = self.trainer.lightning_module  # type: ignore[assignment]
        self.pairs = self._maker(self.datasets, self.found, module.geometry)
        for callback in self.trainer.checkpoint_callbacks:
            callback.extra_state["data_checksum"] = self.checksum  # type: ignore[attr-defined]

    def held_out_pairs(self, count: int) -> tuple[Tensor, Tensor]:
        """Always the same crops of pictures kept out of training; see :meth:`PairMaker.held_out_pairs`."""
        assert self.pairs is not None
        return self.pairs.held_out_pairs(count)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """An endless loader that begins at the module's images_seen."""
        assert self.trainer is not None
        assert self.pairs is not None
        module: Any = self.trainer.lightning_module
        stream = PairStream(
            self.pairs,
            module.schedule,
            self.seed,
            images_seen=module.images_seen,
            n_critic=module.n_critic,
            rank=self.trainer.global_rank,
            processes=self.trainer.world_size,
            threads=self.threads,
            prefetch=self.prefetch,
        )
        return DataLoader(
            stream,
            batch_size=None,
            num_workers=self.workers,
            prefetch_factor=self.prefetch if self.workers else None,
            pin_memory=module.device.type == "cuda",
            persistent_workers=False,
            worker_init_fn=ignore_stop_signals,
        )
