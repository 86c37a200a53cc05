"""sweep=optuna: a study whose values are those that the runs measured."""

import csv
import multiprocessing
import re
from functools import partial
from pathlib import Path

import pytest
import yaml

from accidents import fail_at, kill_at
from training_runs import TINY, differences, state_of

optuna = pytest.importorskip("optuna")

from commands.abandoned_trials import Owner  # noqa: E402
from commands.objective import objective_value  # noqa: E402
from commands.optuna_study import _is_of  # noqa: E402
from commands.run_records import find_runs  # noqa: E402

MEASURED = (
    "total_images=64",
    "callbacks.gan_metrics.every_images=32",
    "callbacks.gan_metrics.metrics=[ms_ssim]",
    "callbacks.gan_metrics.ms_ssim_images=8",
    "callbacks.gan_metrics.best_by=null",
    "callbacks.gan_metrics.floor=false",
    "objective=ms_ssim",
)
SPACE = "growth.learning_rate=tag(log, interval(1e-4, 1e-2))"


@pytest.fixture
def study(commands, blobs, tmp_path):
    """study(*overrides): a sweep in tmp_path / "sweep"."""

    def run(*overrides: str, folder: str = "sweep", accident=None):
        options = ["sweep=optuna", *TINY, *MEASURED, f"data.path={blobs}", f"hydra.sweep.dir={tmp_path / folder}"]
        return commands.run("train", [*options, *overrides], accident)

    return run


def best_of(run: Path) -> float:
    """The lowest MS-SSIM that a run measured."""
    with open(run / "metrics.csv", newline="") as file:
        return min(float(row["ms_ssim"]) for row in csv.DictReader(file) if row["ms_ssim"])


def test_best_trial_is_the_run_that_measured_the_lowest_value(study, tmp_path):
    result = study(SPACE, "hydra.sweeper.n_trials=3")
    assert result.code == 0, result.err
    values = [best_of(tmp_path / "sweep" / job) for job in "012"]
    results = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    assert results["best_value"] == pytest.approx(min(values), rel=1e-6)
    assert results["best_trial"] == values.index(min(values))
    rates = [yaml.safe_load((tmp_path / "sweep" / job / "config.yaml").read_text()) for job in "012"]
    assert results["best_params"]["growth.learning_rate"] == rates[results["best_trial"]]["growth"]["learning_rate"]
    assert len({config["growth"]["learning_rate"] for config in rates}) == 3


