"""Measures what up-resolution networks add: what ``evaluate.py`` does with a checkpoint of one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor

from commands.app import given_keys
from commands.checkpoints import Checkpoint, data_of_run, run_of
from commands.devices import find_device
from conf.evaluate_schema import EvaluateConfig
from datamodules.progress import PreparationProgress
from imago import __version__
from imago.atomic import atomic_path
from imago.data.packed import PackedDataset
from imago.data.packing import default_cache
from imago.errors import MissingDependencyError, UserError
from imago.evaluation.report import Evaluated, as_json, as_markdown, notes, table_of_methods
from imago.faces.pack_landmarks import landmarks_of_pack
from imago.images import save_image
from imago.metrics.features.face import FaceFeatures
from imago.metrics.lpips import Lpips
from imago.networks.jnet import JNet
from imago.upres.contact_sheet import Shown, StageSheet
from imago.upres.degradation import Degradation
from imago.upres.evaluation import (
    Example,
    Meter,
    Method,
    PairDistance,
    by_lanczos,
    by_network,
    examples,
    on_shifted_tiles,
    seams,
)
from imago.upres.loading import load_stage
from imago.upres.pairs import PairGeometry, PairMaker
from imago.upres.stages import Stage

logger = logging.getLogger("imago")

_FOREIGN = ("metrics", "protocol", "features", "resolution", "processes", "held_out", "digits")
_SHOWN = 6  # rows of before_after.png
_CELL = 384  # pixels


def is_upres(checkpoints: Sequence[Checkpoint]) -> bool:
    """Whether checkpoints hold up-resolution networks.

    Raises:
        UserError: Some do and others do not.
    """
    kinds = {checkpoint.description.get("network") == JNet.__name__ for checkpoint in checkpoints}
    if len(kinds) > 1:
        raise UserError("checkpoint=: up-resolution networks and generators of faces are measured apart")
    return kinds == {True}


def evaluate_upres(cfg: EvaluateConfig, checkpoints: Sequence[Checkpoint]) -> None:
    """Measures networks beside Lanczos' filter and the real pictures; prints and writes a report with pictures.

    Args:
        cfg: The options.
        checkpoints: Of up-resolution networks.

    Raises:
        UserError: Options that are for generators of faces, pictures that do not fit, no place to write.
    """
    for key in given_keys():
        if key.partition(".")[0] in _FOREIGN:
            raise UserError(
                f"{key}: up-resolution networks have measures of their own (docs/upresolving.md); leave it out"
            )
    if cfg.pictures < 1:
        raise UserError(f"pictures must be at least 1, not {cfg.pictures}")
    device = find_device(cfg.device)
    stages = [load_stage(checkpoint.path, device) for checkpoint in checkpoints]
    trained = {(stage.resolution, stage.low_size, stage.face_size) for stage in stages}
    if len(trained) > 1:
        raise UserError("checkpoint=: networks that read or make other sizes cannot be compared")
    job = _Job(cfg, checkpoints, stages)
    found = list(examples(job.pairs, cfg.pictures, job.degradation if cfg.degraded else None))
    names = [checkpoint.given for checkpoint in checkpoints]
    networks = dict(zip(names, stages, strict=True))
    methods: dict[str, Method] = {
        "real": lambda example: example.truth.float() / 127.5 - 1,
        "Lanczos": by_lanczos(stages[0].low_size),
        **{name: by_network(stage) for name, stage in networks.items()},
    }
    meters = {name: Meter(stages[0].low_size, job.face_distance, job.lpips) for name in methods}
    sheet = StageSheet(_CELL, _SHOWN)
    with PreparationProgress("enlarging") as progress:
        for number, example in enumerate(found):
            results = {name: method(example) for name, method in methods.items()}
            for name, picture in results.items():
                stage = networks.get(name)
                shown = 1.0 if stage is None else seams(stage, picture, on_shifted_tiles(stage, example))
                meters[name].add(picture, example, shown)
            _show(sheet, example, {name: results[name] for name in ("Lanczos", *names)})
            progress(number + 1, len(found))
    seen = dict(zip(names, (checkpoint.images_seen for checkpoint in checkpoints), strict=True))
    done = [Evaluated(name, seen.get(name, 0), meter.rows(cfg.seed)) for name, meter in meters.items()]
    _tell(job, done, len(found))
    _write(job, done, sheet)


@dataclass
class _Job:
    """Which pictures, and what is measured of them."""

    cfg: EvaluateConfig
    checkpoints: Sequence[Checkpoint]
    stages: Sequence[Stage]
    pairs: PairMaker = field(init=False)
    degradation: Degradation = field(init=False)
    face_distance: PairDistance | None = field(init=False, default=None)
    lpips: PairDistance | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        stage, checkpoint = self.stages[0], self.checkpoints[-1]
        own = data_of_run(checkpoint.path)
        trained_on = _paths(own.get("path"))
        options: Any = OmegaConf.to_container(self.cfg.data) if OmegaConf.is_config(self.cfg.data) else {}
        chosen = "data.path" in given_keys()
        paths = _paths(options.get("path")) if chosen else trained_on
        if not paths:
            raise UserError(
                f"nothing beside {checkpoint.given} tells the pictures that it learnt from; give data.path=…"
            )
        same = {path.resolve() for path in paths} <= {path.resolve() for path in trained_on}
        held_out = int(own.get("held_out") or 0) if same else 0
        if "data.held_out" in given_keys():  # of data=upres_pairs
            held_out = int(options["held_out"])
        datasets = [PackedDataset(path) for path in paths]
        told = options if "data.landmarks" in given_keys() else own
        landmarks = str(told.get("landmarks") or "auto")
        cache = Path(self.cfg.cache).expanduser() if self.cfg.cache else default_cache()
        guided = any(one.guide_channels for one in self.stages)
        marks = [landmarks_of_pack(one, landmarks if guided else "none", cache) for one in datasets]
        base = datasets[0].base
        if any(one.base[0] * base[1] != one.base[1] * base[0] for one in datasets):
            raise UserError("data.path=: the packs have pictures of different aspects")
        geometry = PairGeometry(
            stage.resolution, base, stage.face_size, stage.low_size, min(stage.tile, stage.low_size), stage.guide_style
        )
        self.degradation = Degradation(**(own.get("degradation") or {}))
        self.pairs = PairMaker(datasets, marks, geometry, self.cfg.seed, False, 0.0, self.degradation, held_out)
        if not held_out and same:
            logger.warning("no picture was kept out of training: these are those that it learnt from")
        try:
            features = FaceFeatures(device=stage.device)
            self.face_distance = lambda first, second: (features(first) - features(second)).norm(dim=1)
        except MissingDependencyError as error:
            logger.warning("the distance of faces is left out: %s", error)
        if self.cfg.vgg16_weights:
            self.lpips = Lpips.from_file(self.cfg.vgg16_weights, stage.device)

    @property
    def pictures(self) -> str:
        """Which ones, in words."""
        names = " and ".join(dataset.name for dataset in self.pairs.datasets)
        kept = "kept out of training" if self.pairs.held_out else "all"
        return f"{names} ({kept}){', degraded' if self.cfg.degraded else ''}"

    @property
    def out(self) -> Path:
        """The report to write."""
        if self.cfg.out:
            return Path(self.cfg.out).expanduser()
        run = run_of(self.checkpoints[-1].path)
        name = f"{self.checkpoints[-1].images_seen:09d}-upres{'-degraded' if self.cfg.degraded else ''}.json"
        return run / "evaluation" / name


def _paths(given: Any) -> list[Path]:
    return [Path(str(one)).expanduser() for one in ([given] if isinstance(given, str) else given or [])]


def _show(sheet: StageSheet, example: Example, results: dict[str, Tensor]) -> None:
    focus = (0.39, 0.47)
    if example.landmarks is not None:
        eye = example.landmarks[36:42].mean(axis=0)  # the one on the left of the picture
        focus = float(eye[0] / example.face.shape[2]), float(eye[1] / example.face.shape[1])
    shown = [Shown("input", example.face)]
    shown += [Shown(Path(name).name, picture, detail=True) for name, picture in results.items()]
    sheet.add([*shown, Shown("real", example.truth, detail=True)], focus)


def _tell(job: _Job, done: list[Evaluated], count: int) -> None:
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=200)
    print(f"{count} pictures of {job.pictures}, at {job.stages[0].resolution} pixels")
    console.print(table_of_methods(done))
    print("\n".join(notes(done[0].rows)))


def _write(job: _Job, done: list[Evaluated], sheet: StageSheet) -> None:
    about = {
        "imago": __version__,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "seed": job.cfg.seed,
        "data": [{"name": one.name, "checksum": one.checksum} for one in job.pairs.datasets],
        "pictures": job.pictures,
    }
    out = job.out
    written = [out, out.with_suffix(".md"), out.with_name(f"{out.stem}-before_after.png")]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for path, text in zip(written[:2], (as_json(done, about), as_markdown(done)), strict=True):
            with atomic_path(path) as temporary:
                temporary.write_text(text)
        save_image(written[2], sheet.picture())
    except OSError as error:
        raise UserError(f"out={out}: the report cannot be written ({error.strerror or error})") from error
    print("wrote " + ", ".join(map(str, written)))
