"""Training batches of labelled images, addressed by images_seen."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from imago.classification.images import LabelledImages
from imago.data.sampler import flips, sample_indices
from imago.growth import GrowthSchedule
from imago.stop_signals import ignore_stop_signals
from lightning_modules.attribute_classifier import AttributeClassifierModule


class LabelledStream(IterableDataset[dict[str, Any]]):
    """Batches from ``images_seen`` on, without end.

    Each is a function of (seed, images_seen): ``images`` (N, C, H, W) uint8, mirrored already; ``labels`` (N, K), −1
    where unknown; ``images_seen``, the position it belongs to. With loader workers, worker w of n makes every n-th.

    Args:
        images: The training part.
        schedule: Batch size.
        seed: Keys order and mirroring.
        images_seen: Position of the first batch.
        mirror: Flip half of the images left to right.
    """

    def __init__(
        self, images: LabelledImages, schedule: GrowthSchedule, seed: int, images_seen: int = 0, mirror: bool = True
    ) -> None:
        super().__init__()
        self.images = images
        self.schedule = schedule
        self.seed = seed
        self.images_seen = images_seen
        self.mirror = mirror

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        this, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for position, stage in islice(self.schedule.steps(self.images_seen), this, None, workers):
            indices = sample_indices(self.seed, len(self.images), position, stage.batch_size)
            mirrored = flips(self.seed, position, stage.batch_size) if self.mirror else None
            yield {
                "images": self.images.images(indices, mirrored),
                "labels": torch.from_numpy(self.images.labels[indices]),
                "images_seen": position,
            }


class AttributeDataModule(pl.LightningDataModule):
    """An endless loader that begins at the module's images_seen.

    Args:
        images: The training part.
        seed: Keys order and mirroring.
        mirror: Flip half of the images left to right.
        workers: Loader processes.
        prefetch: Batches that each of them keeps ready.
    """

    def __init__(
        self, images: LabelledImages, seed: int, mirror: bool = True, workers: int = 0, prefetch: int = 2
    ) -> None:
        super().__init__()
        self.images = images
        self.seed = seed
        self.mirror = mirror
        self.workers = workers
        self.prefetch = prefetch

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        assert self.trainer is not None
        module = self.trainer.lightning_module
        assert isinstance(module, AttributeClassifierModule)
        stream = LabelledStream(self.images, module.schedule, self.seed, module.images_seen, self.mirror)
        return DataLoader(
            stream,
            batch_size=None,
            num_workers=self.workers,
            prefetch_factor=self.prefetch if self.workers else None,
            pin_memory=module.device.type == "cuda",
            worker_init_fn=ignore_stop_signals,
        )
