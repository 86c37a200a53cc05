"""Every shipped configuration composes, holds only keys that its schema knows, and builds what it describes."""

import dataclasses
import inspect

import pytest
import pytorch_lightning as pl
import torch
from compositions import (
    ALL_OPTIONS,
    CONF,
    EXPERIMENTS,
    GROUPS,
    OPTIONS,
    assert_every_node_has_a_schema,
    composed,
    hydra_is_ready,  # noqa: F401 - a fixture
    needed,
    plain,
)
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

import train as train_entry
from commands.config_checks import check_config
from commands.portrait_demo import Plan
from commands.train import build_module, check_values
from conf import schemas
from imago.classification.options import ClassificationOptions
from imago.growth import GrowthSchedule
from imago.losses import AdversarialLoss
from lightning_modules.adversarial import AdversarialModule


def build(cfg):
    """Loss, schedule and module as train.py builds them, without memory for weights."""
    config = plain(cfg)
    with torch.device("meta"):
        module = build_module(cfg, config)
    return module.schedule, module.loss, module


# --- composing --------------------------------------------------------------------------------------------------------


def test_all_groups_are_tested():
    train_groups = {
        "callbacks",
        "data",
        "experiment",
        "growth",
        "launcher",
        "logger",
        "loss",
        "model",
        "sweep",
        "trainer",
    }
    assert set(GROUPS) == train_groups | {"source", "protocol"}
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
    """With nothing but the place of the data (and the 180 million parameters of HDCGAN's networks left out)."""
    narrow = ["model.max_channels=8"] if option.startswith("hdcgan") else []
    cfg = composed(f"experiment={option}", *needed("experiment", option), *narrow)
    check_values(cfg)
    assert_every_node_has_a_schema(cfg)
    if option == "classify_attributes":
        options = instantiate(plain(cfg)["model"], _convert_="all")
        assert isinstance(options, ClassificationOptions)
        assert options == ClassificationOptions(synthetic=[], betas=[0.9, 0.999])  # the schema repeats its defaults
        return
    if option == "portrait_demo":
        plan = instantiate(plain(cfg)["model"], _convert_="all")
        assert isinstance(plan, Plan)
        assert plan.numbers == list(range(16))
        return
    schedule, _, module = build(cfg)
    assert schedule.resolution == cfg.resolution
    if cfg.model._target_ == "lightning_modules.upres.Upres":
        assert module.generator.factor == 8
        assert module.generator.low_size == cfg.resolution // 8
    else:
        assert module.generator.resolution == cfg.resolution


def test_the_defaults_need_nothing():
    assert OmegaConf.missing_keys(composed()) == set()
    assert OmegaConf.missing_keys(compose("generate")) == {"checkpoint"}
    check_config(compose("generate", overrides=["checkpoint=runs/a"]))


def test_schemas_are_no_options():
    """A file of each group stands on a schema or on another file; none that a user chooses is called a schema."""
    for group, option in ALL_OPTIONS:
        assert not option.endswith("_schema")
        defaults = OmegaConf.load(CONF / group / f"{option}.yaml").defaults
        if group not in ("experiment", "launcher", "sweep"):  # they set keys of others
            assert defaults[-1] == "_self_"
            assert defaults[0].endswith("_schema") or (group, defaults[0]) in ALL_OPTIONS
    choices = compose("train", return_hydra_config=True).hydra.runtime.choices
    assert set(GROUPS) - {"source", "protocol"} <= choices.keys()
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


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        *((model, "hinge") for model in options("model") if model not in ("attribute_classifier", "portrait_demo")),
        *(("pggan_small", loss) for loss in options("loss")),
    ],
)
def test_every_model_and_every_loss_builds(model, loss):
    """Which goes with which: tests/lightning_modules/test_models_and_losses.py."""
    pyramid = model in ("dcgan", "hdcgan")
    small = ["model.filters=2", "model.discriminator_norm=layer"]
    if model == "upres":
        small += ["model.discriminator_filters=2", "model.low_size=32", "model.face_size=32"]
    elif not pyramid:
        small = ["growth=quickstart"]
    cfg = composed(f"model={model}", f"loss={loss}", "resolution=64", *small)
    schedule, built_loss, module = build(cfg)
    assert isinstance(built_loss, AdversarialLoss)
    assert isinstance(module, AdversarialModule)
    assert module.schedule is schedule
    if model == "upres":
        assert module.geometry.factor == module.generator.factor == 2
        return
    assert module.generator.resolution == 64
    if not pyramid:
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
        left_out = {"default": 3, "metrics": 2, "activations": 2, "upres": 2}[option]
        assert len(built) == len(config["callbacks"]) - left_out


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
    penalties = loss.penalties
    assert (penalties.gradient_penalty, penalties.gradient_target, penalties.drift) == (10, 1, 0.001)
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
    assert (cfg.resolution, cfg.total_images, loss.penalties.gradient_target) == (256, 20_000_000, 1)
    assert (schedule.stabilize_images, schedule.fade_images) == (800_000, 800_000)
    assert schedule.batch_sizes == {4: 16, 8: 16, 16: 16, 32: 16, 64: 16, 128: 16, 256: 14}
    assert [module.generator.feature_maps(level) for level in range(7)] == [512, 512, 512, 512, 256, 128, 64]

    cfg = composed("experiment=pggan_cifar10", *needed("experiment", "pggan_cifar10"))
    schedule, loss, module = build(cfg)
    assert (cfg.resolution, cfg.data.mirror, loss.penalties.gradient_target) == (32, False, 750)
    assert set(schedule.batch_sizes.values()) == {16}
    assert [module.generator.feature_maps(level) for level in range(4)] == [512, 512, 512, 256]
    assert module.ema.decay == 0.999


def test_the_model_of_appendix_a2():
    _, _, module = build(composed("model=pggan_a2", "resolution=128"))
    assert [module.generator.feature_maps(level) for level in range(6)] == [512, 512, 256, 128, 64, 32]
