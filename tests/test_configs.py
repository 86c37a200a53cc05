"""Every shipped configuration composes, holds only keys that its schema knows, and builds what it describes."""

import dataclasses
import inspect
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

import train as train_entry
from commands.app import check_config
from commands.train import build_module, check_values
from conf import schemas
from conf.source_schemas import ONLY_TO_PREPARE, SOURCES
from imago.data.sources.aligned import AlignedFaces
from imago.growth import GrowthSchedule
from imago.losses import AdversarialLoss
from lightning_modules.adversarial import AdversarialModule

CONF = Path(__file__).parents[1] / "conf"
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir() and list(folder.glob("*.yaml")))
ALL_OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
OPTIONS = [(group, option) for group, option in ALL_OPTIONS if group != "source"]  # of train.py
EXPERIMENTS = [option for group, option in OPTIONS if group == "experiment"]


@pytest.fixture(autouse=True)
def _hydra():
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


def needed(cfg_group, option):
    """What a user must give with an option: where the data is."""
    if cfg_group == "experiment":
        option = {"pggan_lsun": "lsun", "pggan_celebahq": "celeba_hq", "pggan_cifar10": "cifar10"}.get(option, option)
    elif cfg_group != "data":
        return []
    place = "data.path" if option in ("folder", "packed", "faces") else "data.root"
    more = ["data.category=cat"] if option == "lsun" else []
    return [] if option == "drawn_portraits" else [f"{place}=somewhere", *more]


FREE_MAPPINGS = {"growth.batch_size", "growth.learning_rate"}  # {height: number}, checked by GrowthSchedule


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


def build(cfg):
    """Loss, schedule and module as train.py builds them, without memory for weights."""
    config = plain(cfg)
    with torch.device("meta"):
        module = build_module(cfg, config)
    return module.schedule, module.loss, module


# --- composing --------------------------------------------------------------------------------------------------------


def test_all_groups_are_tested():
    train_groups = {"callbacks", "data", "experiment", "growth", "logger", "loss", "model", "trainer"}
    assert set(GROUPS) == train_groups | {"source"}
    assert set(train_entry.GROUPS) == train_groups  # that --help lists
    assert len(OPTIONS) >= 20


@pytest.mark.parametrize(("group", "option"), [pair for pair in OPTIONS if pair[0] != "experiment"])
def test_every_option_composes_with_the_defaults(group, option):
    cfg = composed(f"{group}={option}", *needed(group, option))
    check_values(cfg)
    assert_every_node_has_a_schema(cfg)
    assert HydraConfig.get().runtime.choices[group] == option
    assert plain(cfg)["run_dir"].startswith("runs/")


@pytest.mark.parametrize("option", EXPERIMENTS)
def test_every_experiment_composes_and_builds(option):
    """With nothing but the place of the data."""
    cfg = composed(f"experiment={option}", *needed("experiment", option))
    check_values(cfg)
    assert_every_node_has_a_schema(cfg)
    schedule, _, module = build(cfg)
    assert module.generator.resolution == schedule.resolution == cfg.resolution


def test_the_defaults_need_nothing():
    assert OmegaConf.missing_keys(composed()) == set()
    assert OmegaConf.missing_keys(compose("generate")) == {"checkpoint"}
    check_config(compose("generate", overrides=["checkpoint=runs/a"]))


def test_schemas_are_no_options():
    """A file of each group stands on a schema or on another file; none that a user chooses is called a schema."""
    for group, option in ALL_OPTIONS:
        assert not option.endswith("_schema")
        defaults = OmegaConf.load(CONF / group / f"{option}.yaml").defaults
        if group != "experiment":
            assert defaults[-1] == "_self_"
            assert defaults[0].endswith("_schema") or (group, defaults[0]) in ALL_OPTIONS
    choices = compose("train", return_hydra_config=True).hydra.runtime.choices
    assert set(GROUPS) - {"source"} <= choices.keys()
    assert not any(str(choice).endswith("_schema") for choice in choices.values())


@pytest.mark.parametrize(
    "override",
    [
        "model.fmap_bsae=1",
        "loss.taget=1",
        "growth.fade=1",
        "data.cont=5",
        "callbacks.snapshot.every=1",
        "trainer.device=1",
        "sede=1",
        "model.fmap_base=many",
        "growth.fade_images=soon",
        "trainer.benchmark=7.5",
        "base=4",
        "model=pgan",
    ],
)
def test_misspelt_keys_and_wrong_types_are_refused(override):
    with pytest.raises(ConfigCompositionException):
        compose("train", overrides=[override])


def test_a_misspelt_key_in_a_file_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [pggan_schema, _self_]\nfmap_bsae: 64\n")
    searched = f"hydra.searchpath=[file://{tmp_path}]"
    with pytest.raises(ConfigCompositionException):
        compose("train", overrides=[searched, "model=mine"])
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [pggan_schema, _self_]\nfmap_base: 64\n")
    assert compose("train", overrides=[searched, "model=mine"]).model.fmap_base == 64


