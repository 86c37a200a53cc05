"""From noise to a print with nothing trained yet: what ``train.py experiment=portrait_demo`` does.

Two lanes of commands run beside each other: one trains a small DCGAN on drawn portraits of 64² (``low``), the other
draws portraits of 768² and trains two small up-resolution stages on them (``upres``, ``print``). Then faces are made
from noise and up-resolved to 768², landmarks are looked for in each, and one of them is taken on to 4096². Every
command is printed as one can give it oneself, and goes on where it was stopped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from commands.app import given_keys
from commands.lanes import Command, run_lanes
from commands.numbers import parse_numbers
from commands.run_directory import RunDirectory
from conf.schemas import TrainConfig
from imago.errors import UserError
from imago.faces.finding import find_finder

_STAGES = ("low", "upres", "print")
_OURS = ("experiment", "run_dir", "data", "data.path")  # of a stage's options: those that the demo sets
_THEIRS = ("experiment", "run_dir", "name", "seed")  # options of the demo itself, besides model.…
_FEWEST = 8  # portraits: some of them are held out


@dataclass
class Plan:
    """What the demo makes; see :class:`conf.portrait_demo_schema.PortraitDemoOptions`.

    Raises:
        UserError: Values out of range, or options of a stage that are not its own.
    """

    portraits: int
    seeds: Any
    size: int
    low: Mapping[str, Any]
    upres: Mapping[str, Any]
    print: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.portraits < _FEWEST:
            raise UserError(f"model.portraits={self.portraits}: draw at least {_FEWEST}")
        if self.size < 1:
            raise UserError(f"model.size={self.size}: must be at least 1")
        parse_numbers("model.seeds", self.seeds)
        for stage in _STAGES:
            for key, _ in self.options(stage):
                if key in _OURS:
                    raise UserError(f"model.{stage}.{key}: the demo sets {', '.join(_OURS)} of its stages itself")

    def options(self, stage: str) -> list[tuple[str, Any]]:
        """(key, value) of what is given to a stage."""
        return list(_leaves(getattr(self, stage), ""))

    @property
    def numbers(self) -> list[int]:
        """The seeds."""
        return parse_numbers("model.seeds", self.seeds)


def portrait_demo(cfg: TrainConfig, options: dict[str, Any], run_dir: Path) -> None:
    """Trains all stages, makes faces from noise and one print, and says how often landmarks were found.

    Args:
        cfg: The composed configuration.
        options: Its model, resolved, as plain containers.
        run_dir: Holds ``low``, ``upres`` and ``print``, the three runs; ``portraits``, what the latter two learn from;
            ``faces``, up-resolved to 768²; ``portrait``, the print, beside a contact sheet of its stages.

    Raises:
        UserError: Options that the demo does not take, dlib is not installed, or what a stage says.
    """
    _refuse_other_options()
    plan: Plan = instantiate(options, _convert_="all")
    find_finder("dlib", None, "cpu")  # is it installed? Not to be told after ten minutes
    with RunDirectory(run_dir).locked():
        began = time.monotonic()
        run_lanes(training_lanes(plan, cfg.seed, run_dir), _say)
        faces = run_dir / "faces"
        _upres(run_dir, [run_dir / "upres"], plan.numbers, faces, "skip_existing=true")
        found = [seed for seed in plan.numbers if _landmarks_found(face_path(faces, seed))]
        count = len(plan.numbers)
        _say(f"landmarks were found in {len(found)} of {count} faces ({len(found) / count:.0%})")
        chosen = (found or plan.numbers)[0]
        portrait = run_dir / "portrait"
        _upres(run_dir, [run_dir / "upres", run_dir / "print"], [chosen], portrait, f"size={plan.size}")
        minutes = (time.monotonic() - began) / 60
        _say(f"from noise to {plan.size}² in {minutes:.1f} minutes: {face_path(portrait, chosen)}")


def training_lanes(plan: Plan, seed: int, run_dir: Path) -> list[list[Command]]:
    """The commands that train the stages.

    Returns:
        Two lanes: the generator of faces; the portraits with the two stages that learn from them.
    """
    portraits = run_dir / "portraits"
    draw = [
        "source=drawn_portraits",
        f"source.count={plan.portraits}",
        "source.size=768",
        f"source.seed={seed}",
        "resolution=768",
        "base=[6,6]",
        "zip_from=1024",  # arrays: reading is not to hold up a small network
        "workers=1",
        f"out={portraits}",
    ]

    def stage(name: str, *more: str) -> Command:
        given = [f"experiment=portrait_demo_{name}", f"run_dir={run_dir / name}", f"seed={seed}", *more]
        return Command(name, "train", [*given, *(f"{key}={_text(value)}" for key, value in plan.options(name))])

    return [
        [stage("low")],
        [
            Command("draw", "prepare", draw),
            stage("upres", f"data.path={portraits}"),
            stage("print", f"data.path={portraits}"),
        ],
    ]


def face_path(folder: Path, seed: int) -> Path:
    """Where ``upres.py`` puts the face of a seed."""
    return folder / f"seed{seed:04d}-00000.png"


def _upres(run_dir: Path, stages: Sequence[Path], seeds: Sequence[int], out: Path, *more: str) -> None:
    arguments = [
        f"generator={run_dir / 'low'}",
        f"checkpoint=[{','.join(map(str, stages))}]",
        f"seeds=[{','.join(map(str, seeds))}]",
        f"out={out}",
        *more,
    ]
    run_lanes([[Command("enlarge", "upres", arguments)]], _say)


def _landmarks_found(path: Path) -> bool:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.info.get("landmarks") == "found"


def _refuse_other_options() -> None:
    """Options of a GAN would be given to none of the stages, and change nothing."""
    for key in given_keys():
        if key not in _THEIRS and not key.startswith("model."):
            raise UserError(
                f"{key}: the demo takes run_dir, seed and model.…; options of a stage are given as model.low.{key}, "
                f"model.upres.{key}, model.print.{key}"
            )


def _leaves(options: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    """A value as Hydra reads it on a command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_text, value))}]"
    text = str(value)
    if not isinstance(value, str) or re.fullmatch(r"[\w./:+-]+", text, re.ASCII):
        return text
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"


def _say(line: str) -> None:
    print(line, flush=True)
