"""The options of generate.py, checked before anything is loaded."""

import math
from pathlib import Path

from omegaconf import MISSING
from omegaconf.errors import MissingMandatoryValue

from conf.generate_schema import GenerateConfig
from imago.errors import UserError
from imago.images import IMAGE_ENDINGS
from imago.video import FILM_ENDINGS, check_film_path


def check_options(cfg: GenerateConfig) -> None:
    """Refuses what cannot work.

    Raises:
        UserError: An option is out of range, missing, or does not go with another.
    """
    formats = tuple(ending.removeprefix(".") for ending in IMAGE_ENDINGS)
    films = tuple(ending.removeprefix(".") for ending in FILM_ENDINGS)
    choices: list[tuple[str, str, tuple[str, ...]]] = [
        ("what", cfg.what, ("images", "grid", "interpolation", "dataset", "errors", "activations")),
        ("path", cfg.path, ("gaussian", "slerp", "cubic")),
        ("format", cfg.format, formats),
        ("film", films[0] if cfg.film is None else cfg.film, films),
    ]
    for name, value, valid in choices:
        if value not in valid:
            raise UserError(f"{name}={value} is unknown; choose one of {', '.join(valid)}")
    for name in ("count", "batch_size", "columns", "rows", "fps", "scale", "epoch"):
        value = getattr(cfg, name)
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    if cfg.keyframes < 2:
        raise UserError(f"keyframes must be at least 2, not {cfg.keyframes}")
    if not (math.isfinite(cfg.seconds) and cfg.seconds > 0):
        raise UserError(f"seconds must be more than 0, not {cfg.seconds}")
    if not 0 < cfg.truncation <= 1:
        raise UserError(f"truncation must lie in (0, 1], where 1 is off, not {cfg.truncation}")
    _check_pictures(cfg)
    try:
        given = cfg.checkpoint not in ("", MISSING)
    except MissingMandatoryValue:  # what a Hydra config does on reading a value that was not given
        given = False
    if not given:
        raise UserError("checkpoint= is missing: give a run directory, a .ckpt file or a generator .safetensors")
    if cfg.out:
        out = Path(cfg.out).expanduser()
        if out.suffix.lower() in IMAGE_ENDINGS + FILM_ENDINGS:
            raise UserError(f"out={cfg.out}: out is a folder, files in it are named after their seed and settings")
        if out.exists() and not out.is_dir():
            raise UserError(f"out={cfg.out} is a file; give a folder")
    if cfg.what == "dataset":
        if not cfg.out:
            raise UserError("out= is missing: the folder of the data set to make")
        if cfg.seeds is not None or cfg.pictures is not None or cfg.scale != 1:
            raise UserError("what=dataset takes one seed and no scale: leave out seeds, pictures and scale")
        if not cfg.dataset.max_tries >= 1:
            raise UserError(f"dataset.max_tries must be at least 1, not {cfg.dataset.max_tries}")
    if cfg.what == "interpolation" and cfg.film:
        check_film_path(f"film.{cfg.film}")


def _check_pictures(cfg: GenerateConfig) -> None:
    for name, values in (("seed", [cfg.seed]), ("seeds", cfg.seeds), ("pictures", cfg.pictures)):
        if values is not None and (len(values) == 0 or min(values) < 0):
            raise UserError(f"{name}={values}: give numbers of at least 0")
    listed = cfg.seeds is not None or cfg.pictures is not None
    if cfg.what == "interpolation" and listed:
        if cfg.path == "gaussian":
            raise UserError("path=gaussian wanders freely; to film seeds= or pictures=, choose path=slerp or cubic")
        if (cfg.columns or 1) * (cfg.rows or 1) > 1:
            raise UserError("a film through seeds= or pictures= shows one at a time; leave out columns and rows")