def test_processes_share_a_study_in_a_storage(study, tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    shared = (SPACE, f"hydra.sweeper.storage={storage}", "hydra.sweeper.study_name=faces")
    assert study(*shared, "hydra.sweeper.n_trials=1", folder="a").code == 0
    second = study(*shared, "hydra.sweeper.n_trials=2", folder="b")
    assert second.code == 0, second.err
    assert "study faces: 1 trials are there, 2 wanted" in second.err
    known = optuna.load_study("faces", storage)
    runs = [tmp_path / "a" / "0", tmp_path / "b" / "1"]  # named by the number of the trial
    assert [trial.value for trial in known.trials] == pytest.approx([best_of(run) for run in runs], rel=1e-6)
    assert not (tmp_path / "b" / "2").exists()
    for trial, run in zip(known.trials, runs, strict=True):  # every value was reported when it was measured
        assert list(trial.intermediate_values) == [32, 64]
        assert min(trial.intermediate_values.values()) == pytest.approx(best_of(run), rel=1e-6)


def test_two_processes_at_once_make_the_trials_of_one_study(commands, blobs, tmp_path):
    """Each in a sweep's directory of its own, which is named by the moment."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    optuna.create_study(study_name="faces", storage=storage)  # or both would make its tables at once
    options = ["sweep=optuna", *TINY, *MEASURED, f"data.path={blobs}", SPACE, "hydra.sweeper.n_trials=4"]
    options += [f"hydra.sweeper.storage={storage}", "hydra.sweeper.study_name=faces"]
    started = [commands.start("train", [*options, f"hydra.sweep.dir={tmp_path / name}"]) for name in "ab"]
    for one in started:
        result = one.wait()
        assert result.code == 0, result.err
    runs = [run for name in "ab" for run in (tmp_path / name).glob("[0-9]*")]
    trials = optuna.load_study("faces", storage).trials
    assert len(trials) == len(runs) <= 5  # one more at most, asked for at the same moment
    assert sorted(trial.value for trial in trials) == pytest.approx(sorted(map(best_of, runs)), rel=1e-6)
    assert all(list((tmp_path / name).glob("[0-9]*")) for name in "ab")


def test_trial_that_fails_does_not_stop_the_study(study, tmp_path):
    result = study("model.fmap_max=-1,8", "hydra/sweeper/sampler=grid")
    assert result.code == 1
    assert "error: channels, fmap_base and fmap_max must be at least 1" in result.err
    assert re.search(r"1 complete, 1 failed", result.err)
    results = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    assert results["best_params"] == {"model.fmap_max": 8}


@pytest.mark.parametrize("storage", [False, True])
def test_hopeless_run_is_pruned_with_a_checkpoint(study, tmp_path, storage):
    """An upper bound that no value is below; the run would have another step after its first measurement."""
    options = ["hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.upper=0", "hydra.sweeper.n_trials=1"]
    if storage:
        options += [f"hydra.sweeper.storage=sqlite:///{tmp_path / 'study.db'}", "hydra.sweeper.study_name=faces"]
    result = study(SPACE, *options)
    assert result.code == 0, result.err
    assert "1 pruned; no trial was completed" in result.err
    assert state_of(tmp_path / "sweep" / "0")["images_seen"] == 40  # agreed on in the step after
    assert [run.state for run in find_runs(str(tmp_path / "sweep"))] == ["pruned, 50 %"]  # by its newest row


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective=fid"], "objective=fid is not measured; choose ms_ssim"),
        (["callbacks=default"], "objective=ms_ssim is not measured: add callbacks=metrics"),
        (["total_images=16"], "objective=ms_ssim would never be measured: the run has 16 images"),
    ],
)
def test_objective_that_is_not_measured_is_refused_before_training(commands, blobs, tmp_path, overrides, message):
    kept = [option for option in MEASURED if not (overrides == ["callbacks=default"] and "gan_metrics" in option)]
    options = [*TINY, "callbacks=metrics", *kept, f"data.path={blobs}", f"run_dir={tmp_path / 'run'}", *overrides]
    result = commands.run("train", options)
    assert message in result.error
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "sweep=optuna has nothing to search"),
        ([SPACE, "hydra.sweeper.storage=sqlite:///study.db"], "hydra.sweeper.storage needs hydra.sweeper.study_name"),
        (["loss.drift=interval(1, 0.1)"], "loss.drift: "),
        (["loss.drift=tag(log, interval(0, 1))"], "loss.drift: "),
        ([SPACE, "objective=swd/8"], "objective=swd/8 is not measured; choose ms_ssim"),
        ([SPACE, "hydra.sweeper.n_jobs=-1"], "hydra.sweeper.n_jobs must be at least 1, not -1"),
        ([SPACE, "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials must be at least 1, not 0"),
        ([SPACE, "hydra/sweeper/pruner=threshold"], "hydra.sweeper.pruner: Either lower or upper must be specified"),
        ([SPACE, "hydra.sweeper.pruner.n_warmup_steps=-1"], "hydra.sweeper.pruner: "),
        ([SPACE, "hydra/sweeper/sampler=grid"], "hydra/sweeper/sampler=grid: GridSampler only supports discrete"),
        (["seed=interval(0.5, 1.5)"], "could not be converted to Integer"),
        (["loss=wgan_gp,hindge"], "hindge"),
        ([SPACE, "run_dir=here"], "run_dir: trials train below hydra.sweep.dir=…"),
        ([SPACE, "objective=null"], "objective=null: a study needs one"),
        ([SPACE, "callbacks.gan_metrics=null"], "objective=ms_ssim is not measured: add callbacks=metrics"),
        ([SPACE, "total_images=16"], "objective=ms_ssim would never be measured: the run has 16 images"),
        ([SPACE, "hydra.sweeper.direction=maximize"], "objective=ms_ssim wants hydra.sweeper.direction=minimize"),
        ([SPACE, "objective=face_rate"], "objective=face_rate wants hydra.sweeper.direction=maximize"),
        (
            [SPACE, "hydra.sweeper.storage=sqlite:////nowhere/at/all/study.db", "hydra.sweeper.study_name=a"],
            "the study cannot be opened at sqlite:////nowhere/at/all/study.db",
        ),
    ],
)
def test_studies_that_make_no_sense_are_refused_in_a_line(study, tmp_path, overrides, message):
    result = study(*overrides)
    assert message in result.error
    assert result.code == 2
    assert not list(tmp_path.glob("sweep/[0-9]*"))


def test_key_that_does_not_exist_leaves_nothing_in_the_study(study, tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    shared = (f"hydra.sweeper.storage={storage}", "hydra.sweeper.study_name=a", "hydra.sweeper.n_trials=1")
    mistaken = study(*shared, "growth.learning_rte=interval(0.001, 0.002)")
    assert (mistaken.code, "did you mean learning_rate?" in mistaken.error) == (2, True)
    assert study(*shared, SPACE).code == 0
    assert [trial.state.name for trial in optuna.load_study(study_name="a", storage=storage).trials] == ["COMPLETE"]


def test_failure_that_nobody_foresaw_is_told_and_counts(study):
    accident = partial(fail_at, "callbacks.scalar_log:ScalarLog.on_train_batch_end", ValueError("a bug"), 3, 3)
    result = study(SPACE, "hydra.sweeper.n_trials=2", accident=accident)
    assert result.code == 1
    assert "error: trial 0 failed: ValueError: a bug" in result.err
    assert "1 complete, 1 failed" in result.err
    assert "error: 1 job(s) of the sweep failed: 0" in result.err


def test_storage_that_is_busy_for_a_moment_costs_nothing(study, tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    shared = (SPACE, f"hydra.sweeper.storage={storage}", "hydra.sweeper.study_name=a", "hydra.sweeper.n_trials=1")
    accident = partial(fail_at, "optuna.trial:Trial.report", RuntimeError("database is locked"), 1, 1)
    result = study(*shared, accident=accident)
    assert result.code == 0, result.err
    assert "the study a could not be told (database is locked)" in result.err
    (trial,) = optuna.load_study(study_name="a", storage=storage).trials
    assert list(trial.intermediate_values) == [32, 64]


def test_storage_that_does_not_answer_ends_the_command_in_a_line(study):
    accident = partial(fail_at, "optuna:Study.ask", optuna.exceptions.StorageInternalError("no disk"), 2)
    result = study(SPACE, "hydra.sweeper.n_trials=2", accident=accident)
    assert "the study's storage None does not answer (no disk); the same command goes on" in result.err
    assert result.code == 2


def test_trial_of_another_search_space_is_given_up():
    known = optuna.create_study()
    trial = known.ask()
    trial.suggest_float("x", 0, 1)
    assert _is_of(known, trial, {"x": optuna.distributions.UniformDistribution(0, 2)})
    assert known.trials[0].state.name == "RUNNING"
    assert not _is_of(known, trial, {"y": optuna.distributions.UniformDistribution(0, 1)})
    assert known.trials[0].state.name == "FAIL"


def test_study_without_a_completed_trial_is_a_failure_each_time(study, tmp_path):
    storage = f"hydra.sweeper.storage=sqlite:///{tmp_path / 'study.db'}"
    shared = (storage, "hydra.sweeper.study_name=a", "hydra.sweeper.n_trials=1", "model.fmap_max=-2,-1")
    first = study(*shared)
    assert first.code == 2
    assert "study a: 1 failed; no trial was completed: raise hydra.sweeper.n_trials" in first.err
    assert study(*shared).code == 2


def test_objective_that_is_better_the_higher_takes_the_highest_value_of_a_run(tmp_path):
    (tmp_path / "metrics.csv").write_text("images_seen,face_rate,ms_ssim\n1,0.1,0.3\n2,0.9,0.2\n3,0.5,0.4\n")
    assert objective_value(tmp_path, "face_rate") == 0.9
    assert objective_value(tmp_path, "ms_ssim") == 0.2


def test_trial_of_a_killed_process_goes_on_where_it_was(study, tmp_path):
    """The second of three; the study is then what an undisturbed one is, in another directory."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    shared = (SPACE, "hydra.sweeper.n_trials=3", f"hydra.sweeper.storage={storage}")
    shared += ("hydra.sweeper.sampler.seed=1", "callbacks.snapshot.every_images=16")
    undisturbed = study(*shared, "hydra.sweeper.study_name=undisturbed", folder="undisturbed")
    assert undisturbed.code == 0, undisturbed.err
    accident = partial(kill_at, "callbacks.snapshot:write_synced", 6)  # each trial writes four
    killed = study(*shared, "hydra.sweeper.study_name=faces", folder="a", accident=accident)
    assert killed.code == -9
    assert state_of(tmp_path / "a" / "1")["images_seen"] == 16
    again = study(*shared, "hydra.sweeper.study_name=faces", folder="b")
    assert again.code == 0, again.err
    assert "a killed process left these trials, which go on: 1" in again.err
    assert f"going on in {tmp_path / 'a' / '1'} from 16 of 64 images" in again.err
    known, expected = (optuna.load_study(name, storage).trials for name in ("faces", "undisturbed"))
    assert [trial.state for trial in known] == [optuna.trial.TrialState.COMPLETE] * 3
    assert [trial.value for trial in known[:2]] == [trial.value for trial in expected[:2]]
    assert [trial.params for trial in known[:2]] == [trial.params for trial in expected[:2]]
    assert (tmp_path / "b" / "2").exists()
    assert differences(state_of(tmp_path / "a" / "1"), state_of(tmp_path / "undisturbed" / "1")) == []


def test_trial_is_taken_up_once_and_only_from_a_dead_process(tmp_path):
    study = optuna.create_study(study_name="faces", storage=f"sqlite:///{tmp_path / 'study.db'}")
    running, ended = multiprocessing.Event(), multiprocessing.Event()
    process = multiprocessing.Process(target=_own_a_trial, args=(tmp_path, running, ended))
    process.start()
    assert running.wait(60)
    one, other = Owner(tmp_path / "one"), Owner(tmp_path / "other")
    with one.present():
        assert one.take_up(study) == []
        process.kill()
        process.join()
        assert [trial.number for trial in one.take_up(study)] == [0]
        two = multiprocessing.get_context("fork").Process(target=_expect_nothing, args=(tmp_path, other))
        two.start()
        two.join()
        assert two.exitcode == 0


def _own_a_trial(folder: Path, running, ended) -> None:
    study = optuna.load_study("faces", f"sqlite:///{folder / 'study.db'}")
    owner = Owner(folder / "dead")
    with owner.present():
        owner.sign(study.ask())
        running.set()
        ended.wait()


def _expect_nothing(folder: Path, owner: Owner) -> None:
    study = optuna.load_study("faces", f"sqlite:///{folder / 'study.db'}")
    with owner.present():
        assert owner.take_up(study) == []
