"""Accidents that happen to a process of a test at chosen moments: signals, kills, full disks, NaN."""

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import util
from pathlib import Path
from typing import Any

import torch


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


def fail_at(target: str, error: BaseException, first: int, last: int | None = None) -> None:
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


def instructions() -> None:
    """Carries out what the environment asks of a process that another program started (two processes, see main)."""
    for name, arguments in json.loads(os.environ.get("ACCIDENTS", "[]")):
        globals()[name](**arguments)
