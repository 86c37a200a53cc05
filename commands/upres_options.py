"""The options of upres.py, checked before anything is loaded."""

import dataclasses
import math
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import MISSING
from omegaconf.errors import MissingMandatoryValue

from commands.numbers import parse_numbers
from conf.upres_schema import UpresConfig
from imago.errors import UserError
from imago.faces.finding import BACKENDS
from imago.images import IMAGE_ENDINGS
from imago.picture_files import check_picture_path
from imago.upres.execution import PRECISIONS
from imago.upres.film_options import FilmOptions
from imago.upres.options import TilingOptions
from imago.upres.portrait import FRAMINGS
from imago.video import FILM_ENDINGS

FORMATS = ("png", "tif", "jpg")
MODES = ("portrait", "whole")
KINDS = ("images", "film")

Options = TypeVar("Options", TilingOptions, FilmOptions)


def check_options(cfg: UpresConfig) -> None:
    """Refuses what cannot be meant.

    Raises:
        UserError: The option, what it is and what it may be.
    """
    for name, valid in (
        ("mode", MODES),
        ("what", KINDS),
        ("format", FORMATS),
        ("landmarks", BACKENDS),
        ("framing", FRAMINGS),
        ("precision", tuple(PRECISIONS)),
    ):
        if getattr(cfg, name) not in valid:
            raise UserError(f"{name}={getattr(cfg, name)} is unknown; choose one of {', '.join(valid)}")
    checkpoints_of(cfg)
    _check_source(cfg)
    for name in ("largest", "dpi"):
        if getattr(cfg, name) < 1:
            raise UserError(f"{name} must be at least 1, not {getattr(cfg, name)}")
    if cfg.size is not None and not 1 <= cfg.size <= cfg.largest:
        raise UserError(f"size={cfg.size}: must be from 1 to largest={cfg.largest} pixels")
    check_picture_path(f"picture.{cfg.format}", cfg.bits, side=cfg.size or 1)
    if cfg.out:
        out = Path(cfg.out).expanduser()
        if out.suffix.lower() in (*IMAGE_ENDINGS, ".tif", ".tiff", *FILM_ENDINGS) and not out.is_dir():
            raise UserError(f"out={cfg.out}: out is a folder; files in it are named after what they were made from")
        if out.exists() and not out.is_dir():
            raise UserError(f"out={cfg.out} is a file; give a folder")
    tiling_options(cfg)
    film_options(cfg)


def _check_source(cfg: UpresConfig) -> None:
    if bool(cfg.input) == bool(cfg.generator):
        both = "both are" if cfg.input else "neither is"
        raise UserError(f"give input= (a picture, a folder or a film) or generator= (a checkpoint); {both} given")
    if cfg.generator:
        parse_numbers("seeds", cfg.seeds)
        if cfg.pictures is not None:
            parse_numbers("pictures", cfg.pictures)
        if cfg.mode == "whole" or cfg.paste_back:
            raise UserError("mode=whole and paste_back are for input=; a generator's pictures are portraits")
        if not 0 < cfg.truncation <= 1:
            raise UserError(f"truncation must lie in (0, 1], where 1 is off, not {cfg.truncation}")
        if cfg.what == "film" and not (math.isfinite(cfg.seconds) and cfg.seconds > 0 and cfg.fps >= 1):
            raise UserError(f"seconds={cfg.seconds} fps={cfg.fps}: must be positive")
        return
    if cfg.what == "film":
        raise UserError("what=film is for generator=; a film given as input= is up-resolved as one")
    if cfg.labels or cfg.truncation != 1:
        raise UserError("labels and truncation are for generator=")
    if cfg.mode == "portrait" and cfg.landmarks == "none":
        raise UserError(
            "mode=portrait needs landmarks to find the face: leave out landmarks=none, or choose mode=whole"
        )
    if cfg.mode == "whole" and cfg.paste_back:
        raise UserError("paste_back puts a portrait back into its photo; it needs mode=portrait")


def checkpoints_of(cfg: UpresConfig) -> list[str]:
    """The stages' checkpoints, as they were given.

    Raises:
        UserError: None was given.
    """
    try:
        given: Any = cfg.checkpoint
    except MissingMandatoryValue:  # what a Hydra config does on reading a value that was not given
        given = None
    several = [given] if isinstance(given, str | int | float) else list(given or [])
    paths = [str(path) for path in several if str(path) not in ("", MISSING)]
    if not paths:
        raise UserError(
            "checkpoint= is missing: give the run directory, .ckpt or .safetensors of a trained stage, or several as "
            "[first,second]"
        )
    return paths


def tiling_options(cfg: UpresConfig) -> TilingOptions:
    """How stages go over pictures.

    Raises:
        UserError: A value that makes no sense, by the name under which it was given.
    """
    return _built(TilingOptions, "tiling", cfg.tiling, variants=tuple(cfg.tiling.variants), precision=cfg.precision)


def film_options(cfg: UpresConfig) -> FilmOptions:
    """How films are made stable.

    Raises:
        UserError: A value that makes no sense, by the name under which it was given.
    """
    return _built(FilmOptions, "film", cfg.film)


def _built(kind: type[Options], group: str, given: Any, **other: Any) -> Options:
    names = [field.name for field in dataclasses.fields(kind) if field.name not in other]
    try:
        return kind(**{name: getattr(given, name) for name in names}, **other)
    except UserError as error:
        raise UserError(f"{group}.{error}") from error
