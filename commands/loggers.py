"""The loggers of a run, besides metrics.csv."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from pytorch_lightning.loggers import Logger

from commands.code_snapshot import current_revision
from commands.processes import place
from commands.trainer import is_sweep


def build_loggers(config: dict[str, Any], run_dir: Path, images_seen: int) -> list[Logger]:
    """The loggers besides metrics.csv; the first process alone has any.

    Args:
        config: The resolved configuration as plain containers.
        run_dir: The run directory.
        images_seen: Where the run begins or goes on.
    """
    if not place().first:
        return []
    sweep = Path(HydraConfig.get().sweep.dir).name if is_sweep() else None
    described = {**config, "code": {"revision": current_revision().name}}
    return [
        # Not as arguments of instantiate, which would build the networks that the configuration describes.
        instantiate(options, _convert_="all", _partial_=True)(
            run_dir=run_dir, run_config=described, sweep=sweep, images_seen=images_seen
        )
        for options in config["logger"].values()
        if options
    ]
