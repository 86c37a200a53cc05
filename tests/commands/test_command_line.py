"""Printed commands: what a shell and Hydra make of them is what was meant."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from commands.app import quoted_path
from commands.command_line import command_line, option_text


@pytest.mark.parametrize(
    "path", ["/runs/a", "/my runs/a", "/runs/lr=0.1,b=2", "/it's", "/Bücher [1]", "~/a", "/$HOME", "/a&b; c", "/a*b"]
)
def test_a_path_arrives_as_it_is(path):
    python, program, first, option = shlex.split(command_line("train.py", {"data.path": path}, "data=packed"))
    assert (python, program, first) == ("python", "train.py", "data=packed")
    assert shlex.split(option_text("data.path", path)) == [option]
    override = OverridesParser.create().parse_override(quoted_path(option))
    assert (override.key_or_group, override.value()) == ("data.path", path)


def test_plain_options_stay_readable():
    assert command_line("generate.py", {"checkpoint": "runs/a", "seed": 3}) == (
        "python generate.py checkpoint=runs/a seed=3"
    )
    assert command_line("train.py", {"base": (6, 8)}) == "python train.py 'base=[6,8]'"
