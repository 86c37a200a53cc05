"""All that is logged is in the table of docs/dashboards.md, and the W&B sweep in docs makes commands that compose."""

import csv
import re
from pathlib import Path

import yaml
from hydra import compose, initialize_config_module

from commands.config_checks import check_config
from conf import schemas

DOCS = Path(__file__).parents[1] / "docs"


def documented() -> list[str]:
    """The names in the first column of the table."""
    text = (DOCS / "dashboards.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_every_column_is_documented(finished_run, train, tmp_path, labelled_blobs):
    options = ("total_images=32", f"data.path={labelled_blobs}", "data.labels=[all]", "loss=relativistic")
    assert train(tmp_path / "labelled", *options).code == 0
    assert train(tmp_path / "lsgan", "total_images=32", "loss=lsgan").code == 0
    assert train(tmp_path / "began", "total_images=32", "loss=began").code == 0
    names = documented()
    for run in (finished_run, *tmp_path.iterdir()):
        with open(run / "metrics.csv", newline="") as file:
            columns = next(csv.reader(file))
        assert [column for column in columns if column not in names] == []


def test_sweep_of_wandb_makes_commands_that_compose(monkeypatch):
    """The command as W&B's agent makes it."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    config = yaml.safe_load((DOCS / "wandb_sweep.yaml").read_text())
    first = {name: one["values"][0] if "values" in one else one["min"] for name, one in config["parameters"].items()}
    flags = create_sweep_command_args({"args": {name: {"value": value} for name, value in first.items()}})
    command = create_sweep_command(config["command"])
    arguments: list[str] = []
    for word in command:
        arguments += flags["args_no_hyphens"] if word == "${args_no_hyphens}" else [word]
    assert arguments[1:3] == ["python", "${program}"]
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    schemas.register()
    with initialize_config_module("conf", version_base="1.3"):
        cfg = compose("train", arguments[3:])
    check_config(cfg)
    assert cfg.run_dir == "runs/sweep/abc123"
    assert cfg.growth.learning_rate == 0.0001
    assert config["metric"]["name"] == cfg.callbacks.gan_metrics.best_by
