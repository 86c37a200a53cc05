"""-m: a directory for every job, and one that fails does not stop the others."""

import json
import os
from functools import partial
from pathlib import Path

import pytest
import yaml

from accidents import fail_at, patch
from training_runs import TINY, differences, state_of


def sweep(commands, data: Path, *overrides: str):
    return commands.run("train", ["-m", *TINY, f"data.path={data}", "total_images=32", *overrides])


def test_jobs_have_directories_of_their_own_and_equal_single_runs(commands, train, blobs, tmp_path):
    result = sweep(commands, blobs, "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert result.code == 0, result.err
    for job, seed in enumerate((0, 1)):
        run = tmp_path / "sweep" / str(job)
        assert yaml.safe_load((run / "config.yaml").read_text())["seed"] == seed
        assert train(tmp_path / str(seed), f"seed={seed}", "total_images=32").code == 0
        assert differences(state_of(run), state_of(tmp_path / str(seed))) == []


def test_sweep_over_one_run_directory_trains_below_it(commands, blobs, tmp_path):
    options = ("seed=0,1", f"run_dir={tmp_path / 'run'}", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert sweep(commands, blobs, *options).code == 0
    assert [state_of(tmp_path / "run" / job)["config"]["seed"] for job in "01"] == [0, 1]
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_failing_job_does_not_stop_the_others(commands, blobs, tmp_path):
    result = sweep(commands, blobs, "model.fmap_max=8,-1,4", f"hydra.sweep.dir={tmp_path}")
    assert result.code == 1
    assert result.err.count("error: ") == 2
    assert "error: channels, fmap_base and fmap_max must be at least 1" in result.err
    assert result.err.endswith("error: 1 job(s) of the sweep failed: 1\n")
    assert [state_of(tmp_path / job)["images_seen"] for job in "02"] == [32, 32]


def test_sweep_with_several_processes_each_is_refused_once(commands, blobs, tmp_path):
    result = sweep(commands, blobs, "seed=0,1", "trainer.devices=2", f"hydra.sweep.dir={tmp_path}")
    assert "error: -m runs its jobs one after the other in this process" in result.error
    assert result.code == 2


def test_what_runs_the_jobs_is_not_swept_over(commands, blobs, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    result = sweep(commands, blobs, "launcher=slurm_1node,slurm_multinode", f"hydra.sweep.dir={tmp_path}")
    assert "error: launcher=slurm_1node,slurm_multinode: what runs the jobs of a sweep" in result.error
    assert list(tmp_path.iterdir()) == []


def test_plugin_that_is_not_installed_is_named_with_what_installs_it(commands, blobs, tmp_path):
    options = [*TINY, f"data.path={blobs}", f"hydra.sweep.dir={tmp_path}", "seed=0,1"]
    for argument, extra in (("launcher=slurm_1node", "slurm"), ("sweep=optuna", "sweep")):
        result = commands.run("train", [*options, argument], accident=without_plugins)
        assert f"run: pip install 'imago[{extra}]'" in result.error
        assert result.code == 2


def without_plugins() -> None:
    """As where the extras are not installed."""
    patch(
        "importlib.util:find_spec",
        lambda original: lambda name, *rest: None if "hydra_plugins" in name else original(name, *rest),
    )


def interrupt_in(folder: Path) -> None:
    """Ctrl-C in the third step of a command that was given in a folder."""
    os.chdir(folder)
    fail_at("callbacks.scalar_log:ScalarLog.on_train_batch_end", KeyboardInterrupt(), 3)


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ([], "the same command with hydra.sweep.dir=multirun/"),  # it would begin in another directory
        (["hydra.sweep.dir=sweep"], "the same command goes on from the newest checkpoint"),
    ],
)
def test_interrupted_sweep_says_which_command_goes_on(commands, blobs, tmp_path, options, command):
    arguments = ["-m", *TINY, f"data.path={blobs}", "total_images=32", *options]
    result = commands.run("train", arguments, partial(interrupt_in, tmp_path))
    assert result.error.startswith(f"error: interrupted; {command}")
    assert result.code == 130


def test_sweep_directory_that_is_a_file_is_told_in_a_line(commands, blobs, tmp_path):
    (tmp_path / "file").touch()
    result = sweep(commands, blobs, "seed=0,1", f"hydra.sweep.dir={tmp_path / 'file'}")
    assert str(tmp_path / "file") in result.error
    assert result.code == 2


def test_job_on_a_cluster_keeps_the_line_that_it_told(commands, blobs, tmp_path):
    options = ["-m", *TINY, f"data.path={blobs}", "growth.batch_size=7", f"hydra.sweep.dir={tmp_path}"]
    result = commands.run("train", options, SUBMITIT_EXECUTOR="slurm")  # where an error is raised again, for Slurm
    assert result.code == 1
    told = next(line for line in result.err.splitlines() if line.startswith("error: "))
    assert json.loads((tmp_path / "0" / "failed.json").read_text())["error"] == told.removeprefix("error: ")
