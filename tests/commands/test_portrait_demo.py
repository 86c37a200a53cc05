"""experiment=portrait_demo: what it starts, what it refuses, and, in small, the whole of it."""

import pytest
from compositions import composed, hydra_is_ready  # noqa: F401 - a fixture
from PIL import Image

from commands.app import quoted_path
from commands.portrait_demo import Plan, training_lanes
from imago.errors import UserError
from training_runs import contents


def plan(**options) -> Plan:
    return Plan(**{"portraits": 40, "seeds": "0-3", "size": 4096, "low": {}, "upres": {}, "print": {}} | options)


# --- what it starts ---------------------------------------------------------------------------------------------------


def test_every_command_composes_and_its_files_fit_each_other(tmp_path):
    (low,), (draw, upres, print_) = training_lanes(
        plan(
            upres={"total_images": 7},
            low={"model": {"filters": 3, "betas": [0.5, 0.9]}, "callbacks": {"progress": None}},
        ),
        5,
        tmp_path,
    )
    configs = {}
    for command in (low, draw, upres, print_):
        overrides = [quoted_path(word) for word in command.arguments]
        configs[command.name] = composed(*overrides, config_name=command.program)
    assert configs["low"].run_dir == str(tmp_path / "low")
    assert configs["low"].model.filters == 3
    assert configs["low"].model.betas == [0.5, 0.9]
    assert configs["low"].callbacks.progress is None
    assert configs["upres"].total_images == 7
    assert [configs[name].seed for name in ("low", "upres", "print")] == [5, 5, 5]
    portraits = configs["draw"]
    assert portraits.source.seed == 5
    for name in ("upres", "print"):
        assert configs[name].data.path == portraits.out
        assert configs[name].resolution <= portraits.resolution == portraits.source.size
        assert list(configs[name].base) == list(portraits.base)
        assert portraits.source.count > configs[name].data.held_out


def test_the_print_reads_what_it_was_trained_on(tmp_path):
    """Two thirds of 768², eight times enlarged, are 4096²; the stage has seen pictures shrunk so far."""
    cfg = composed("experiment=portrait_demo_print", "data.path=somewhere")
    factor = cfg.resolution // cfg.model.low_size
    assert cfg.model.low_size / cfg.model.face_size == pytest.approx(4096 / factor / 768, abs=1e-9)


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"portraits": 7}, "model.portraits=7: draw at least 8"),
        ({"size": 0}, "model.size=0"),
        ({"seeds": "9-3"}, "model.seeds=9-3: 9-3 runs backwards"),
        ({"low": {"run_dir": "x"}}, "model.low.run_dir: the demo sets "),
        ({"print": {"data": {"path": "x"}}}, "model.print.data.path: the demo sets "),
    ],
)
def test_bad_plans_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        plan(**options)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("growth.batch_size=8", "options of a stage are given as model.low.growth.batch_size"),
        ("total_images=9", "the demo takes run_dir, seed and model.…"),
        ("model.portrait=9", "did you mean portraits?"),
    ],
)
def test_options_of_a_stage_are_not_silently_ignored(commands, tmp_path, override, message):
    result = commands.run("train", ["experiment=portrait_demo", f"run_dir={tmp_path / 'demo'}", override])
    assert result.code == 2
    assert message in result.error
    assert not list(tmp_path.iterdir())


def test_a_stage_that_fails_is_told_in_one_line(commands, tmp_path):
    pytest.importorskip("dlib")
    arguments = ["experiment=portrait_demo", f"run_dir={tmp_path}", "model.portraits=8", "model.low.model.filters=0"]
    result = commands.run("train", arguments)
    assert result.code == 2
    assert result.error.startswith("error: low: ")
    assert "filters" in result.error


# --- all of it --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_from_noise_to_a_print_and_again(commands, tmp_path):
    pytest.importorskip("dlib")
    narrow = ("model.filters=2", "model.max_channels=8", "model.discriminator_filters=2", "total_images=4")
    low = ("data.count=20", "model.filters=2", "growth.batch_size=4", "total_images=16")
    arguments = [
        "experiment=portrait_demo",
        f"run_dir={tmp_path}",
        "model.portraits=8",
        "model.seeds=[3,5]",
        "model.size=1024",
        *(f"model.low.{word}" for word in low),
        *(f"model.{stage}.{word}" for stage in ("upres", "print") for word in narrow),
    ]
    result = commands.run("train", arguments)
    assert result.code == 0, result.err
    assert "landmarks were found in " in result.out
    assert " of 2 faces (" in result.out
    for seed in (3, 5):
        with Image.open(tmp_path / "faces" / f"seed{seed:04d}-00000.png") as face:
            assert face.size == (768, 768)
    (print_,) = (path for path in (tmp_path / "portrait").glob("seed*.png") if "stages" not in path.name)
    with Image.open(print_) as picture:
        assert picture.size == (1024, 1024)
        assert picture.info["dpi"][0] == pytest.approx(300, abs=0.1)
    assert list((tmp_path / "portrait").glob("*-stages.png"))
    trained = {name: data for name, data in contents(tmp_path).items() if name.endswith((".safetensors", ".ckpt"))}
    again = commands.run("train", arguments)
    assert again.code == 0, again.err
    kept = {name: data for name, data in contents(tmp_path).items() if name in trained}
    assert kept == trained  # nothing is trained twice
