"""Runs of train.py and generate.py in processes of their own, with accidents at chosen moments.

The processes are forked from a server that has imported everything already, so one costs a second rather than ten, and
yet it can be killed, exits with a code and writes to its own standard error.
"""

import importlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import util
from pathlib import Path
from typing import Any

import torch

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


# --- accidents --------------------------------------------------------------------------------------------------------


def die() -> None:
    """``kill -9`` of this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_after_calls(calls: int, count_to: str | None = None) -> None:
    """Kills the process at its n-th call or return of any Python function: a moment that no machine's speed changes.

    Args:
        calls: When.
        count_to: Instead of killing, write the number of calls of the whole run to this file.
    """
    counted = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal counted
        counted += 1
        if counted == calls:
            die()

    if count_to is not None:
        util.Finalize(None, lambda: Path(count_to).write_text(str(counted)), exitpriority=0)
    sys.setprofile(profile)


def patch(target: str, replacement: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replaces ``"module:Class.name"`` by what ``replacement`` makes of it."""
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, replacement(getattr(owner, name)))


def kill_at(target: str, call: int, when: str = "before") -> None:
    """Kills the process before, after or in the middle of the n-th call (from 1) of a function.

    Args:
        target: ``"module:Class.name"``.
        call: Which call.
        when: "before", "after", or "half": ``torch.save(state, file)`` writes half of its bytes.
    """

    def replacement(original: Callable[..., Any]) -> Callable[..., Any]:
        calls = 0

        def killing(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call and when == "before":
                die()
            result = original(*args, **kwargs)
            if calls == call:
                if when == "half":
                    args[1].truncate(args[1].tell() // 2)
                    args[1].flush()
                die()
            return result

        return killing

    patch(target, replacement)


def signal_at(target: str, call: int, number: signal.Signals) -> None:
    """Sends the process a signal before the n-th call (from 1) of a function.

    Args:
        target: ``"module:Class.name"``.
        call: Which call.
        number: The signal.
    """

    def replacement(original: Callable[..., Any]) -> Callable[..., Any]:
        calls = 0

        def signalled(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), number)
            return original(*args, **kwargs)

        return signalled

    patch(target, replacement)


def fail_at(target: str, error: OSError, first: int, last: int | None = None) -> None:
    """Makes the calls ``first`` to ``last`` (None: all later ones) of a function raise ``error``."""

    def replacement(original: Callable[..., Any]) -> Callable[..., Any]:
        calls = 0

        def failing(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if first <= calls and (last is None or calls <= last):
                raise error
            return original(*args, **kwargs)

        return failing

    patch(target, replacement)


def poison(first: int, last: int, value: float = float("nan"), rank: int | None = None, what: str = "reals") -> None:
    """Puts NaN or infinity into the steps that begin at ``first`` ≤ images_seen ≤ ``last``.

    Args:
        first: images_seen of the first poisoned step.
        last: Of the last one.
        value: NaN or infinity.
        rank: Only on this process; None: on all.
        what: "reals": in the batch; "generator" or "discriminator": in the gradients of that network.
    """

    def hit(module: Any) -> bool:
        return first <= module.images_seen <= last and rank in (None, module.trainer.global_rank)

    def poison_reals(original: Callable[..., Any]) -> Callable[..., Any]:
        def poisoned(module: Any, images: Any) -> Any:
            reals = original(module, images)
            if hit(module):
                reals = reals.clone()
                reals[0, 0, 0, 0] = value
            return reals

        return poisoned

    def poison_gradients(original: Callable[..., Any]) -> Callable[..., Any]:
        def poisoned(module: Any, network: Any, *args: Any, **kwargs: Any) -> Any:
            if hit(module) and network is getattr(module, what):
                handle = module.active_parameters(network)[0].register_hook(lambda gradient: gradient * value)
                try:
                    return original(module, network, *args, **kwargs)
                finally:
                    handle.remove()
            return original(module, network, *args, **kwargs)

        return poisoned

    module = "lightning_modules.adversarial:AdversarialModule"
    if what == "reals":
        patch(f"{module}._reals", poison_reals)
    else:
        patch(f"{module}._update", poison_gradients)


def record_weights(folder: str) -> None:
    """Writes ``folder/rank<n>.ckpt`` at the end: the whole training state of each process."""

    def replacement(original: Callable[..., Any]) -> Callable[..., Any]:
        def recording(callback: Any, trainer: Any, module: Any) -> Any:
            torch.save(module.training_state(), Path(folder) / f"rank{trainer.global_rank}.ckpt")
            return original(callback, trainer, module)

        return recording

    patch("callbacks.snapshot:Snapshot.on_train_end", replacement)


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


def instructions() -> None:
    """Carries out what the environment asks of a process that another program started (two processes, see main)."""
    for name, arguments in json.loads(os.environ.get("ACCIDENTS", "[]")):
        globals()[name](**arguments)


if __name__ == "__main__":  # `python tests/training_runs.py …` is `python train.py …` with accidents on every process
    sys.path[:0] = [str(REPOSITORY)]
    instructions()
    importlib.import_module("train").main()
