"""What an evaluation works on: generators, real images, the place of the report."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from commands.app import given_keys
from commands.checkpoints import Checkpoint, find_checkpoints, images_in_epoch, run_of
from conf.evaluate_schema import EvaluateConfig
from conf.source_schemas import ONLY_TO_PREPARE, SOURCES
from datamodules.packed import PackedDataModule
from datamodules.sources import DrawnPortraitsDataModule, LsunDataModule, SourceDataModule
from imago import __version__
from imago.data.packed import PackedDataset
from imago.errors import UserError, first_line
from imago.evaluation.building import MeasureOptions, metric_names
from imago.evaluation.measure import Reals
from imago.evaluation.protocol import Protocol

logger = logging.getLogger("imago")

_PLACES = {"data", "data.path", "data.root", "data.reader"}  # that say which images, not only how they are read
_READERS = {options.reader for options in (SOURCES | ONLY_TO_PREPARE).values()}
_DATA_MODULES = {
    f"{module.__module__}.{module.__name__}"
    for module in (PackedDataModule, SourceDataModule, LsunDataModule, DrawnPortraitsDataModule)
}


class EvaluationJob:
    """What is to be measured, of what, against what.

    Args:
        cfg: The options.
        chosen: What the user said of the real images: "data" for an option, "data.mirror" for a key; None: ask Hydra.

    Raises:
        UserError: Unknown metrics, no generators, numbers that make no sense.
    """

    def __init__(self, cfg: EvaluateConfig, chosen: list[str] | None = None) -> None:
        self.cfg = cfg
        self.chosen = _chosen("data") if chosen is None else chosen
        self.metrics = metric_names(cfg.metrics)
        self.protocol = protocol_of(cfg)
        self.checkpoints: list[Checkpoint] = find_checkpoints(cfg.checkpoint)
        # A generator that is growing still is measured at the size that it will have, as the rest of its run.
        heights = [max(one.resolution, one.final_resolution) for one in self.checkpoints]
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
            self.dataset = module.real
            self.mirror = module.mirror

    def _data_module(self, verify: bool) -> PackedDataModule | None:
        options = OmegaConf.to_container(self.cfg.data, resolve=True) if OmegaConf.is_config(self.cfg.data) else None
        assert isinstance(options, dict)
        if not _PLACES & set(self.chosen):
            options = self._data_of_run(quiet=not verify)
            if options is None:
                return None
            if not isinstance(options.get("include_synthetic"), bool):
                options["include_synthetic"] = None  # generators are compared with real images
        return self._instantiated({**options, "verify": verify})

    def _instantiated(self, options: dict[Any, Any]) -> PackedDataModule:
        network = self.checkpoints[-1].description["config"]
        try:
            module: PackedDataModule = instantiate(
                {**options, "channels": int(network.get("channels", 3))},
                resolution=self.resolution,
                base=list(network.get("base", [4, 4])),
                seed=self.cfg.seed,
                _convert_="all",
            )
        except InstantiationException as error:
            if isinstance(error.__cause__, UserError):
                raise error.__cause__ from None
            raise UserError(f"the data cannot be opened: {first_line(error)}") from error
        module.check()
        return module

    def _data_of_run(self, quiet: bool) -> dict[Any, Any] | None:
        """The data that the run of the checkpoint was trained on; None where nothing tells."""
        config = run_of(self.checkpoints[-1].path) / "config.yaml"
        if not config.exists():
            return None
        try:
            options: Any = OmegaConf.to_container(OmegaConf.load(config))
            data, target = options["data"], str(options["data"]["_target_"])
        except (OSError, ValueError, KeyError, TypeError, YAMLError, OmegaConfBaseException) as error:
            what = first_line(error)
            raise UserError(f"{config} does not tell the data of the run ({what}); give data.path=…") from error
        _refuse_foreign_code(config, target, data)
        if not quiet:
            logger.info("real images: those that %s was trained on (data.path=… takes others)", config.parent)
        # data.mirror=false without a place changes the run's own data.
        changed = {
            key.removeprefix("data."): getattr(self.cfg.data, key.removeprefix("data."))
            for key in self.chosen
            if "." in key
        }
        return {**data, **{key: value for key, value in changed.items() if key in data}}

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
        assert module.real is not None
        return module.real

    def reals(self) -> Reals | None:
        """The real images, in the orders that measures take them in."""
        if self.dataset is None:
            return None
        return Reals.of(self.dataset, self.resolution, self.mirror, self.cfg.seed)

    @property
    def epoch(self) -> int | None:
        """Images in an epoch, where curves are to count epochs: those that the run trained on, else the real images.

        Raises:
            UserError: There are no real images either.
        """
        if not self.cfg.epochs:
            return None
        trained_on = images_in_epoch(self.checkpoints[-1].path)
        if trained_on is not None:
            return trained_on
        if self.dataset is None:
            raise UserError("epochs=true: there are no real images to count; give data.path=…")
        return len(self.dataset)

    @property
    def data_name(self) -> str:
        """The real images, in words."""
        if self.dataset is None:
            return "no real images"
        return f"{self.dataset.name} ({len(self.dataset):,} images) at {self.resolution}²"

    @property
    def out(self) -> Path:
        """The report to write. Reports of other settings have other names, so that none is replaced by another."""
        if self.cfg.out:
            return Path(self.cfg.out).expanduser()
        several = len(self.checkpoints) > 1
        names = [str(one.path.resolve()) for one in self.checkpoints] if several else []
        data = None if self.dataset is None else (self.dataset.checksum, self.mirror)
        options = dataclasses.asdict(self.options()) | {"batch_size": 0, "cache": None}
        cfg = self.cfg
        figure = [cfg.neighbour_samples, cfg.neighbours, cfg.neighbour_distance, cfg.neighbour_crop]
        figure = figure if "neighbours" in self.metrics else []
        settings = [names, data, self.resolution, options, cfg.held_out, *figure]
        digest = hashlib.blake2b(json.dumps(settings, default=str).encode(), digest_size=4).hexdigest()
        kind = "pool" if self.protocol.pool else "curve"
        stem = kind if several else f"{self.checkpoints[-1].images_seen:09d}"
        run = run_of(self.checkpoints[-1].path)
        return run / "evaluation" / f"{stem}-{'-'.join(self.metrics)}-{digest}.json"

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


def _chosen(group: str) -> list[str]:
    """The options and keys of a group that the user gave."""
    return [key for key in given_keys() if key == group or key.startswith(f"{group}.")]


def _refuse_foreign_code(config: Path, target: str, data: dict[str, Any]) -> None:
    """A run's config.yaml may come from anywhere: it names only imago's own data modules and readers, and no functions.

    Raises:
        UserError: It names something else.
    """
    reader = data.get("reader")
    nested = [key for key, value in data.items() if isinstance(value, dict)]
    for named, allowed in ((target, target in _DATA_MODULES), (reader, reader is None or reader in _READERS)):
        if not allowed:
            raise UserError(f"{config}: {named} is none of imago's own; give data.path=…")
    if nested or data.get("enhance") is not None:
        raise UserError(f"{config}: {(nested or ['enhance'])[0]} may run code that it names; give data.path=…")
