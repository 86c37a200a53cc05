"""Configurations composed as the commands compose them, for the tests of conf/."""

import dataclasses
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from commands.config_checks import check_config
from conf import schemas

CONF = Path(__file__).parents[1] / "conf"
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir() and list(folder.glob("*.yaml")))
ALL_OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
OPTIONS = [(group, option) for group, option in ALL_OPTIONS if group not in ("source", "protocol")]  # of train.py
EXPERIMENTS = [option for group, option in OPTIONS if group == "experiment"]


@pytest.fixture(autouse=True)
def hydra_is_ready():
    """Import it into a test module, for all of its tests."""
    GlobalHydra.instance().clear()
    schemas.register()
    with initialize_config_module("conf", version_base="1.3"):
        yield


def composed(*overrides, config_name="train"):
    """A configuration as a command gets it, checked as a command checks it."""
    cfg = compose(config_name, overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    OmegaConf.set_struct(cfg, True)
    check_config(cfg)
    return cfg


DATA_OF_EXPERIMENTS = {
    "pggan_lsun": "lsun",
    "pggan_celebahq": "celeba_hq",
    "pggan_cifar10": "cifar10",
    "hdcgan_curto": "curto",
    "hdcgan_celeba": "celeba",
    "hdcgan_celebahq": "celeba_hq",
    "classify_attributes": "drawn_portraits",
    "upres_portraits": "upres_pairs",
    "upres_print": "upres_pairs",
    "portrait_demo": "drawn_portraits",
    "portrait_demo_low": "drawn_portraits",
    "portrait_demo_upres": "upres_pairs",
    "portrait_demo_print": "upres_pairs",
}


def needed(cfg_group, option):
    """What a user must give with an option: where the data is."""
    if cfg_group == "experiment":
        option = DATA_OF_EXPERIMENTS.get(option, option)
    elif cfg_group != "data":
        return []
    place = "data.path" if option in ("folder", "packed", "faces", "upres_pairs") else "data.root"
    more = ["data.category=cat"] if option == "lsun" else []
    return [] if option == "drawn_portraits" else [f"{place}=somewhere", *more]


FREE_MAPPINGS = {"growth.batch_size", "growth.learning_rate"}  # {height: number}, checked by GrowthSchedule
FREE_MAPPINGS |= {"model.low", "model.upres", "model.print"}  # options of other runs, checked by these


def assert_every_node_has_a_schema(node, name=""):
    """So a key that no schema has cannot be in any file: OmegaConf refuses it while composing."""
    if name in FREE_MAPPINGS:
        return
    schema = OmegaConf.get_type(node)
    assert dataclasses.is_dataclass(schema), name
    assert set(node) <= {field.name for field in dataclasses.fields(schema)}, name
    for key, value in node.items():
        if isinstance(value, DictConfig):
            assert_every_node_has_a_schema(value, f"{name}.{key}".lstrip("."))


def plain(cfg):
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
