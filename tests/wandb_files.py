"""What offline W&B files hold, read with W&B's own record definitions.

The reader of wandb 0.31 is a part of its Go program; the file is a log in LevelDB's format of protobuf records.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class WandbFile:
    """One offline run, or one start of a run that was resumed.

    Attributes:
        run: Its ``RunRecord``: run_id, run_group, job_type, tags, display_name …
        config: Its configuration.
        rows: What was logged, each with ``_step``.
        axes: Metric → what it is plotted against.
        exit_code: None: the process ended without saying so.
        preempting: Whether it said that it is preempted.
        alerts: Titles.
        artifacts: Names, with their aliases.
    """

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    axes: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None
    preempting: bool = False
    alerts: list[str] = field(default_factory=list)
    artifacts: list[tuple[str, list[str]]] = field(default_factory=list)


def wandb_files(run_dir: Path) -> list[WandbFile]:
    """The starts of a run, in their order."""
    paths = (run_dir / "wandb").glob("offline-run-*/run-*.wandb")
    return [read_wandb_file(path) for path in sorted(paths, key=lambda path: path.stat().st_mtime)]


def read_wandb_file(path: Path) -> WandbFile:
    """Reads all records of a file."""
    from wandb.proto import wandb_internal_pb2

    found = WandbFile()
    for data in _chunks(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.run = record.run
            found.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            row: dict[str, Any] = {"_step": record.history.step.num}
            for item in record.history.item:
                _put(row, [item.key] if item.key else list(item.nested_key), json.loads(item.value_json))
            found.rows.append(row)
        elif kind == "metric":
            found.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
        elif kind == "preempting":
            found.preempting = True
        elif kind == "alert":
            found.alerts.append(record.alert.title)
        elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
            artifact = record.request.log_artifact.artifact
            found.artifacts.append((artifact.name, list(artifact.aliases)))
        elif kind == "artifact":
            found.artifacts.append((record.artifact.name, list(record.artifact.aliases)))
    return found


def _put(row: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        row = row.setdefault(key, {})
    row[keys[-1]] = value


def _chunks(data: bytes) -> Iterator[bytes]:
    position, whole = 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:  # records do not begin there
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""
