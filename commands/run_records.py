"""What a run directory tells of its run: how far it is, what was measured, with which configuration."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from callbacks.csv_table import read_rows
from commands.job_failures import FAILURE_FILE, PRUNED_FILE
from commands.run_directory import flatten, is_running
from imago.errors import UserError
from imago.growth import GrowthSchedule

_DEPTH = 3  # folders below the given one in which run directories are looked for
_ASIDE = ("name", "run_dir", "resume", "callbacks", "logger", "trainer")  # keys that do not shape what is trained
_HIGHER_IS_BETTER = (
    *("precision", "recall", "inception_score", "face_rate", "face_confidence", "modes", "psnr"),
    *("accuracy", "balanced_accuracy", "macro_f1", "images_seen", "images_per_second"),
    *("real_label_accuracy", "fake_label_accuracy", "generator_label_accuracy"),
)
BEST_AT_1 = ("sharpness", "seams")  # metrics, neither better high nor low


@dataclass
class RunRecord:
    """One run.

    Attributes:
        path: Its directory.
        name: Of the directory, relative to what was asked for.
        images_seen: How far it is.
        total_images: How far it is to go; None: unknown.
        running: A process trains there.
        pruned: A study has stopped it.
        values: The newest value of every column of metrics.csv, and of evaluations: ``"swd/avg"``.
        measured: Those of `values` that are metrics rather than of the training itself.
        best: Of best.json: metric, value, images_seen.
        config: Its configuration, flat: ``"loss.drift"``; empty if config.yaml cannot be read.
        samples: The newest sample grid.
        problem: What could not be read.
        failure: The line with which it failed, as a job of a sweep.
    """

    path: Path
    name: str
    images_seen: int = 0
    total_images: int | None = None
    running: bool = False
    pruned: bool = False
    values: dict[str, float] = field(default_factory=dict)
    measured: list[str] = field(default_factory=list)
    best: tuple[str, float, int] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    samples: Path | None = None
    problem: str = ""
    failure: str = ""

    @property
    def state(self) -> str:
        """ "finished", "running, 40 %", "stopped, 40 %", "failed: batch_size must be at least 1"."""
        if self.total_images and self.images_seen >= self.total_images:
            return "finished"
        if self.failure and not self.running:
            return f"failed: {self.failure}"
        if self.problem:
            return self.problem
        share = f", {100 * self.images_seen // self.total_images} %" if self.total_images else ""
        stopped = "pruned" if self.pruned else "stopped" if self.images_seen else "not begun"
        return ("running" if self.running else stopped) + share


def find_runs(given: Any) -> list[RunRecord]:
    """The runs below folders.

    Args:
        given: A folder, a run directory, a pattern with a star, or a list of these.

    Raises:
        UserError: There is none.
    """
    wanted = [str(one) for one in (given if isinstance(given, Sequence) and not isinstance(given, str) else [given])]
    found: dict[Path, str] = {}
    for one in wanted:
        for folder in _folders(one):
            for path in _run_directories(folder, _DEPTH):
                name = path.relative_to(folder).as_posix() if path != folder else folder.name
                several = len(wanted) > 1 or "*" in one
                found.setdefault(path, f"{folder.name}/{name}" if several and path != folder else name)
    if not found:
        raise UserError(
            f"runs={given}: no run directory is there (a folder with config.yaml and metrics.csv or checkpoints/)"
        )
    return [read_run(path, name) for path, name in sorted(found.items(), key=lambda item: _by_number(item[0]))]


def read_run(path: Path, name: str) -> RunRecord:
    """What is known of a run; what cannot be read is told in it, never raised."""
    run = RunRecord(path, name, running=is_running(path), pruned=(path / PRUNED_FILE).exists())
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        record = json.loads((path / FAILURE_FILE).read_text())
        run.failure = str(record["error"])
        run.config = dict(override.lstrip("+").split("=", 1) for override in record["overrides"] if "=" in override)
    try:
        config = yaml.safe_load((path / "config.yaml").read_text())
        shaping = {key: value for key, value in config.items() if key not in _ASIDE}
        run.config = dict(_shown(key, value) for key, value in flatten(shaping).items())
        total = config.get("total_images")
        run.total_images = int(total) if total else _end_of_schedule(config)
    except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError):
        run.problem = "config.yaml cannot be read"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        _read_metrics(run)
    # The last row of metrics.csv may be older than the end of the run.
    run.images_seen = max([run.images_seen, *_images_seen_of(path / "generators")])
    run.values["images_seen"] = run.images_seen
    _read_evaluations(run)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads((path / "best.json").read_text())
        run.best = (record["metric"], float(record["value"]), int(record["images_seen"]))
    grids = sorted((path / "samples").glob("*.png")) or sorted((path / "portraits").glob("*.png"))
    run.samples = grids[-1] if grids else None
    return run


def differing_keys(runs: Sequence[RunRecord]) -> list[str]:
    """The keys of the configuration whose values are not the same in all runs."""
    whole = [run.config for run in runs if run.config and not run.problem]
    keys = {key for config in whole for key in config}
    found = {key for key in keys if len({repr(config.get(key, "—")) for config in whole}) > 1}
    # Of a job that failed early, only its overrides are known; those of groups are names, not values.
    groups = {key.rpartition(".")[0] for key in keys}
    known = {key for run in runs if run.problem for key in run.config if key.partition(".")[0] not in _ASIDE} - groups
    found |= {key for key in known if len({str(run.config[key]) for run in runs if key in run.config}) > 1}
    return sorted(found)


def sort_runs(runs: Sequence[RunRecord], sort_by: str | None) -> tuple[list[RunRecord], str]:
    """The best run first; runs without the metric last.

    Args:
        runs: The runs.
        sort_by: A column, with a minus before it to turn the order round; None: the metric by which runs kept their
            best generator, or the first metric that was measured, or how far they are.

    Returns:
        The runs, and the name of the column.

    Raises:
        UserError: No run has such a column.
    """
    columns = sorted({name for run in runs for name in run.values})
    reverse = sort_by is not None and sort_by.startswith("-")
    name = sort_by.lstrip("-") if sort_by else _default_column(runs)
    if name not in columns:
        raise UserError(f"sort_by={sort_by}: no run has it; there are {', '.join(columns)}")
    down = higher_is_better(name) != reverse

    def key(run: RunRecord) -> tuple[bool, float]:
        value = run.values.get(name, math.nan)
        if _metric_of(name) in BEST_AT_1:
            value = abs(value - 1)
        return (math.isnan(value), -value if down else value)

    return sorted(runs, key=key), name


def higher_is_better(column: str) -> bool:
    """Whether a higher value of a column means a better run."""
    return _metric_of(column) in _HIGHER_IS_BETTER


def _metric_of(column: str) -> str:
    words = column.removeprefix("evaluate/").split("/")
    return words[-1 if words[0] == "validation" else 0]


def _default_column(runs: Sequence[RunRecord]) -> str:
    kept = [run.best[0] for run in runs if run.best and run.best[0] in run.values]
    measured = [name for run in runs for name in run.measured]
    return next(iter(kept + [name for name in measured if name == "swd/avg"] + measured), "images_seen")


def _shown(key: str, value: Any) -> tuple[str, Any]:
    """``model: HDCGAN`` for ``model._target_: lightning_modules.hdcgan.HDCGAN``."""
    if key.endswith("._target_"):
        return key.removesuffix("._target_"), str(value).rpartition(".")[2]
    return key, value


def _folders(given: str) -> list[Path]:
    path = Path(given).expanduser()
    if "*" not in given:
        return [path] if path.is_dir() else []
    parts = path.parts
    fixed = next(i for i, part in enumerate(parts) if "*" in part)
    return sorted(found for found in Path(*parts[:fixed]).glob("/".join(parts[fixed:])) if found.is_dir())


def _run_directories(folder: Path, depth: int) -> Iterator[Path]:
    begun = (folder / "config.yaml").exists() and any((folder / n).exists() for n in ("metrics.csv", "checkpoints"))
    if begun or (folder / FAILURE_FILE).exists():
        yield folder
    elif depth > 0:
        with contextlib.suppress(OSError):
            for below in sorted(folder.iterdir()):
                if below.is_dir() and not below.name.startswith("."):
                    yield from _run_directories(below, depth - 1)


def _by_number(path: Path) -> tuple[str, int, str]:
    number = int(path.name) if path.name.isdigit() else -1
    return str(path.parent), number, path.name


def _read_metrics(run: RunRecord) -> None:
    rows = read_rows(run.path / "metrics.csv")
    for row in rows:
        run.values.update({name: float(text) for name, text in row.items() if text})
        if not row.get("resolution"):  # a row of its own: something was measured
            names = (name for name, text in row.items() if text and not _beside(name))
            run.measured += [name for name in names if name not in run.measured]
    run.images_seen = int(run.values.get("images_seen", 0))


def _images_seen_of(folder: Path) -> list[int]:
    """Of the generators that a run has kept."""
    return [int(path.stem) for path in folder.glob("*.safetensors") if path.stem.isdigit()]


def _beside(name: str) -> bool:
    return name == "images_seen" or name.endswith("/reference")


def _read_evaluations(run: RunRecord) -> None:
    """What evaluate.py measured of the run's newest generator."""
    for path in sorted((run.path / "evaluation").glob("*.json"), key=lambda one: one.stat().st_mtime):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError):
            newest = max(json.loads(path.read_text())["checkpoints"], key=lambda one: one["images_seen"])
            for row in newest["results"]:
                name = f"evaluate/{row['metric']}"
                run.values[name] = float(row["value"])
                run.measured += [] if name in run.measured else [name]


def _end_of_schedule(config: dict[str, Any]) -> int | None:
    try:
        growth = dict(config["growth"])
        if growth.pop("_target_") != "imago.growth.GrowthSchedule":
            return None
        start = growth.pop("start_resolution", None) or config["base"][0]
        return GrowthSchedule(config["resolution"], **growth, start_resolution=start).total_images
    except Exception:  # of a configuration of any age
        return None


def metrics_of(runs: Iterable[RunRecord]) -> list[str]:
    """The metrics that any of the runs has, in the order of their appearance."""
    return list(dict.fromkeys(name for run in runs for name in run.measured))
