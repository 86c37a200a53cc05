"""Every protocol and every kind of data composes for evaluate.py, with all keys checked."""

import pytest
from compositions import ALL_OPTIONS, assert_every_node_has_a_schema, composed, hydra_is_ready, needed  # noqa: F401
from hydra.core.hydra_config import HydraConfig

from commands.config_checks import check_config
from commands.evaluation_job import protocol_of
from imago.evaluation.protocol import Protocol

PROTOCOLS = [option for group, option in ALL_OPTIONS if group == "protocol"]
DATA = [option for group, option in ALL_OPTIONS if group == "data"]


def evaluation(*overrides):
    return composed("checkpoint=runs/a", *overrides, config_name="evaluate")


@pytest.mark.parametrize("option", PROTOCOLS)
def test_protocols(option):
    cfg = evaluation(f"protocol={option}")
    assert_every_node_has_a_schema(cfg)
    assert protocol_of(cfg).swd_images > 0
    assert HydraConfig.get().runtime.choices["protocol"] == option


@pytest.mark.parametrize("option", DATA)
def test_data(option):
    assert_every_node_has_a_schema(evaluation(f"data={option}", *needed("data", option)))


def test_the_default_is_the_official_code_s():
    protocol = protocol_of(evaluation())
    assert protocol == Protocol()
    numbers = (protocol.swd_images, protocol.swd_patches, protocol.swd_directions, protocol.ms_ssim_images)
    assert numbers == (16384, 128, 4 * 128, 20000)
    assert (protocol.feature_images, protocol.score_images, protocol.score_splits) == (10000, 50000, 10)


def test_published_protocols():
    assert protocol_of(evaluation("protocol=pggan_50k")).feature_images == 50_000
    hdcgan = protocol_of(evaluation("protocol=hdcgan"))
    assert (hdcgan.ms_ssim_resolution, hdcgan.feature_resolution, hdcgan.feature_images, hdcgan.pool) == (
        128,
        64,
        10_000,
        True,
    )


@pytest.mark.parametrize("override", ["protocol.swd_image=3", "data.pathh=x", "metric=[swd]"])
def test_misspelt_keys(override):
    with pytest.raises(Exception, match=override.partition("=")[0].rpartition(".")[2]):
        check_config(evaluation(override))
