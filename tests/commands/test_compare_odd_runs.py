"""The table of runs, of run directories that are young, failed, foreign or oddly named."""

import json
from pathlib import Path

import pytest
import yaml

from commands.run_records import find_runs, higher_is_better, sort_runs


def make_run(folder: Path, metrics: str = "images_seen\n", **config) -> Path:
    """A run directory of 200 images with nothing in it but its configuration and its metrics."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"total_images": 200, **config}))
    (folder / "metrics.csv").write_text(metrics)
    return folder


def fail(folder: Path, error: str, *overrides: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failed.json").write_text(json.dumps({"error": error, "overrides": overrides}))


@pytest.fixture
def compare(commands, tmp_path):
    def compared(*options: str) -> str:
        result = commands.run("evaluate", ["what=compare", f"runs={tmp_path}", *options], COLUMNS="200")
        assert result.code == 0, result.err
        return result.out

    return compared


def test_run_that_ended_between_two_rows_is_finished(tmp_path):
    run = make_run(tmp_path / "run", "images_seen,swd/avg\n160,3\n")
    (run / "generators").mkdir()
    (run / "generators" / "000000200.safetensors").touch()
    (found,) = find_runs(str(tmp_path))
    assert (found.images_seen, found.values["images_seen"], found.state) == (200, 200, "finished")


def test_jobs_that_all_failed_before_they_began_are_a_table(compare, tmp_path):
    fail(tmp_path / "0", "no such file", "seed=0")
    fail(tmp_path / "1", "no such file", "seed=1")
    assert compare().count("failed: no such file") == 2


def test_brackets_and_dollars_are_shown_as_they_are(compare, tmp_path):
    fail(tmp_path / "0", "data.path=[/x/a]: no such file", "data.labels=[glasses,smile]")
    make_run(tmp_path / "1", data={"path": "$x_{$", "labels": ["glasses"]})
    table = compare()
    assert "data.path=[/x/a]: no such file" in table
    assert "data.labels=[glasses,smile]" in table
    compare(f"out={tmp_path / 'table.png'}")
    assert (tmp_path / "table.png").stat().st_size > 0


@pytest.mark.parametrize("config", ["{}", "[]", "5", "total_images: abc", "total_images: [1]"])
def test_foreign_configurations_do_not_spoil_the_table(compare, tmp_path, config):
    make_run(tmp_path / "good", "images_seen,swd/avg\n200,3\n")
    (make_run(tmp_path / "odd") / "config.yaml").write_text(config)
    table = compare()
    assert "finished" in table
    assert "odd" in table


def test_metrics_that_are_best_at_1_come_first_where_they_are_closest(tmp_path):
    for name, value in (("low", 0.7), ("near", 1.1), ("high", 1.4)):
        make_run(tmp_path / name, f"images_seen,sharpness\n200,{value}\n")
    runs = find_runs(str(tmp_path))
    assert [run.name for run in sort_runs(runs, "sharpness")[0]] == ["near", "low", "high"]
    assert [run.name for run in sort_runs(runs, "-sharpness")[0]] == ["high", "low", "near"]


def test_accuracy_of_the_auxiliary_classifier_is_better_high():
    assert all(higher_is_better(f"{which}_label_accuracy") for which in ("real", "fake", "generator"))
