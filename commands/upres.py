"""Faces, photos and films enlarged stage by stage: what ``upres.py`` does."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from commands.app import IncompleteError
from commands.checkpoints import run_of
from commands.devices import find_device
from commands.upres_film_files import upres_film_file
from commands.upres_films import upres_noise_film
from commands.upres_job import UpresJob
from commands.upres_noise import find_noise, upres_noise
from commands.upres_options import check_options, checkpoints_of, film_options, tiling_options
from commands.upres_pictures import upres_picture
from conf.upres_schema import UpresConfig
from imago.errors import MissingDependencyError, UserError
from imago.faces.finding import LandmarkFinder, find_finder
from imago.upres.failures import Failures
from imago.upres.inputs import find_inputs
from imago.upres.loading import load_stage
from imago.upres.selection import find_score
from imago.upres.stages import Stage


def upres(cfg: UpresConfig) -> list[Path]:
    """Makes what the options ask for, and prints what was written and where.

    Args:
        cfg: The options; any object with the attributes of :class:`UpresConfig`.

    Returns:
        The files written, in order.

    Raises:
        UserError: An option is out of range, a checkpoint or a file cannot be read.
        IncompleteError: Some pictures of a folder failed; the others are written.
    """
    check_options(cfg)
    device = find_device(cfg.device)
    checkpoints = checkpoints_of(cfg)
    stages = [load_stage(path, str(device)) for path in checkpoints]
    out = Path(cfg.out).expanduser() if cfg.out else run_of(Path(checkpoints[-1]).expanduser()) / "upres"
    job = UpresJob(cfg, stages, tiling_options(cfg), _finder(cfg, stages, str(device)), out)
    _check_stages(job)
    try:
        try:
            _make(job)
        finally:
            job.write_sheet()
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}") from error
    return job.written


def _make(job: UpresJob) -> None:
    cfg = job.cfg
    if cfg.generator:
        source = find_noise(cfg, job.out)
        if cfg.what == "film":
            upres_noise_film(job, source, film_options(cfg))
        else:
            upres_noise(job, source)
        return
    given = cfg.input if isinstance(cfg.input, str) else [str(path) for path in cfg.input]
    inputs = find_inputs(given, job.out, f".{cfg.format}", skip_existing=cfg.skip_existing)
    job.tell_left_out(len(inputs.existing), len(inputs.existing) + len(inputs.files))
    failures = Failures(len(inputs.files))
    for file in inputs.files:
        with failures.recorded(file.name) if len(inputs.files) > 1 else nullcontext():
            if file.is_film:
                upres_film_file(job, file, film_options(cfg))
            else:
                with nullcontext() if job.finder is None else job.finder.uncounted_on_failure():
                    upres_picture(job, file)
    if any(not file.is_film for file in inputs.files):
        job.tell_landmarks("pictures")
    try:
        failures.raise_if_any()
    except UserError as error:
        raise IncompleteError(str(error)) from error


def _finder(cfg: UpresConfig, stages: Sequence[Stage], device: str) -> LandmarkFinder | None:
    """What looks for faces, if there is a use for them."""
    cuts = not cfg.generator and cfg.mode == "portrait"
    if not cuts and not any(stage.guide_channels for stage in stages):
        return None
    try:
        return find_finder(cfg.landmarks, cfg.predictor_path, device)
    except MissingDependencyError as error:
        if cuts:
            raise
        raise UserError(f"{error}, or choose landmarks=none: all guides are empty then") from error


def _check_stages(job: UpresJob) -> None:
    """What would go wrong with every picture is told once."""
    options = job.options
    job.portrait_steps((1, 1))
    for stage in job.stages:
        options.stride_of(stage.tile)
        if options.chooses:
            find_score(options.score, stage.score)
