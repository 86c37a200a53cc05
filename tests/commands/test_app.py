"""What the commands do to arguments before Hydra reads them."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from commands.app import quoted_path


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
@pytest.mark.parametrize("key", ["run_dir", "data.path", "source.root", "data.keep", "checkpoint", "out"])
def test_any_path_reaches_hydra_as_it_was_typed(key, path):
    (override,) = OverridesParser.create().parse_overrides([quoted_path(f"{key}={path}")])
    assert override.key_or_group == key
    assert override.value() == path


@pytest.mark.parametrize(
    "argument",
    ["seed=0,1", "run_dir=a,b", "run_dir='~/x'", "data.background=[1,2,3]", "-m", "run_dir=${name}", "data=~"],
)
def test_other_arguments_are_left_alone(argument):
    assert quoted_path(argument) == argument
