"""What the commands do to arguments before Hydra reads them."""

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from commands.app import IncompleteError, hydra_main, quoted_path
from conf.upres_schema import UpresConfig
from imago.errors import UserError


@pytest.mark.parametrize(
    "path",
    [
        "~/photos",
        "runs/a=b",
        "fotos-ü/ß",
        "a (copy)/x",
        "{x}",
        "it's",
        "a b",
        "100%",
        "plain/path-1.zip",
    ],
)
@pytest.mark.parametrize(
    "key", ["run_dir", "data.path", "source.root", "data.keep", "checkpoint", "out", "input", "generator"]
)
def test_any_path_reaches_hydra_as_it_was_typed(key, path):
    (override,) = OverridesParser.create().parse_overrides([quoted_path(f"{key}={path}")])
    assert override.key_or_group == key
    assert override.value() == path


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("[runs/a,runs/b]", ["runs/a", "runs/b"]),
        ("[~/a, runs/b=1]", ["~/a", "runs/b=1"]),
        ("[runs/a]", ["runs/a"]),
        ("['~/a','b']", ["~/a", "b"]),
    ],
)
def test_a_list_of_checkpoints_reaches_hydra_as_it_was_typed(value, paths):
    (override,) = OverridesParser.create().parse_overrides([quoted_path(f"checkpoint={value}")])
    assert [str(path) for path in override.value()] == paths


@pytest.mark.parametrize("seeds", ["0-9", "5", "[0,3]", "[0-3,7,9-12]"])
def test_ranges_of_seeds_are_no_trouble_to_hydra(seeds):
    (override,) = OverridesParser.create().parse_overrides([quoted_path(f"seeds={seeds}")])
    value = override.value()
    assert str(value).replace(" ", "").replace("'", "") == seeds


@pytest.mark.parametrize(
    "argument",
    ["seed=0,1", "run_dir=a,b", "run_dir='~/x'", "data.background=[1,2,3]", "-m", "run_dir=${name}", "data=~"],
)
def test_other_arguments_are_left_alone(argument):
    assert quoted_path(argument) == argument


@pytest.mark.parametrize(("error", "code"), [(IncompleteError("2 of 3 failed"), 1), (UserError("no such thing"), 2)])
def test_what_failed_in_part_ends_with_another_exit_code(monkeypatch, capsys, error, code):
    def task(cfg):
        raise error

    monkeypatch.setattr("sys.argv", ["upres.py", "checkpoint=a"])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as caught:
        hydra_main("upres", task, UpresConfig, "Test.")()
    assert caught.value.code == code
    assert capsys.readouterr().err == f"error: {error}\n"
