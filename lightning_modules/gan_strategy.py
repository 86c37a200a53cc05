"""Several processes without a wrapper around the model: the training step exchanges gradients itself."""

import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

logger = logging.getLogger("imago")

_PATIENCE = 5.0  # seconds that this process gets to end by itself when one that it started has failed early
_LONG_PATIENCE = 180.0  # likewise while training, where the process watch knows better


class GanStrategy(DDPStrategy):
    """Lightning's DDP on its launchers, environments and back ends, without ``DistributedDataParallel``.

    That class exchanges gradients during the backward pass, all of the model's: with two networks that train in turn,
    inactive stages and second derivatives it fails, or sends twice as much (pytorch-lightning #17958, #20328); and it
    sends buffers along in every step. imago's step sends the gradients of the network that steps, once, as one tensor
    (:func:`imago.distributed.average_over_processes`). What is left to do here is to begin with equal weights.

    Arguments as of ``DDPStrategy``; ``timeout`` ends an exchange that does not come back.
    """

    def configure_ddp(self) -> None:
        """Gives all processes the first one's weights and buffers."""
        assert self.model is not None
        with torch.no_grad():
            for tensor in self.model.state_dict().values():
                if isinstance(tensor, torch.Tensor):
                    torch.distributed.broadcast(tensor, src=0)

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)


class _Launcher(_SubprocessScriptLauncher):
    """Starts the other processes of this machine, unless something else has.

    Lightning's own kills this process within seconds when another one ends with an error, before a checkpoint, a
    message or a logger is finished.
    """

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Starts them and calls ``function`` in all of them."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            threading.Thread(target=_end_with_children, args=(self.procs,), daemon=True).start()
        elif isinstance(self.cluster_environment, LightningEnvironment) and self.cluster_environment.local_rank() > 0:
            threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
        return function(*args, **kwargs)


def _end_with_children(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends this process after one that it started has failed, if nothing else does."""
    while all(child.poll() in (None, 0) for child in children):
        if all(child.returncode == 0 for child in children):
            return
        time.sleep(0.5)
    rank, code = next((i, child.returncode) for i, child in enumerate(children, 1) if child.returncode)
    _have_patience()
    logger.error("error: process %d ended with %s %d", rank, "exit code" if code > 0 else "signal", abs(code))
    for child in children:
        child.kill()
    os._exit(1)


def _end_with_parent(parent: int) -> None:
    """Ends this process after the one that started it, if nothing else does."""
    while os.getppid() == parent:
        time.sleep(0.5)
    _have_patience()
    os._exit(1)


def _have_patience() -> None:
    time.sleep(_LONG_PATIENCE if torch.distributed.is_initialized() else _PATIENCE)
