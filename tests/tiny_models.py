"""Models of a few weights that train on random pictures, without data or commands."""

import warnings

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset

from imago.data.packed import LabelColumn
from imago.growth import GrowthSchedule
from imago.labels import LabelCoding, LabelDistribution
from lightning_modules.pggan import PGGAN

BATCH, SIZE = 4, 16


class Stripes(IterableDataset):
    """Random pictures in two kinds, with labels, addressed by images_seen as those of a data set are."""

    def __init__(self, module):
        self.module = module

    def __iter__(self):
        seen = 0
        for seen, stage in self.module.schedule.steps(0, self.module.n_critic):
            generator = torch.Generator().manual_seed(seen)
            height = stage.resolution
            shape = (self.module.n_critic, BATCH, 3, height, height)
            images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
            codes = torch.randint(0, 2, (self.module.n_critic, BATCH, 2), generator=generator)
            yield {"images": images, "labels": codes, "images_seen": seen}


class Crops(Stripes):
    """Random pairs for up-resolution, addressed likewise."""

    def __iter__(self):
        crop, factor = self.module.geometry.crop, self.module.geometry.factor
        for seen, _ in self.module.schedule.steps(0, self.module.n_critic):
            generator = torch.Generator().manual_seed(seen)
            shape = (self.module.n_critic, BATCH, 3, factor * crop, factor * crop)
            images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
            shape = (self.module.n_critic, BATCH, self.module.generator.inputs, crop, crop)
            yield {"images": images, "stacks": torch.rand(shape, generator=generator) * 2 - 1, "images_seen": seen}


def labels():
    columns = (LabelColumn("Glasses", ("no", "yes")), LabelColumn("Age", ("young", "old")))
    codes = torch.tensor([[0, 1], [1, 0], [1, 1]], dtype=torch.int16).numpy()
    return LabelDistribution(LabelCoding(columns), codes)


def make(model, loss, **options):
    if model is PGGAN:
        schedule = GrowthSchedule(SIZE, 8, 8, 8, 100, batch_size=BATCH)
        return PGGAN(loss, schedule, base=(4, 4), latent_size=4, fmap_base=32, fmap_max=4, **options)
    schedule = GrowthSchedule(SIZE, SIZE, batch_size=BATCH, learning_rate=2e-4, mbstd_group=1)
    return model(loss, schedule, latent_size=4, filters=2, **options)


def train(module, steps=5, callbacks=(), folder=None, data=Stripes, precision="32-true"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            precision=precision,
            limit_train_batches=steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=list(callbacks),
            default_root_dir=folder,
        )
        trainer.fit(module, DataLoader(data(module), batch_size=None))
    return module
