"""Runs of train.py and generate.py in processes of their own, and what they left.

The processes are forked from a server that has imported everything already, so one costs a second rather than ten, and
yet it can be killed, exits with a code and writes to its own standard error.
"""

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import accidents

REPOSITORY = Path(__file__).parent.parent

# 40 steps of 8 images: 4², fade to 8² at 64, 8² at 128, fade to 16² at 192, 16² at 256.
TINY = (
    "resolution=16",
    "model.fmap_base=64",
    "model.fmap_max=8",
    "model.latent_size=8",
    "growth.stabilize_images=64",
    "growth.fade_images=64",
    "growth.final_images=64",
    "growth.batch_size=8",
    "callbacks.showcase=null",
    "callbacks.snapshot.every_images=48",
    "callbacks.sample_grid={every_images: 48, columns: 2, rows: 2}",
    "callbacks.scalar_log.every_images=16",
    "trainer.accelerator=cpu",
    "data=packed",
)
TOTAL = 320

Accident = Callable[[], None]  # what happens to a process before it begins; a module-level function or a partial of one


@dataclass(frozen=True)
class Finished:
    """How a run ended.

    Attributes:
        code: Exit code; -9 if it was killed.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that tells a user's mistake."""
        lines = self.err.strip().splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1, self.err
        assert lines[-1] == errors[0], self.err
        assert "Traceback" not in self.err
        assert self.code not in (0, None), self.code
        return errors[0]


class Commands:
    """Starts commands as processes forked from a warm server; one per test session.

    Args:
        folder: Where their output is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(
            [
                "pytest",
                "train",
                "generate",
                "prepare",
                "evaluate",
                "upres",
                "commands.train",
                "commands.classify",
                "torchmetrics.functional.classification",
                "matplotlib.figure",
                "matplotlib.backends.backend_agg",
                "lightning_modules.pggan",
                "imago.evaluation.building",
                "imago.evaluation.pixel_measures",
                "imago.evaluation.feature_measures",
                "training_runs",
                "accidents",
            ]
        )
        self.started = 0

    def start(
        self, command: str, arguments: Sequence[str], accident: Accident | None = None, **environment: str
    ) -> "Running":
        """Starts ``python <command>.py <arguments>``."""
        self.started += 1
        output = self.folder / f"{self.started}.out", self.folder / f"{self.started}.err"
        environment = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", **environment}
        process = self.context.Process(target=_run, args=(command, list(arguments), output, environment, accident))
        before = {name: os.environ.get(name) for name in ("PYTHONPATH", "OMP_NUM_THREADS")}
        os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)])
        os.environ["OMP_NUM_THREADS"] = "1"
        try:
            process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        return Running(process, *output)

    def run(
        self, command: str, arguments: Sequence[str], accident: Accident | None = None, **environment: str
    ) -> Finished:
        """Runs a command to its end."""
        return self.start(command, arguments, accident, **environment).wait()


@dataclass(frozen=True)
class Running:
    """A command under way."""

    process: Any
    out: Path
    err: Path

    def wait(self) -> Finished:
        self.process.join(240)
        assert self.process.exitcode is not None, f"still running: {self.err.read_text()}"
        return Finished(self.process.exitcode, self.out.read_text(), self.err.read_text())


def _run(
    command: str,
    arguments: list[str],
    output: tuple[Path, Path],
    environment: dict[str, str],
    accident: Accident | None,
) -> None:
    for descriptor, path in zip((1, 2), output, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    multiprocessing.set_start_method("fork", force=True)  # of loader workers, as in a process started by a user
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.argv = [str(REPOSITORY / f"{command}.py"), *arguments]
    main = importlib.import_module(command).main
    if accident is not None:
        accident()
    try:
        main()
    finally:
        sys.setprofile(None)
        sys.stdout.flush()


# --- what a run left --------------------------------------------------------------------------------------------------


def state_of(run: Path, name: str = "last") -> dict[str, Any]:
    """A run's checkpoint."""
    state: dict[str, Any] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return state


_TRAINED = ("images_seen", "skipped_updates", "generator", "discriminator", "generator_ema", "loss", "optimizers")


def differences(first: Any, second: Any, path: str = "") -> list[str]:
    """Where two training states differ in any bit."""
    if path == "" and isinstance(first, dict):
        first, second = ({key: state[key] for key in _TRAINED} for state in (first, second))
    if isinstance(first, torch.Tensor):
        same = first.dtype == second.dtype and torch.equal(first, second)
        return [] if same else [f"{path}: {(first.double() - second.double()).abs().max():.3g}"]
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [f"{path}: {sorted(map(str, first.keys() ^ second.keys()))}"]
        return [line for key in first for line in differences(first[key], second[key], f"{path}.{key}")]
    if isinstance(first, list | tuple):
        pairs = enumerate(zip(first, second, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{path}[{i}]")]
    return [] if first == second else [f"{path}: {first} and {second}"]


def largest_difference(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Of all weights of the three networks."""
    return max(
        float((first[network][name].double() - second[network][name].double()).abs().max())
        for network in ("generator", "discriminator", "generator_ema")
        for name in first[network]
    )


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """All files below a folder: (bytes, time of modification)."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


if __name__ == "__main__":  # `python tests/training_runs.py …` is `python train.py …` with accidents on every process
    sys.path[:0] = [str(REPOSITORY)]
    accidents.instructions()
    importlib.import_module("train").main()