# --- building ---------------------------------------------------------------------------------------------------------


def options(group):
    return [option for g, option in OPTIONS if g == group]


@pytest.mark.parametrize("loss", options("loss"))
@pytest.mark.parametrize("model", options("model"))
def test_every_model_builds_with_every_loss(model, loss):
    cfg = composed(f"model={model}", f"loss={loss}", "resolution=1024")
    schedule, built_loss, module = build(cfg)
    assert isinstance(built_loss, AdversarialLoss)
    assert isinstance(module, AdversarialModule)
    assert module.schedule is schedule
    assert module.generator.resolution == module.discriminator.resolution == 1024
    assert module.generator.feature_maps(0) == min(cfg.model.fmap_base // 2, cfg.model.fmap_max)


@pytest.mark.parametrize("growth", options("growth"))
def test_every_growth_builds_on_one_process(growth):
    schedule, _, module = build(composed(f"growth={growth}", "resolution=1024"))
    assert isinstance(schedule, GrowthSchedule)
    assert schedule.resolution == 1024
    schedule.check_division(1, module.micro_batch)


def test_growth_none_starts_at_the_final_resolution():
    schedule, _, _ = build(composed("growth=none", "resolution=64"))
    assert schedule.resolutions == (64,)


def test_a_base_that_is_not_square_reaches_networks_and_schedule():
    schedule, _, module = build(composed("base=[5,4]", "resolution=40"))
    assert schedule.resolutions == module.generator.resolutions == (5, 10, 20, 40)
    assert module.generator.base == (5, 4)


@pytest.mark.parametrize(("group", "option"), [pair for pair in OPTIONS if pair[0] in ("callbacks", "data")])
def test_callbacks_and_data_modules_build(group, option):
    cfg = composed(f"{group}={option}", *needed(group, option))
    config = plain(cfg)
    if group == "data":
        data = instantiate(config["data"], resolution=32, base=[4, 4], seed=0, _convert_="all")
        assert isinstance(data, pl.LightningDataModule)
    else:
        built = [instantiate(options, _convert_="all") for options in config["callbacks"].values() if options]
        assert all(isinstance(callback, pl.Callback) for callback in built)
        assert len(built) == len(config["callbacks"])


@pytest.mark.parametrize("option", [option for group, option in OPTIONS if group == "logger"])
def test_loggers_name_functions_that_exist(option):
    targets = [options["_target_"] for options in plain(composed(f"logger={option}"))["logger"].values() if options]
    assert all(callable(get_object(target)) for target in targets)
    assert len(targets) == {"csv": 0, "tensorboard": 1, "wandb": 1, "all": 2}[option]


def test_every_schema_names_something_that_takes_its_keys_and_needs_no_others():
    extra = {"resolution", "base", "seed", "channels", "loss", "schedule", "run_dir", "run_config"}
    for schema in vars(schemas).values():
        if not dataclasses.is_dataclass(schema):
            continue
        fields = {field.name: field for field in dataclasses.fields(schema)}
        target = getattr(schema, "_target_", "???")
        if "_target_" not in fields or target == "???":
            continue
        parameters = inspect.signature(get_object(target)).parameters
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            continue
        assert fields.keys() - {"_target_"} <= parameters.keys(), schema
        required = {name for name, p in parameters.items() if p.default is inspect.Parameter.empty}
        assert required <= fields.keys() | extra, schema


# --- sources ----------------------------------------------------------------------------------------------------------

SOURCE_OPTIONS = [option for group, option in ALL_OPTIONS if group == "source"]


def test_every_source_is_also_a_data_module():
    data_options = {option for group, option in OPTIONS if group == "data"}
    assert set(SOURCE_OPTIONS) == set(SOURCES) | set(ONLY_TO_PREPARE)
    assert data_options == set(SOURCE_OPTIONS)


@pytest.mark.parametrize("option", SOURCE_OPTIONS)
def test_every_source_composes(option):
    more = ["source.category=cat"] if option == "lsun" else []
    cfg = composed(f"source={option}", "source.root=somewhere", "out=here", *more, config_name="prepare")
    assert_every_node_has_a_schema(cfg)
    with pytest.raises(ConfigCompositionException):
        compose("prepare", overrides=[f"source={option}", "source.rooot=somewhere"])


def parameters_of(reader):
    """Of a reader; where it hands options on, those of AlignedFaces besides."""
    parameters = dict(inspect.signature(get_object(reader)).parameters)
    if parameters.pop("options", None):
        parameters |= inspect.signature(AlignedFaces).parameters
        del parameters["photos"]
    return parameters


@pytest.mark.parametrize("option", SOURCE_OPTIONS)
def test_options_of_a_source_are_those_of_its_reader_with_the_same_defaults(option):
    schema = (SOURCES | ONLY_TO_PREPARE)[option]
    options = plain(OmegaConf.structured(schema(category="x") if option == "lsun" else schema))
    parameters = parameters_of(options["reader"])
    ours = {"reader", "keep", "keep_best"} | ({"root"} if option == "drawn_portraits" else set())
    assert options.keys() - ours == parameters.keys() - {"channels"}
    for name, value in options.items():
        if name in ours | {"root", "category"} or (option == "drawn_portraits" and name != "seed"):
            continue  # what has no default in the reader
        default = parameters[name].default
        assert value == (list(default) if isinstance(default, tuple) else default), name


def data_module(*overrides):
    cfg = composed(*overrides)
    return instantiate(plain(cfg)["data"], resolution=32, base=[4, 4], seed=0, _convert_="all")


def test_options_reach_the_reader_or_the_data_module():
    data = data_module("data=curto", "data.root=a", "data.split=train", "data.mirror=false", "data.png_level=3")
    assert (data.root, data.mirror, data.png_level) == ("a", False, 3)
    assert data.reader_options["split"] == "train"
    assert data.reader_options.keys().isdisjoint({"mirror", "png_level", "keep", "reader", "root"})
    assert data_module("data=celeba_hq", "data.path=b").root == "b"
    for overrides, problem in ((["data.root=a", "data.path=b"], "give one of them"), ([], "are needed")):
        with pytest.raises(InstantiationException, match=problem):
            data_module("data=celeba", *overrides)


def test_lsun_is_mirrored_as_in_the_paper():
    """Appendix G: 100,000 images a category with mirroring, but all images of bedroom and dog without."""
    mirrored = {
        c: data_module("data=lsun", "data.root=a", f"data.category={c}").mirror for c in ("cat", "bedroom", "dog")
    }
    assert mirrored == {"cat": True, "bedroom": False, "dog": False}
    assert data_module("data=lsun", "data.root=a", "data.category=dog", "data.mirror=true").mirror


# --- the paper's numbers ----------------------------------------------------------------------------------------------


def test_the_papers_run_uses_the_papers_numbers():
    """Appendix A.1; the EMA of 0.999 is per training step."""
    cfg = composed("experiment=pggan_celebahq", "data.path=somewhere")
    schedule, loss, module = build(cfg)
    assert cfg.resolution == 1024
    assert module.generator.config == {
        "resolution": 1024,
        "channels": 3,
        "base": [4, 4],
        "latent_size": 512,
        "fmap_base": 8192,
        "fmap_max": 512,
    }
    assert (loss.penalty_weight, loss.target, loss.drift) == (10, 1, 0.001)
    assert (module.betas, module.eps, module.n_critic) == ((0.0, 0.99), 1e-8, 1)
    assert (module.ema.decay, module.ema.half_life, module.ema.rampup) == (0.999, None, None)
    assert schedule.learning_rates == dict.fromkeys(schedule.resolutions, 0.001)
    assert schedule.batch_sizes == {4: 16, 8: 16, 16: 16, 32: 16, 64: 16, 128: 16, 256: 14, 512: 6, 1024: 3}
    assert (schedule.stabilize_images, schedule.fade_images) == (800_000, 800_000)
    assert schedule.at(0).group_size == 16
    assert schedule.at(13_000_000).group_size == 3


def test_the_papers_runs_on_other_data():
    cfg = composed("experiment=pggan_lsun", *needed("experiment", "pggan_lsun"))
    schedule, loss, module = build(cfg)
    assert (cfg.resolution, cfg.total_images, loss.target) == (256, 20_000_000, 1)
    assert (schedule.stabilize_images, schedule.fade_images) == (800_000, 800_000)
    assert schedule.batch_sizes == {4: 16, 8: 16, 16: 16, 32: 16, 64: 16, 128: 16, 256: 14}
    assert [module.generator.feature_maps(level) for level in range(7)] == [512, 512, 512, 512, 256, 128, 64]

    cfg = composed("experiment=pggan_cifar10", *needed("experiment", "pggan_cifar10"))
    schedule, loss, module = build(cfg)
    assert (cfg.resolution, cfg.data.mirror, loss.target) == (32, False, 750)
    assert set(schedule.batch_sizes.values()) == {16}
    assert [module.generator.feature_maps(level) for level in range(4)] == [512, 512, 512, 256]
    assert module.ema.decay == 0.999


def test_the_model_of_appendix_a2():
    _, _, module = build(composed("model=pggan_a2", "resolution=128"))
    assert [module.generator.feature_maps(level) for level in range(6)] == [512, 512, 256, 128, 64, 32]
