"""Packs, ranks and verifies data sets: what ``prepare.py`` does."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from commands.app import SweepError
from commands.command_line import command_line, option_text
from conf.prepare_schema import PrepareConfig
from conf.schemas import DataConfig
from conf.source_schemas import ONLY_TO_PREPARE, SOURCES, DrawnPortraitsOptions
from datamodules.progress import PreparationProgress
from imago.data import PackedDataset, pack
from imago.data.pyramid import level_heights
from imago.data.ranking import rank
from imago.data.scoring import Scores, keep_best, score
from imago.data.sharding import pack_shard
from imago.data.sources.build import build_source
from imago.data.sources.recipes import CELEBA_HQ_LIKE
from imago.data.sources.source import Source, UnreadableImageError
from imago.errors import UserError

logger = logging.getLogger("imago")

_LOOKED_AT = 9  # images that the resolution is chosen from
_LARGEST_BY_ITSELF = 1024  # a larger pack must be asked for


def prepare(cfg: PrepareConfig) -> None:
    """Does what ``what`` says.

    Args:
        cfg: The composed configuration.

    Raises:
        UserError: A configuration that makes no sense, data that are not there or are damaged.
    """
    actions = {"pack": _pack, "rank": _rank, "verify": _verify}
    if cfg.what not in actions:
        raise SweepError(f"what={cfg.what}: must be one of {', '.join(actions)}")
    if len(cfg.base) != 2:
        raise SweepError(f"base must be [height, width], not {list(cfg.base)}")
    actions[cfg.what](cfg)


def _pack(cfg: PrepareConfig) -> None:
    _check_shard(cfg)
    source, count = _source(cfg)
    out = Path(cfg.out).expanduser().absolute()
    scores_beside = out.with_name(out.name + ".scores")
    if count is not None:
        inside = out / "scores"
        scores = _score(cfg, source, inside if inside.is_dir() else scores_beside)
        if scores is None:
            logger.info("all shards must be scored before the best can be packed: then run the same command again")
            return
        source = keep_best(source, count, scores, str(out))
    parameters: dict[str, Any] = {
        "base": (cfg.base[0], cfg.base[1]),
        "channels": cfg.channels,
        "zip_from": cfg.zip_from,
        "crop": cfg.crop,
        "png_level": cfg.png_level,
        "resolution": cfg.resolution or suitable_resolution(source, (cfg.base[0], cfg.base[1])),
    }
    common: dict[str, Any] = {"max_unreadable": cfg.max_unreadable, "workers": _workers(cfg)}
    with PreparationProgress(f"packing {source.name}{_shard_text(cfg)}") as progress:
        packed: PackedDataset | None
        if cfg.shard is not None:
            packed = pack_shard(source, out, cfg.shard, cfg.shards, progress=progress, **common, **parameters)
        else:
            packed = pack(source, out, progress=progress, **common, **parameters)
    if packed is not None:
        if scores_beside.is_dir():  # the same command, given again, needs them
            os.replace(scores_beside, out / "scores")
        _tell(packed)


def _check_shard(cfg: PrepareConfig) -> None:
    if cfg.shards != 1 and cfg.shard is None:
        raise SweepError(f"shards={cfg.shards}: say which one, or sweep over them: -m shard=0,1,… shards={cfg.shards}")


def _shard_text(cfg: PrepareConfig) -> str:
    return "" if cfg.shard is None else f", shard {cfg.shard} of {cfg.shards}"


def _score(cfg: PrepareConfig, source: Source, folder: Path, detector: Any = None) -> Scores | None:
    with PreparationProgress(f"scoring {source.name}{_shard_text(cfg)}") as progress:
        return score(
            source,
            folder,
            shard=cfg.shard or 0,
            shards=cfg.shards,
            detector=detector,
            workers=_workers(cfg),
            progress=progress,
        )


def _tell(packed: PackedDataset) -> None:
    height, width = packed.extent(packed.resolutions[-1])
    print(f"{packed.path}: {packed.count:,} images of {height}×{width} and below, from {packed.name}")
    if packed.label_columns:
        names = [column.name for column in packed.label_columns]
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        print(f"  labels: {shown}")
    if packed.landmarks is not None:
        found = int(np.isfinite(packed.landmarks[:, 0, 0]).sum())
        print(f"  landmarks: {found:,} images")
    _tell_left_out(packed.unreadable, packed.skipped, packed.path)
    if packed.source == "AlignedFaces":
        print(f"  {CELEBA_HQ_LIKE}")
    print(f"  train on it with: {_training_command(packed)}")


def _tell_left_out(left_out: int, skipped: int, folder: Path) -> None:
    if left_out:
        unreadable = left_out - skipped
        print(f"  left out: {skipped:,} skipped, {unreadable:,} unreadable; see {folder / 'unreadable.csv'}")


def _training_command(packed: PackedDataset) -> str:
    options: dict[str, object] = {"data.path": packed.path, "resolution": packed.resolutions[-1]}
    if packed.channels != DataConfig.channels:
        options["data.channels"] = packed.channels
    if packed.base != (4, 4):
        options["base"] = packed.base
    return command_line("train.py", options, "data=packed")


def _rank(cfg: PrepareConfig) -> None:
    _check_shard(cfg)
    if cfg.keep_count is not None and cfg.keep_count < 1:
        raise SweepError(f"keep_count={cfg.keep_count}: must be at least 1")
    source, count = _source(cfg)
    out = Path(cfg.out).expanduser().absolute()
    if out.exists() and not (out.is_dir() and ((out / "scores").is_dir() or not any(out.iterdir()))):
        raise UserError(f"{out}: exists and is not a ranking; choose another place or move it away")
    scores = _score(cfg, source, out / "scores", _detector() if cfg.detect_faces else None)
    if scores is None:
        return
    table = rank(source, scores, out, cfg.keep_count or count)
    print(f"{table}: the scores, best first; as a list: {option_text('source.keep', table)}")
    print(f"{table.parent / 'best.png'}, {table.parent / 'worst.png'}: the best and the worst")
    _tell_left_out(len(scores.left_out), scores.skipped, table.parent)


def _detector() -> Any:
    from imago.faces.landmarks import DlibLandmarks, find_predictor

    try:
        import dlib  # noqa: F401

        find_predictor()
    except (ImportError, UserError) as error:
        logger.warning("faces are not looked for (%s); their columns stay empty", error)
        return None
    return DlibLandmarks()


def _verify(cfg: PrepareConfig) -> None:
    packed = PackedDataset(cfg.out)
    packed.verify()
    print(f"{packed.path}: whole ({packed.count:,} images, checksum {packed.checksum})")


def _source(cfg: PrepareConfig) -> tuple[Source, int | None]:
    """The source that the configuration describes, and how many of its images are to be kept, the best."""
    if cfg.source is None:
        raise SweepError(f"source= is needed: one of {', '.join([*SOURCES, *ONLY_TO_PREPARE])}")
    options_ = OmegaConf.to_container(cfg.source, resolve=True)
    assert isinstance(options_, dict)
    options: dict[str, Any] = {str(key): value for key, value in options_.items()}
    reader, keep, count = options.pop("reader"), options.pop("keep"), options.pop("keep_best")
    if not options["root"] and reader != DrawnPortraitsOptions.reader:
        raise SweepError("source.root is needed: add source.root=… (where the data lie)")
    return build_source(reader, options, cfg.channels, keep), count


def _workers(cfg: PrepareConfig) -> int:
    if cfg.workers is not None and cfg.workers < 1:
        raise SweepError(f"workers={cfg.workers}: must be at least 1")
    return cfg.workers or len(os.sched_getaffinity(0))


def suitable_resolution(source: Source, base: tuple[int, int]) -> int:
    """The largest height, up to 1024, that most images have without being enlarged; looks at a few of them.

    Args:
        source: The images.
        base: ``(H, W)`` of the smallest level.

    Raises:
        UserError: None of them can be read.
    """
    level_heights(base[0], base)  # checks it
    heights = []
    reasons = []
    for index in np.unique(np.linspace(0, len(source) - 1, _LOOKED_AT).astype(int)).tolist() if len(source) else []:
        try:
            height, width = source.read(index).image.shape[:2]
        except UnreadableImageError as error:
            reasons.append(str(error))
            continue
        heights.append(min(height, width * base[0] // base[1]))
    if not heights:
        why = f" ({'; '.join(reasons[:3])})" if reasons else ""
        raise UserError(f"{source.name}: cannot tell its resolution{why}; give resolution=…")
    largest = base[0]
    while 2 * largest <= min(np.median(heights), _LARGEST_BY_ITSELF):
        largest *= 2
    logger.info("resolution=%d (most images of %s have that and more)", largest, source.name)
    return largest
