"""Mean and variance of the activations of each layer: whether a network normalises itself (Curtó et al. 2020, 4.1)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from callbacks.cadence import check_interval
from callbacks.csv_table import CsvTable
from imago.networks.progressive import DiscriminatorBlock, GeneratorBlock
from imago.networks.pyramid import PyramidLayer

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from lightning_modules.adversarial import AdversarialModule

logger = logging.getLogger("imago")

_LAYERS = (PyramidLayer, GeneratorBlock, DiscriminatorBlock)


class ActivationStatistics(pl.Callback):
    """Looks at a training step every so often and writes what comes out of each layer to ``activations.csv``.

    The first pass of a step through each layer counts: the generator's of the discriminator step, the discriminator's
    of reals and fakes. Nothing is computed besides, so that a run is the same with it and without it. Several
    processes: those of the first one.

    Columns: ``images_seen``, then for each layer, numbered from the network's input, ``generator/0/mean``,
    ``generator/0/variance``, …

    Args:
        every_images: How often.
    """

    def __init__(self, every_images: int = 5_000) -> None:
        self.every_images = check_interval("callbacks.activation_statistics.every_images", every_images)
        self._handles: list[RemovableHandle] = []
        self._seen: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.table = CsvTable(Path(trainer.default_root_dir) / "activations.csv")
        if trainer.is_global_zero:
            self.table.rewind(pl_module.images_seen)  # type: ignore[arg-type]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        module: AdversarialModule = pl_module  # type: ignore[assignment]
        following = module.images_seen + module.n_critic * module.stage.batch_size
        crosses = following // self.every_images != module.images_seen // self.every_images
        if not trainer.is_global_zero or not (crosses or module.images_seen == 0):
            return
        self._seen = {}
        for name, network in (("generator", module.generator), ("discriminator", module.discriminator)):
            for i, layer in enumerate(layers_of(network)):
                self._handles.append(layer.register_forward_hook(self._recorder(f"{name}/{i}")))

    def _recorder(self, name: str) -> Any:
        def record(layer: nn.Module, inputs: Any, output: Tensor) -> None:
            if name not in self._seen:
                self._seen[name] = moments(output)

        return record

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        self._handles = []
        row: dict[str, float] = {"images_seen": pl_module.images_seen}  # type: ignore[dict-item]
        for name, both in self._seen.items():
            row[f"{name}/mean"], row[f"{name}/variance"] = both.tolist()
        try:
            self.table.add(row)
        except OSError as error:  # a full disk costs no more than this
            logger.warning("activations.csv could not be written (%s)", error.strerror or error)
        for other in trainer.loggers:
            other.log_metrics({f"activations/{key}": value for key, value in row.items()}, step=int(row["images_seen"]))


def layers_of(network: nn.Module) -> list[nn.Module]:
    """The layers whose outputs are looked at, from the input on."""
    layers: list[nn.Module] = [module for module in network.modules() if isinstance(module, _LAYERS)]
    # A growing discriminator, or encoder, keeps its blocks from the smallest extent on.
    shrinking = [layer for layer in layers if isinstance(layer, DiscriminatorBlock)]
    return shrinking[::-1] + [layer for layer in layers if not isinstance(layer, DiscriminatorBlock)]


@torch.no_grad()
def moments(activations: Tensor) -> Tensor:
    """Mean and variance over all images, features and positions: (2,), float64."""
    values = activations.detach().double()
    return torch.stack([values.mean(), values.var(correction=0)])
