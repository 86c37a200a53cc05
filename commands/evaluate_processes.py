"""Several processes that share an evaluation."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from omegaconf import OmegaConf
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from commands.devices import find_device
from conf.evaluate_schema import EvaluateConfig
from imago.errors import UserError, first_line


def start_processes(cfg: EvaluateConfig, chosen: list[str]) -> None:
    """Measures with ``cfg.processes`` processes on this machine; the data must be packed already.

    Args:
        cfg: The options.
        chosen: See :class:`commands.evaluation_job.EvaluationJob`.

    Raises:
        UserError: Not as many GPUs, or what one of the processes stumbled over.
    """
    gpus = find_device(cfg.device).type == "cuda"
    if gpus and cfg.processes > torch.cuda.device_count():
        raise UserError(f"processes={cfg.processes}: there are {torch.cuda.device_count()} GPUs here")
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # what failed is told below, once
    with tempfile.TemporaryDirectory(prefix="imago-") as folder:
        arguments = (OmegaConf.to_container(cfg, resolve=True), chosen, gpus, folder)
        try:
            context = torch.multiprocessing.spawn(_work, arguments, nprocs=cfg.processes, join=False)
            try:
                while not context.join():
                    pass
            finally:  # whatever stopped this process: none goes on alone
                for process in context.processes:
                    if process.is_alive():
                        process.terminate()
        except (ProcessRaisedException, ProcessExitedException) as error:
            told = sorted(Path(folder).glob("error-*"))
            if told:
                raise UserError(told[0].read_text()) from None
            raise UserError(f"one of the processes failed: {first_line(error)}") from error


def _work(rank: int, options: dict[str, Any], chosen: list[str], gpus: bool, folder: str) -> None:
    """One of the processes."""
    from commands.app import CurrentStderrHandler
    from commands.evaluate import measure
    from commands.evaluation_job import EvaluationJob

    level = logging.INFO if rank == 0 else logging.ERROR
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[CurrentStderrHandler()])
    logging.getLogger("imago").setLevel(level)
    if not gpus:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // options["processes"]))
    device = torch.device("cuda", rank) if gpus else find_device(options["device"])
    if gpus:
        torch.cuda.set_device(device)
    cfg: Any = OmegaConf.create(options)
    try:
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo",
            f"file://{folder}/store",
            rank=rank,
            world_size=options["processes"],
        )
        job = EvaluationJob(cfg, chosen)
        job.open_data(verify=False)
        measure(job, device)
        torch.distributed.barrier()
    except (UserError, OSError) as error:
        Path(folder, f"error-{rank}").write_text(str(error))
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
