"""Measures what generators make: what ``evaluate.py`` does."""

from __future__ import annotations

import logging
import math
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed

from commands.app import given_keys
from commands.checkpoints import Checkpoint, find_checkpoints
from commands.devices import find_device
from commands.evaluate_upres import evaluate_upres, is_upres
from commands.evaluation_job import EvaluationJob
from commands.neighbours import check_enough, check_neighbours, write_neighbours
from conf.evaluate_schema import EvaluateConfig
from datamodules.progress import PreparationProgress
from imago.distributed import rank_and_world_size
from imago.errors import UserError
from imago.evaluation.affine_fit import affine_fit
from imago.evaluation.building import MeasureBuilder
from imago.evaluation.image_sets import GeneratedImages, ImageSet, PooledImages, images_of
from imago.evaluation.measure import Measure, Progress, Reals, no_progress
from imago.evaluation.measure import evaluate as evaluate_images
from imago.evaluation.report import Evaluated, notes, table_of_one, table_of_several, write_report
from imago.networks.serialization import load_generator

logger = logging.getLogger("imago")


def evaluate(cfg: EvaluateConfig) -> None:
    """Measures, and prints and writes a report.

    Args:
        cfg: The composed configuration.

    Raises:
        UserError: Options that make no sense, no generator, no data, something that is not installed.
    """
    if cfg.what not in ("metrics", "compare"):
        raise UserError(f"what must be metrics or compare, not {cfg.what}")
    if cfg.what == "compare":
        from commands.compare import compare

        compare(cfg)
        return
    if cfg.checkpoint is None and "checkpoint" not in given_keys():
        raise UserError("checkpoint is needed: add checkpoint=… to the command")
    checkpoints = find_checkpoints(cfg.checkpoint)
    if is_upres(checkpoints):
        evaluate_upres(cfg, checkpoints)
        return
    _check(cfg)
    job = EvaluationJob(cfg)
    job.open_data()  # packs, if need be, before there are other processes
    if cfg.processes == 1:
        measure(job, find_device(cfg.device))
    else:
        from commands.evaluate_processes import start_processes

        start_processes(cfg, job.chosen)


def measure(job: EvaluationJob, device: torch.device) -> None:
    """On one process or, each with its share, on all of them; the first one reports."""
    cfg, reals, first_process = job.cfg, job.reals(), rank_and_world_size()[0] == 0
    progress: Progress = PreparationProgress if first_process else no_progress
    builder = MeasureBuilder(job.options(), device, job.resolution, job.held_out if cfg.held_out else None)
    measures = builder.build()
    out, failure = job.out, None
    if first_process:
        _check_writable(out)
    if "neighbours" in job.metrics:
        check_enough(cfg, reals)
    for one in measures:
        _prepare(one, reals, progress)
    done: list[Evaluated] = []
    groups = [job.checkpoints] if job.protocol.pool else [[checkpoint] for checkpoint in job.checkpoints]
    for group in groups:
        newest = group[-1]
        images = _images(job, group, device)
        name = f"{newest.images_seen:,} images seen" + (f" and {len(group) - 1} more" if len(group) > 1 else "")
        rows = evaluate_images(measures, images, builder.even_batch, name, progress) if measures else []
        given = newest.given if len(group) == 1 else f"{newest.given} and {len(group) - 1} more"
        done.append(Evaluated(given, newest.images_seen, rows))
        if first_process and rows:  # after each: what is measured is not lost
            try:
                written = write_report(out, done, job.about(), job.epoch, cfg.fit == "affine")
            except OSError as error:  # the numbers are shown first, and those of the other generators measured
                failure = error
    if first_process and done[0].rows:
        _print(done, job.data_name)
        if cfg.fit == "affine" and len(done) > 1:
            print("\n".join(_fits(done, job.epoch)))
        if failure is not None:
            raise UserError(f"out={out}: the report cannot be written ({failure.strerror or failure})")
        print("wrote " + ", ".join(map(str, written)))
    if "neighbours" in job.metrics:
        write_neighbours(cfg, builder, images, reals, out.with_name(f"{out.stem}-neighbours.png"), progress)


def _check_writable(out: Path) -> None:
    """Refuses a place for the report where nothing can be written, before anything is measured."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise UserError(f"out={out}: cannot be written there ({error.strerror or error})") from error


def _images(job: EvaluationJob, group: list[Checkpoint], device: torch.device) -> ImageSet:
    sets: list[GeneratedImages] = [
        images_of(load_generator(one.path, device), job.resolution, job.cfg.seed, device, job.cfg.batch_size)
        for one in group
    ]
    return sets[0] if len(sets) == 1 else PooledImages(sets)


def _prepare(measure: Measure, reals: Reals | None, progress: Progress) -> None:
    """Measures the real images, and says so where there are fewer of them than the protocol has."""
    wanted = measure.count
    measure.prepare(reals, progress)
    if measure.count < wanted and rank_and_world_size()[0] == 0:
        logger.warning(
            "%s is of %s images instead of %s: there are %s real ones%s; compare it with no published value",
            measure.name,
            f"{measure.count:,}",
            f"{wanted:,}",
            f"{len(reals or ()):,}",
            ", and a floor needs as many others (floor=false takes all)" if getattr(measure, "floor", False) else "",
        )


def _print(done: list[Evaluated], data: str) -> None:
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=200)
    if len(done) == 1:
        print(f"{done[0].checkpoint}, {done[0].images_seen:,} images seen, beside {data}")
        console.print(table_of_one(done[0]))
    else:
        print(f"{len(done)} generators, beside {data}")
        console.print(table_of_several(done))
        print("\n".join(notes(done[0].rows)))


def _fits(done: list[Evaluated], epoch: int | None) -> list[str]:
    """A line for each metric's affine fit."""
    places = [one.images_seen / (epoch or 1000) for one in done]
    unit = "thousands of images" if epoch is None else "epochs"
    lines = []
    for i, row in enumerate(done[0].rows):
        found = affine_fit(places, [one.rows[i].value for one in done])
        if found is not None:
            lines.append(f"{row.metric} ≈ {found}, x in {unit} (± standard errors)")
    return lines


def _check(cfg: EvaluateConfig) -> None:
    """Refuses what cannot work before anything is loaded."""
    for name in ("batch_size", "processes", "neighbours", "neighbour_samples"):
        if getattr(cfg, name) < 1:
            raise UserError(f"{name} must be at least 1, not {getattr(cfg, name)}")
    if cfg.resolution is not None and cfg.resolution < 1:
        raise UserError(f"resolution must be at least 1, not {cfg.resolution}")
    if not (math.isfinite(cfg.neighbour_crop) and 0 < cfg.neighbour_crop <= 1):
        raise UserError(f"neighbour_crop must lie in (0, 1], not {cfg.neighbour_crop}")
    if not 0 <= cfg.seed < 2**63:
        raise UserError(f"seed must lie in [0, 2⁶³), not be {cfg.seed}")
    if cfg.fit not in (None, "affine"):
        raise UserError(f"fit must be affine or null, not {cfg.fit}")
    if "neighbours" in cfg.metrics:
        check_neighbours(cfg)
    if cfg.out and not cfg.out.endswith(".json"):
        raise UserError(f"out={cfg.out}: the report's name must end in .json")
    if cfg.out and Path(cfg.out).expanduser().is_dir():
        raise UserError(f"out={cfg.out} is a folder; give the name of a file")
