"""Weights & Biases with images_seen as the step of everything."""

from __future__ import annotations

import json
import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from imago.atomic import atomic_path
from imago.errors import UserError
from imago.networks.serialization import GENERATOR_FILE

_MODES = (None, "online", "offline", "disabled")
_OLD_MODES = {"dryrun": "offline", "run": "online"}  # as WANDB_MODE has them, too
_ARTIFACTS = ("none", "last", "best", "all")
_BEST = ("best_generator.safetensors", "best.json")
ID_FILE = "wandb_id.txt"


class ClockedWandbLogger(WandbLogger):
    """Lightning's logger with W&B's own step set to images_seen.

    W&B counts calls otherwise: a resumed run would begin at 0 again when it is offline, and panels of pictures, which
    know no other axis (wandb #13382), would show a number that means nothing.

    Args:
        run: The W&B run.
        alerts: Whether :meth:`alert` sends anything.
        artifacts: Which generators are uploaded at the end: none, last, best or all.
    """

    def __init__(self, run: Any, alerts: bool, artifacts: str) -> None:
        super().__init__(experiment=run)
        self.alerts = alerts
        self.artifacts = artifacts

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs a row at ``step`` images."""
        self.experiment.log(dict(metrics), step=step)

    def log_image_at(self, name: str, pixels: Any, caption: str, step: int) -> None:
        """Logs a picture, uint8 (H, W, C), at ``step`` images."""
        import wandb

        self.experiment.log({name: wandb.Image(pixels, caption=caption), "images_seen": step}, step=step)

    def alert(self, title: str, text: str) -> None:
        """Tells the user through W&B, by mail or Slack as set up there."""
        if self.alerts:
            self.experiment.alert(title=title, text=text, level="ERROR")

    def log_generators(self, run_dir: Path) -> None:
        """Uploads the newest and the best generator, as the option says, as versions of one artifact.

        Args:
            run_dir: The run directory.
        """
        import wandb

        for alias, name, record in (("last", GENERATOR_FILE, None), ("best", *_BEST)):
            path = run_dir / name
            if self.artifacts not in (alias, "all") or not path.exists():
                continue
            metadata = json.loads((run_dir / record).read_text()) if record else None
            artifact = wandb.Artifact(f"generator-{self.experiment.id}", type="model", metadata=metadata)
            artifact.add_file(str(path))
            self.experiment.log_artifact(artifact, aliases=[alias])


def wandb_logger(
    run_dir: Path,
    run_config: dict[str, Any],
    sweep: str | None = None,
    images_seen: int = 0,
    project: str = "imago",
    entity: str | None = None,
    group: str | None = None,
    job_type: str = "train",
    tags: Sequence[str] = (),
    mode: str | None = None,
    artifacts: str = "none",
    alerts: bool = True,
) -> ClockedWandbLogger:
    """A W&B run for a run directory, or its continuation.

    The run id is kept in ``run_dir/wandb_id.txt`` and written before the run starts, so that a resumed run goes on
    under the same id whenever it was stopped.

    Args:
        run_dir: The run directory.
        run_config: The resolved configuration, uploaded once.
        sweep: Name of the sweep that the run belongs to; None: no sweep.
        images_seen: Where the run begins or goes on.
        project: W&B project.
        entity: W&B user or team.
        group: W&B group; None: the sweep.
        job_type: W&B job type.
        tags: W&B tags.
        mode: "online", "offline", "disabled"; None: online when an API key is at hand, else offline.
        artifacts: Generators to upload at the end: none, last, best, all.
        alerts: Tell when training diverges or may have collapsed.

    Raises:
        UserError: Unknown mode or artifacts, or W&B refuses to start.
    """
    if mode not in _MODES:
        raise UserError(f"logger.wandb.mode must be online, offline, disabled or null, not {mode}")
    if artifacts not in _ARTIFACTS:
        raise UserError(f"logger.wandb.artifacts must be one of {', '.join(_ARTIFACTS)}, not {artifacts}")
    import wandb

    if mode is None:
        wished = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
        mode = _OLD_MODES.get(wished, wished)
        if mode not in _MODES:
            raise UserError(f"WANDB_MODE must be online, offline or disabled, not {wished}")
    try:
        run = wandb.init(
            id=_run_id(run_dir, of_sweep=sweep is not None),
            name=run_dir.name if sweep is None else f"{sweep}/{run_dir.name}",
            dir=str(run_dir),
            resume="allow",
            project=project,
            entity=entity,
            group=group or os.environ.get("WANDB_RUN_GROUP") or sweep,
            job_type=job_type,
            tags=list(tags),
            config=run_config,
            mode=mode,  # type: ignore[arg-type]
            settings=wandb.Settings(silent=True),
        )
    except (wandb.errors.Error, wandb.errors.UsageError) as error:
        raise UserError(f"W&B could not begin a run ({error}); logger.wandb.mode=offline needs no server") from error
    run.define_metric("images_seen")
    run.define_metric("*", step_metric="images_seen")
    return ClockedWandbLogger(run, alerts, artifacts)


def sync_advice(run_dir: Path) -> str | None:
    """The command that uploads what a run has recorded offline; None: nothing.

    Each start of a run that is resumed offline makes a folder of its own, all of the same run id; given together, they
    are uploaded one after the other into one run.

    Args:
        run_dir: The run directory.
    """
    folders = sorted((run_dir / "wandb").glob("offline-run-*"))
    if not folders:
        return None
    return f"wandb sync --id {_run_id(run_dir)} {shlex.quote(str(run_dir / 'wandb'))}/offline-run-*"


def _run_id(run_dir: Path, of_sweep: bool = False) -> str:
    """Of an earlier start, of the W&B agent that started this process, or a new one.

    Args:
        run_dir: The run directory.
        of_sweep: The process trains several runs: they must not share the id that it was started with.
    """
    path = run_dir / ID_FILE
    if not path.exists():
        with atomic_path(path) as temporary:
            given = None if of_sweep else os.environ.get("WANDB_RUN_ID")
            temporary.write_text(given or secrets.token_hex(4))
    return path.read_text().strip()


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc

    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False
