"""Packed images as an endless stream of batches addressed by images_seen."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from imago.data import PackedDataset
from imago.data.joined import JoinedDataset
from imago.data.sampler import flips, sample_indices
from imago.errors import UserError
from imago.growth import GrowthSchedule, GrowthStage
from imago.labels import LabelDistribution
from imago.stop_signals import ignore_stop_signals
from lightning_modules.adversarial import AdversarialModule

logger = logging.getLogger("imago")


class BatchStream(IterableDataset[dict[str, Any]]):
    """This process's share of every batch from ``images_seen`` on, without end.

    Each batch is a function of (seed, images_seen): ``images`` (n_critic, N, C, H, W) uint8 at the resolution that the
    schedule has reached, mirrored already; ``labels`` (n_critic, N, K) int64, the codes of the chosen columns, where
    there are some; ``images_seen``, the position it belongs to. With loader workers, worker w of n makes every n-th
    batch.

    Args:
        dataset: Where the images come from.
        schedule: Resolution and batch size over images_seen.
        seed: Keys order and mirroring.
        images_seen: Position of the first batch.
        n_critic: Discriminator steps, hence global batches, per training step.
        rank: This process.
        processes: How many there are.
        mirror: Flip half of the images left to right.
        threads: That decode PNGs ahead; 0: decode when the batch is asked for. Gathering from arrays needs none.
        prefetch: Batches that they keep ready besides those at work.
        labels: Codes (len(dataset), K) of the chosen label columns.
    """

    def __init__(
        self,
        dataset: PackedDataset | JoinedDataset,
        schedule: GrowthSchedule,
        seed: int,
        images_seen: int = 0,
        n_critic: int = 1,
        rank: int = 0,
        processes: int = 1,
        mirror: bool = True,
        threads: int = 0,
        prefetch: int = 2,
        labels: NDArray[np.int16] | None = None,
    ) -> None:
        super().__init__()
        self.labels = labels
        self.dataset = dataset
        self.schedule = schedule
        self.seed = seed
        self.images_seen = images_seen
        self.n_critic = n_critic
        self.rank = rank
        self.processes = processes
        self.mirror = mirror
        self.threads = threads
        self.prefetch = prefetch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        this, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        steps = islice(self.schedule.steps(self.images_seen, self.n_critic), this, None, workers)
        if self.threads == 0:
            yield from (self._batch(position, stage) for position, stage in steps)
        else:
            yield from self._prefetched(steps)

    def _prefetched(self, steps: Iterator[tuple[int, GrowthStage]]) -> Iterator[dict[str, Any]]:
        """The batches of `steps`; those that must be decoded are made ahead by threads."""
        with ThreadPoolExecutor(self.threads) as pool:
            ahead: deque[tuple[int, GrowthStage, Future[dict[str, Any]] | None]] = deque()
            try:
                for position, stage in steps:
                    decoded = self.dataset.is_compressed(stage.resolution)
                    future = pool.submit(self._batch, position, stage) if decoded else None
                    ahead.append((position, stage, future))
                    if len(ahead) >= self.threads + self.prefetch:
                        position, stage, future = ahead.popleft()
                        yield future.result() if future else self._batch(position, stage)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _batch(self, position: int, stage: GrowthStage) -> dict[str, Any]:
        share = stage.batch_size // self.processes
        height, width = self.dataset.extent(stage.resolution)
        images = torch.empty((self.n_critic, share, height, width, self.dataset.channels), dtype=torch.uint8)
        codes = []
        for i, out in enumerate(images.numpy()):
            first = position + i * stage.batch_size + self.rank * share
            indices = sample_indices(self.seed, len(self.dataset), first, share)
            mirrored = flips(self.seed, first, share) if self.mirror else None
            self.dataset.images(indices, stage.resolution, mirrored, out)
            if self.labels is not None:
                codes.append(torch.from_numpy(self.labels[indices].astype(np.int64)))
        batch = {"images": images.permute(0, 1, 4, 2, 3), "images_seen": position}
        return {**batch, "labels": torch.stack(codes)} if codes else batch


class PackedDataModule(pl.LightningDataModule):
    """Training batches from a packed data set.

    Args:
        resolution: Largest height that training reads.
        base: (height, width) of the smallest images.
        seed: Keys order and mirroring.
        path: The packed data set.
        channels: Colour channels that the networks expect.
        mirror: Flip half of the images left to right; None: yes.
        workers: Loader processes.
        threads: Threads in each of these, or in the main process where there are none, that decode PNGs ahead.
        prefetch: Batches that each loader process, or the threads, keep ready.
        verify: Compare arrays, labels and landmarks with their checksums before training; PNGs are checked as they are
            read.
        labels: Label columns to condition on, ["all"] for all of them; None: none.
        include_synthetic: Packs that are added to the data for training (``generate.py what=dataset`` makes them).
            Metrics compare with the real images alone.
    """

    def __init__(
        self,
        resolution: int,
        base: Sequence[int],
        seed: int,
        path: str | None = None,
        channels: int = 3,
        mirror: bool | None = True,
        workers: int = 0,
        threads: int = 2,
        prefetch: int = 2,
        verify: bool = True,
        labels: Sequence[str] | None = None,
        include_synthetic: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        synthetic = [include_synthetic] if isinstance(include_synthetic, str) else include_synthetic or []
        if not isinstance(synthetic, list | tuple) or not all(path and isinstance(path, str) for path in synthetic):
            raise UserError(
                f"data.include_synthetic={include_synthetic}: give the folder of a pack, or several, [a,b]; "
                "true and false are for data=curto"
            )
        check_loading(workers, threads, prefetch)
        self.resolution = resolution
        self.base = (base[0], base[1])
        self.seed = seed
        self.path = path
        self.channels = channels
        self.mirror = mirror is not False
        self.workers = workers
        self.threads = threads
        self.prefetch = prefetch
        self.verify = verify
        self.labels = list(labels) if labels else None
        self.synthetic = list(synthetic)
        self.expected_checksum: str | None = None  # of a run that goes on
        self.dataset: PackedDataset | JoinedDataset | None = None  # what is trained on
        self.real: PackedDataset | None = None  # the same without synthetic images
        self._prepared = False

    def check(self) -> None:
        """Says what is wrong with the options before anything is written.

        Raises:
            UserError: The data are not there.
        """
        self._synthetic_packs()

    def check_module(self, module: AdversarialModule) -> None:
        """Says what of the data does not fit the model before anything is written.

        Raises:
            UserError: The model is trained on pairs.
        """
        if module.takes_pairs:
            raise UserError("this model is trained on pairs: take data=upres_pairs")

    def open_dataset(self) -> PackedDataset:
        """The packed data set, made on first use."""
        assert self.path is not None
        return PackedDataset(Path(self.path).expanduser())

    def prepare_data(self) -> None:
        """Packs on one process while the others wait, and checks that the data are what the run needs.

        Raises:
            UserError: Other channels, shape or resolution than the networks', other data than the run began with, or a
                damaged pack.
        """
        if self._prepared:
            return
        dataset = self._open() if self.dataset is None else self.dataset
        if dataset.channels != self.channels:
            raise UserError(f"{dataset.name} has {dataset.channels} channels and data.channels={self.channels}")
        if tuple(dataset.base) != self.base:
            raise UserError(f"{dataset.name} was packed with base {dataset.base}, not {self.base}")
        dataset.extent(self.resolution)
        if isinstance(dataset, JoinedDataset):
            added = len(dataset) - len(dataset.parts[0])
            logger.info("%s: %d real images and %d synthetic ones", dataset.name, len(dataset.parts[0]), added)
        if self.expected_checksum is not None and dataset.checksum != self.expected_checksum:
            raise UserError(f"{dataset.name} is not the data that this run began with; choose another run_dir")
        if self.verify:
            dataset.verify(zips=False)
        self.dataset = dataset
        self._prepared = True

    def _open(self) -> PackedDataset | JoinedDataset:
        self.real = self.open_dataset()
        if not self.synthetic:
            return self.real
        return JoinedDataset([self.real, *self._synthetic_packs()])

    def _synthetic_packs(self) -> list[PackedDataset]:
        packs = [PackedDataset(Path(path).expanduser()) for path in self.synthetic]
        for one in packs:
            if one.channels != self.channels or tuple(one.base) != self.base:
                raise UserError(
                    f"data.include_synthetic: {one.path} holds images of {one.channels} channels and base "
                    f"{list(one.base)}, the run is of {self.channels} and {list(self.base)}"
                )
            one.extent(self.resolution)
        return packs

    def label_distribution(self) -> LabelDistribution | None:
        """The chosen labels of the data set, which is opened, or made, on first use; None where none are chosen.

        Raises:
            UserError: The data set has no such labels.
        """
        if self.labels is None:
            return None
        if self.dataset is None:
            self.dataset = self._open()
        return LabelDistribution.of_dataset(self.dataset, self.labels)

    def setup(self, stage: str) -> None:
        """Opens the data set on the processes that have not prepared it."""
        if self.dataset is None:
            self.dataset = self._open()
        assert self.trainer is not None
        for callback in self.trainer.checkpoint_callbacks:
            callback.extra_state["data_checksum"] = self.dataset.checksum  # type: ignore[attr-defined]

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """An endless loader that begins at the module's images_seen."""
        assert self.trainer is not None
        assert self.dataset is not None
        module = self.trainer.lightning_module
        assert isinstance(module, AdversarialModule)
        labels = self.label_distribution()
        stream = BatchStream(
            self.dataset,
            module.schedule,
            self.seed,
            module.images_seen,
            module.n_critic,
            self.trainer.global_rank,
            self.trainer.world_size,
            self.mirror,
            self.threads,
            self.prefetch,
            None if labels is None else labels.codes,
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


def check_loading(workers: int, threads: int, prefetch: int) -> None:
    """Refuses counts that make no sense.

    Raises:
        UserError: Names the one that is wrong.
    """
    for name, value, least in (("workers", workers, 0), ("threads", threads, 0), ("prefetch", prefetch, 1)):
        if value < least:
            raise UserError(f"data.{name} must be at least {least}, not {value}")
