"""Every command that the README and the documents show composes, as a shell and the commands would read it."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from commands.app import free_key, quoted_path
from commands.config_checks import check_config
from conf import schemas

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ENTRY_POINTS = ("train", "generate", "prepare", "evaluate", "upres")
COMMANDS = sorted(
    {
        command
        for path in DOCUMENTS
        for command in re.findall(rf"^python ({'|'.join(ENTRY_POINTS)})\.py(.*)$", path.read_text(), re.MULTILINE)
    }
)


def composed(command: str, text: str) -> DictConfig:
    arguments = shlex.split(text, comments=True)
    if "-m" in arguments or any(argument.startswith(("launcher=", "sweep=")) for argument in arguments):
        arguments = [argument for argument in arguments if argument != "-m"]
        parsed = OverridesParser.create().parse_overrides([quoted_path(argument) for argument in arguments])
        # a job of the sweep has one of the values, all of which are in the other jobs
        arguments = [word for word, one in zip(arguments, parsed, strict=True) if not one.is_sweep_override()]
    schemas.register()
    with initialize_config_module("conf", version_base="1.3"):
        cfg = compose(command, [free_key(quoted_path(argument)) for argument in arguments], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)  # names of runs are made from Hydra's choices
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    OmegaConf.set_struct(cfg, True)
    return cfg


def test_the_documents_show_commands():
    assert len(COMMANDS) >= 20
    assert {command for command, _ in COMMANDS} == set(ENTRY_POINTS)


@pytest.mark.parametrize(("command", "text"), COMMANDS)
def test_command_composes(command, text):
    check_config(composed(command, text))


def test_a_misspelt_command_would_be_noticed():
    with pytest.raises(Exception, match="resolutoin"):
        composed("train", " resolutoin=64")
