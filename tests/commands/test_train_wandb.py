"""logger=wandb, offline: what W&B would show."""

import functools
import re
from pathlib import Path

import pytest

from accidents import kill_at, poison
from training_runs import TINY, state_of
from wandb_files import wandb_files

pytestmark = pytest.mark.slow

NO_KEY = {"WANDB_API_KEY": "", "NETRC": "/nowhere"}
LOGGED = ("logger=wandb", "total_images=64")


@pytest.fixture(scope="module")
def run_dir(train, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("wandb") / "run"
    options = ("logger.wandb.tags=[a,b]", "logger.wandb.group=faces", "logger.wandb.artifacts=all")
    result = train(run, *LOGGED, *options, **NO_KEY)
    assert result.code == 0, result.err
    assert f"wandb sync --id {(run / 'wandb_id.txt').read_text()} {run}/wandb/offline-run-*" in result.err
    return run


def test_configuration_group_tags_and_revision_are_there(run_dir):
    (file,) = wandb_files(run_dir)
    assert (file.run.run_group, file.run.job_type, sorted(file.run.tags)) == ("faces", "train", ["a", "b"])
    assert file.run.run_id == (run_dir / "wandb_id.txt").read_text()
    assert file.config["growth"]["batch_size"] == 8
    assert file.config["model"]["_target_"] == "lightning_modules.pggan.PGGAN"
    assert re.fullmatch(r"[0-9a-f]{10}\+?|unknown", file.config["code"]["revision"])
    assert file.exit_code == 0


def test_everything_is_at_images_seen(run_dir):
    (file,) = wandb_files(run_dir)
    assert file.axes["*"] == "images_seen"
    rows = [row for row in file.rows if "discriminator_loss" in row]
    assert [row["images_seen"] for row in rows] == [16, 32, 48, 64]
    assert all(row["_step"] == row["images_seen"] for row in file.rows if "images_seen" in row)
    assert {"alpha", "resolution", "gradient_penalty", "real_score", "generator_gradient_norm"} <= rows[0].keys()
    assert "images_per_second" in rows[0]


def test_grids_of_the_same_latents_come_with_their_caption(run_dir):
    (file,) = wandb_files(run_dir)
    grids = [row["samples"] for row in file.rows if "samples" in row]
    assert [grid["caption"] for grid in grids] == [f"{kimg} kimg" for kimg in ("0.0", "0.0", "0.1")]
    folder = next((run_dir / "wandb").glob("offline-run-*")) / "files"
    assert all((folder / grid["path"]).is_file() for grid in grids)


def test_generators_are_artifacts_on_request(run_dir):
    (file,) = wandb_files(run_dir)
    ((name, aliases),) = file.artifacts  # there is no best one without metrics
    assert name == f"generator-{file.run.run_id}"
    assert "last" in aliases


def test_resumed_run_has_one_id_and_steps_that_go_on(train, tmp_path):
    for total in (64, 96):
        result = train(tmp_path / "run", "logger=wandb", f"total_images={total}", **NO_KEY)
        assert result.code == 0, result.err
    first, second = wandb_files(tmp_path / "run")
    assert first.run.run_id == second.run.run_id == (tmp_path / "run" / "wandb_id.txt").read_text()
    steps = [[row["_step"] for row in file.rows if "discriminator_loss" in row] for file in (first, second)]
    assert steps == [[16, 32, 48, 64], [80, 96]]


def test_jobs_of_a_sweep_are_runs_of_their_own_in_one_group(commands, blobs, tmp_path):
    options = [*TINY, *LOGGED, f"data.path={blobs}", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'seeds'}"]
    result = commands.run("train", ["-m", *options], **NO_KEY)
    assert result.code == 0, result.err
    files = [wandb_files(tmp_path / "seeds" / job)[0] for job in "01"]
    assert files[0].run.run_id != files[1].run.run_id
    assert [file.run.run_group for file in files] == ["seeds"] * 2
    assert [file.run.display_name for file in files] == ["seeds/0", "seeds/1"]
    assert [file.config["seed"] for file in files] == [0, 1]
    assert [len([row for row in file.rows if "discriminator_loss" in row]) for file in files] == [4, 4]


def test_run_of_a_wandb_agent_takes_its_id(train, tmp_path):
    assert train(tmp_path, *LOGGED, WANDB_RUN_ID="abc123", **NO_KEY).code == 0
    assert wandb_files(tmp_path)[0].run.run_id == "abc123"


def test_jobs_of_a_sweep_do_not_share_an_id_that_was_given(commands, blobs, tmp_path):
    options = ["-m", *TINY, *LOGGED, f"data.path={blobs}", "total_images=16", "seed=0,1", f"hydra.sweep.dir={tmp_path}"]
    assert commands.run("train", options, WANDB_RUN_ID="abcd1234", **NO_KEY).code == 0
    assert len({(tmp_path / job / "wandb_id.txt").read_text() for job in "01"} | {"abcd1234"}) == 3


def test_mode_of_the_environment_is_checked(train, tmp_path):
    result = train(tmp_path / "run", *LOGGED, **(NO_KEY | {"WANDB_MODE": "ofline"}))
    assert result.error == "error: WANDB_MODE must be online, offline or disabled, not ofline"
    assert train(tmp_path / "old", *LOGGED, "total_images=16", **(NO_KEY | {"WANDB_MODE": "dryrun"})).code == 0
    assert len(wandb_files(tmp_path / "old")) == 1


def test_divergence_is_an_alert_and_the_run_a_crashed_one(train, tmp_path):
    accident = functools.partial(poison, 16, 1000)
    guard = "callbacks.divergence_guard.max_skipped_in_a_row=3"
    result = train(tmp_path, *LOGGED, guard, accident=accident, **NO_KEY)
    assert result.code == 2, result.err
    (file,) = wandb_files(tmp_path)
    assert file.alerts == ["training diverged"]
    assert file.exit_code == 1


def test_preempted_run_says_so(train, tmp_path):
    """SIGTERM in the third step."""
    result = train(tmp_path, *LOGGED, accident=functools.partial(stop_after, 3), **NO_KEY)
    assert result.code == 143, result.err
    (file,) = wandb_files(tmp_path)
    assert file.preempting
    assert file.exit_code == 1
    assert state_of(tmp_path)["images_seen"] < 64


def test_run_that_an_agent_stops_is_not_to_be_started_again(train, tmp_path):
    """W&B would requeue a preempted run of a sweep, a hopeless one too."""
    environment = {**NO_KEY, "WANDB_SWEEP_ID": "abc", "WANDB_RUN_ID": "def"}
    result = train(tmp_path, *LOGGED, accident=functools.partial(stop_after, 3), **environment)
    assert result.code == 143, result.err
    (file,) = wandb_files(tmp_path)
    assert not file.preempting
    assert file.exit_code == 1


def test_killed_run_has_no_exit(train, tmp_path):
    killed = functools.partial(kill_at, "callbacks.generator_ema:GeneratorEMA.on_train_batch_end", 5)
    assert train(tmp_path, *LOGGED, accident=killed, **NO_KEY).code == -9
    assert wandb_files(tmp_path)[0].exit_code is None


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("logger.wandb.mode=of", "logger.wandb.mode must be online, offline, disabled or null, not of"),
        ("logger.wandb.artifacts=first", "logger.wandb.artifacts must be one of none, last, best, all, not first"),
    ],
)
def test_mistakes_are_told_before_training(train, tmp_path, option, message):
    result = train(tmp_path, *LOGGED, option, **NO_KEY)
    assert message in result.error
    assert not (tmp_path / "checkpoints").exists()


def stop_after(steps: int) -> None:
    """SIGTERM of this process at the end of a step."""
    import os
    import signal

    from accidents import patch

    def replacement(original):
        calls = 0

        def stopping(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == steps:
                os.kill(os.getpid(), signal.SIGTERM)
            return original(*arguments, **options)

        return stopping

    patch("callbacks.generator_ema:GeneratorEMA.on_train_batch_end", replacement)
