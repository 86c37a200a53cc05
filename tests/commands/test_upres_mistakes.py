"""What a new user meets who mistypes a command of upres.py: one line, and a code that is not 0."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: checkpoint is needed: add checkpoint=… to the command"),
        (["checkpoint=nowhere", "input=a.png"], "error: nowhere: no such file or run directory"),
        (["checkpoint=nowhere", "inptu=a.png"], "did you mean input?"),
        (["checkpoint=nowhere", "tiling.strid=4"], "did you mean stride?"),
        (["checkpoint=nowhere", "size=big"], "size: "),
        (["checkpoint=[nowhere,there]"], "neither is given"),
        (["checkpoint=nowhere", "generator=low", "seeds=0-x"], "0-x is no number"),
    ],
)
def test_mistakes_in_the_command(commands, arguments, message):
    result = commands.run("upres", arguments)
    assert result.code == 2
    assert message in result.error


def test_a_generator_of_faces_is_no_stage(commands, finished_run):
    result = commands.run("upres", [f"checkpoint={finished_run}", "input=a.png"])
    assert result.code == 2
    assert "draws faces from noise and enlarges nothing; give it as generator=" in result.error


def test_help_lists_all_options(commands):
    result = commands.run("upres", ["--help"])
    assert result.code == 0
    for key in ("input=null", "paste_back=False", "variants=", "landmark_sigma=2.0", "Keys of tiling", "Keys of film"):
        assert key in result.out
