"""What an evaluation works on: generators, real images, the place of the report."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from commands.checkpoints import Checkpoint, find_checkpoints, run_of
from conf.evaluate_schema import EvaluateConfig
from datamodules.packed import PackedDataModule
from datamodules.sources import SourceDataModule
from imago import __version__
from imago.data.packed import PackedDataset
from imago.errors import UserError
from imago.evaluation.building import MeasureOptions, metric_names
from imago.evaluation.measure import Reals
from imago.evaluation.protocol import Protocol

logger = logging.getLogger("imago")


class EvaluationJob:
    """What is to be measured, of what, against what.

    Args:
        cfg: The options.

    Raises:
        UserError: Unknown metrics, no generators, numbers that make no sense.
    """

    def __init__(self, cfg: EvaluateConfig) -> None:
        self.cfg = cfg
        self.metrics = metric_names(cfg.metrics)
        self.protocol = protocol_of(cfg)
        self.checkpoints: list[Checkpoint] = find_checkpoints(cfg.checkpoint)
        heights = [checkpoint.resolution for checkpoint in self.checkpoints]
        self.resolution = self.cfg.resolution or max(heights)
        for checkpoint in self.checkpoints:
            if self.resolution % checkpoint.resolution:
                height = checkpoint.resolution
                raise UserError(
                    f"resolution={self.resolution}: {checkpoint.given} makes {height}², give a multiple of that"
                )
        self.dataset: PackedDataset | None = None
        self.mirror = False

    def options(self) -> MeasureOptions:
        """What the measures depend on."""
        cfg = self.cfg
        return MeasureOptions(
            self.metrics,
            self.protocol,
            seed=cfg.seed,
            features=cfg.features,
            weights=cfg.weights,
            vgg16_weights=cfg.vgg16_weights,
            resize=cfg.resize,
            floor=cfg.floor,
            digits=cfg.digits,
            path_sampling=cfg.path_sampling,
            batch_size=cfg.batch_size,
            cache=Path(cfg.cache).expanduser() if cfg.cache else None,
        )

    def open_data(self, verify: bool = True) -> None:
        """The real images, if there are any; packs them if they are not packed."""
        module = self._data_module(verify)
        if module is not None:
            module.prepare_data()
            self.dataset = module.dataset
            self.mirror = module.mirror

    def _data_module(self, verify: bool) -> PackedDataModule | None:
        options = OmegaConf.to_container(self.cfg.data, resolve=True) if OmegaConf.is_config(self.cfg.data) else None
        assert isinstance(options, dict)
        if "path" in options and not options["path"] and not options.get("root"):
            options = self._data_of_run()
            if options is None:
                return None
        return self._instantiated({**options, "verify": verify})

    def _instantiated(self, options: dict[Any, Any]) -> PackedDataModule:
        network = self.checkpoints[-1].description["config"]
        module: PackedDataModule = instantiate(
            {**options, "channels": int(network.get("channels", 3))},
            resolution=self.resolution,
            base=list(network.get("base", [4, 4])),
            seed=self.cfg.seed,
            _convert_="all",
        )
        module.check()
        return module

    def _data_of_run(self) -> dict[Any, Any] | None:
        """The data that the run of the checkpoint was trained on."""
        config = run_of(self.checkpoints[-1].path) / "config.yaml"
        try:
            options = OmegaConf.to_container(OmegaConf.load(config))
        except (OSError, ValueError):
            return None
        data = options.get("data") if isinstance(options, dict) else None
        if not isinstance(data, dict):
            return None
        logger.info("real images: those that %s was trained on (data.path=… takes others)", config.parent)
        return dict(data)

    def held_out(self) -> PackedDataset:
        """The pack of ``held_out=``."""
        channels = int(self.checkpoints[-1].description["config"].get("channels", 3))
        module = SourceDataModule(
            "imago.data.sources.folder.FolderSource",
            path=self.cfg.held_out,
            resolution=self.resolution,
            base=list(self.checkpoints[-1].description["config"].get("base", [4, 4])),
            seed=self.cfg.seed,
            channels=channels,
        )
        module.check()
        module.prepare_data()
        assert module.dataset is not None
        return module.dataset

    def reals(self) -> Reals | None:
        """The real images, in the orders that measures take them in."""
        if self.dataset is None:
            return None
        return Reals.of(self.dataset, self.resolution, self.mirror, self.cfg.seed)

    @property
    def data_name(self) -> str:
        """The real images, in words."""
        if self.dataset is None:
            return "no real images"
        return f"{self.dataset.name} ({len(self.dataset):,} images) at {self.resolution}²"

    def out(self, pooled: bool) -> Path:
        """The report to write."""
        if self.cfg.out:
            return Path(self.cfg.out).expanduser()
        name = "curve" if len(self.checkpoints) > 1 and not pooled else f"{self.checkpoints[-1].images_seen:09d}"
        return run_of(self.checkpoints[-1].path) / "evaluation" / f"{name}.json"

    def about(self) -> dict[str, Any]:
        """What a report says besides its numbers."""
        dataset = self.dataset
        return {
            "imago": __version__,
            "date": datetime.now().astimezone().isoformat(timespec="seconds"),
            "seed": self.cfg.seed,
            "resolution": self.resolution,
            "data": None
            if dataset is None
            else {"name": dataset.name, "count": len(dataset), "checksum": dataset.checksum, "mirror": self.mirror},
        }


def protocol_of(cfg: EvaluateConfig) -> Protocol:
    """The checked protocol.

    Raises:
        UserError: Numbers that make no sense.
    """
    options: Any = OmegaConf.to_container(cfg.protocol) if OmegaConf.is_config(cfg.protocol) else vars(cfg.protocol)
    protocol = Protocol(**options)
    protocol.check()
    return protocol
