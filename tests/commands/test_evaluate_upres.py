"""evaluate.py on an up-resolution network."""

import json

import pytest
from face_packs import face_pack
from omegaconf import OmegaConf
from PIL import Image

from imago.networks.dcgan import DCGANGenerator
from imago.networks.jnet import JNet
from imago.networks.serialization import describe_generator, save_generator


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return face_pack(tmp_path_factory.mktemp("data") / "faces", 64, 7).path


def save(path, filters=2, images_seen=40, low_size=16):
    network = JNet(64 // low_size, low_size=low_size, face_size=32, crop=8, filters=filters, max_channels=4, depth=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_generator(path, network, describe_generator(network, 64, 1.0, images_seen))
    return path


@pytest.fixture
def run(tmp_path, faces):
    """A run directory with the newest network and the configuration that it was trained with."""
    save(tmp_path / "run" / "generator.safetensors")
    data = {"path": [str(faces)], "held_out": 3, "landmarks": "auto", "degradation": {"noise": 0.2}}
    OmegaConf.save(OmegaConf.create({"data": data}), tmp_path / "run" / "config.yaml")
    return tmp_path / "run"


def evaluate(commands, *words):
    return commands.run("evaluate", [*words, "device=cpu"])


def test_a_network_stands_beside_lanczos_and_the_real_pictures(commands, run):
    result = evaluate(commands, f"checkpoint={run}")
    assert result.code == 0, result.err
    assert "3 pictures of drawn (kept out of training), at 64 pixels" in result.out
    report = json.loads((run / "evaluation" / "000000040-upres.json").read_text())
    methods = {
        one["checkpoint"]: {row["metric"]: row["value"] for row in one["results"]} for one in report["checkpoints"]
    }
    assert list(methods) == ["real", "Lanczos", str(run)]
    assert methods["Lanczos"]["psnr"] > methods[str(run)]["psnr"] > 0  # an untrained one is worse than any filter
    assert methods["real"]["sharpness"] == pytest.approx(1)
    markdown = (run / "evaluation" / "000000040-upres.md").read_text()
    assert "| Lanczos |" in markdown
    with Image.open(run / "evaluation" / "000000040-upres-before_after.png") as picture:
        assert picture.height > 3 * 384


def test_several_networks_and_another_pack(commands, run, tmp_path):
    other = face_pack(tmp_path / "other", 64, 4, seed=5).path
    second = save(tmp_path / "second.safetensors", filters=3, images_seen=80)
    words = [f"checkpoint=[{run},{second}]", f"data.path={other}", f"out={tmp_path / 'report.json'}", "pictures=2"]
    result = evaluate(commands, *words, "degraded=true")
    assert result.code == 0, result.err
    assert "2 pictures of drawn (all), degraded" in result.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert [one["images_seen"] for one in report["checkpoints"]] == [0, 0, 40, 80]
    several = ["data=upres_pairs", f"data.path=[{other}]", "data.held_out=1", "data.landmarks=none"]
    result = evaluate(commands, f"checkpoint={second}", *several, f"out={tmp_path / 'again.json'}")
    assert result.code == 0, result.err
    assert "1 pictures of drawn (kept out of training)" in result.out


def test_mistakes_are_told_in_one_line(commands, run, tmp_path, faces):
    def error(*words):
        result = evaluate(commands, *words)
        assert result.code == 2
        return result.error

    alone = save(tmp_path / "alone" / "generator.safetensors")
    assert "tells the pictures that it learnt from; give data.path=" in error(f"checkpoint={alone}")
    assert "metrics: up-resolution networks have measures of their own" in error(f"checkpoint={run}", "metrics=[swd]")
    assert "pictures must be at least 1" in error(f"checkpoint={run}", "pictures=0")
    small = face_pack(tmp_path / "small", 32, 4).path
    assert "its pictures are 32 pixels high, the run's 64" in error(f"checkpoint={run}", f"data.path={small}")
    half = save(tmp_path / "half.safetensors", low_size=32)
    assert "other sizes cannot be compared" in error(f"checkpoint=[{run},{half}]")
    generator = DCGANGenerator(resolution=8, filters=2, latent_size=2)
    save_generator(tmp_path / "g.safetensors", generator, describe_generator(generator, 8, 1.0, 0))
    assert "are measured apart" in error(f"checkpoint=[{run},{tmp_path / 'g.safetensors'}]")
    assert not (run / "evaluation").exists()


def test_a_report_needs_a_place(commands, run, tmp_path):
    (tmp_path / "file").write_text("")
    result = evaluate(commands, f"checkpoint={run}", f"out={tmp_path / 'file' / 'a.json'}", "pictures=1")
    assert result.code == 2
    assert "cannot be written" in result.error
