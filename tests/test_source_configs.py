"""Every data set is an option of both commands, and its options are those of its reader."""

import inspect

import pytest
from compositions import (
    ALL_OPTIONS,
    OPTIONS,
    assert_every_node_has_a_schema,
    composed,
    hydra_is_ready,  # noqa: F401 - a fixture
    plain,
)
from hydra import compose
from hydra.errors import ConfigCompositionException, InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from conf.source_schemas import ONLY_TO_PREPARE, SOURCES
from imago.data.sources.aligned import AlignedFaces

SOURCE_OPTIONS = [option for group, option in ALL_OPTIONS if group == "source"]


def test_every_source_is_also_a_data_module():
    data_options = {option for group, option in OPTIONS if group == "data"}
    assert set(SOURCE_OPTIONS) == set(SOURCES) | set(ONLY_TO_PREPARE)
    assert data_options - {"upres_pairs"} == set(SOURCE_OPTIONS)  # pairs are made of packs, not of a source


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
    for overrides, problem in ((["data.root=a", "data.path=b"], "give one of them"), ([], "data.root is needed")):
        with pytest.raises(InstantiationException, match=problem):
            data_module("data=celeba", *overrides)


def test_lsun_is_mirrored_as_in_the_paper():
    """Appendix G: 100,000 images a category with mirroring, but all images of bedroom and dog without."""
    mirrored = {
        c: data_module("data=lsun", "data.root=a", f"data.category={c}").mirror for c in ("cat", "bedroom", "dog")
    }
    assert mirrored == {"cat": True, "bedroom": False, "dog": False}
    assert data_module("data=lsun", "data.root=a", "data.category=dog", "data.mirror=true").mirror
