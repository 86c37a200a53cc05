import io
import json
import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from imago.errors import UserError
from imago.networks import ProgressiveDiscriminator, ProgressiveGenerator
from imago.networks.serialization import (
    describe_generator,
    find_generator,
    load_checkpoint,
    load_generator,
    save_generator,
)

OPTIONS = {"resolution": 8, "channels": 1, "base": (4, 3), "latent_size": 5, "fmap_base": 16, "fmap_max": 4}


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return ProgressiveGenerator(**OPTIONS)


@pytest.fixture
def file(tmp_path, generator):
    path = tmp_path / "generator.safetensors"
    save_generator(path, generator, describe_generator(generator, 8, 0.25, 12_345_678))
    return path


@pytest.fixture
def checkpoint(tmp_path, generator):
    path = tmp_path / "last.ckpt"
    description = describe_generator(generator, 8, 0.25, 12_345_678)
    torch.save({"description": description, "generator_ema": generator.state_dict(), "images_seen": 12_345_678}, path)
    return path


def rewrite(file, **changes):
    """The same generator file with other metadata."""
    with safe_open(file, framework="pt") as opened:
        description = json.loads(opened.metadata()["imago"])
    tensors = load_file(file)
    save_file(tensors, file, metadata={"imago": json.dumps(description | changes)})
    return file


# --- round trips ------------------------------------------------------------------------------------------------------


def assert_same(loaded, generator):
    assert (loaded.resolution, loaded.alpha, loaded.images_seen) == (8, 0.25, 12_345_678)
    assert loaded.config == OPTIONS | {"base": [4, 3]}
    assert not loaded.generator.training
    assert not any(p.requires_grad for p in loaded.generator.parameters())
    latents = torch.randn(4, 5)
    for resolution, alpha in ((4, 1.0), (8, 0.25), (8, 1.0)):
        expected = generator(latents, resolution=resolution, alpha=alpha)
        assert torch.equal(loaded.generator(latents, resolution=resolution, alpha=alpha), expected)


def test_a_generator_file_gives_the_same_images_bit_for_bit(file, generator):
    assert_same(load_generator(file), generator)
    assert_same(load_generator(str(file)), generator)


def test_a_checkpoint_gives_the_same_images_bit_for_bit(checkpoint, generator):
    assert_same(load_generator(checkpoint), generator)


def test_weights_in_channels_last_are_saved_as_they_are(tmp_path, generator):
    state = {name: value.clone() for name, value in generator.state_dict().items()}
    path = tmp_path / "g.safetensors"
    generator.to(memory_format=torch.channels_last)
    save_generator(path, generator, describe_generator(generator, 8, 0.25, 12_345_678))
    loaded = load_generator(path).generator.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_a_file_tells_how_to_build_its_network(file):
    with safe_open(file, framework="pt") as opened:
        assert list(opened.metadata()) == ["imago"]
        description = json.loads(opened.metadata()["imago"])
    assert description == {
        "format": 1,
        "network": "ProgressiveGenerator",
        "config": OPTIONS | {"base": [4, 3]},
        "resolution": 8,
        "alpha": 0.25,
        "images_seen": 12_345_678,
    }


def test_a_failed_write_leaves_the_old_file_and_no_litter(file, generator, monkeypatch):
    before = file.read_bytes()

    def fail(path, data):
        with open(path, "wb") as half:
            half.write(data[: len(data) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        save_generator(file, generator, {})
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


# --- what a user may point at -----------------------------------------------------------------------------------------


def test_a_run_directory_means_its_newest_generator(tmp_path):
    for name in ("checkpoints/previous.ckpt", "checkpoints/last.ckpt", "generator.safetensors"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert find_generator(tmp_path) == path
        assert find_generator(path) == path


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=r"runs/a: no such file or run directory"):
        load_generator("runs/a")
    with pytest.raises(UserError, match=r"no generator.safetensors in it; is it a run directory"):
        load_generator(tmp_path)
    other = tmp_path / "generator.pt"
    other.touch()
    with pytest.raises(UserError, match=r"generator.pt: a checkpoint is a run directory, a .ckpt or a .safetensors"):
        load_generator(other)


# --- damaged and foreign files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 4, 8, 100, 2000, -1])
def test_a_truncated_generator_file_is_told(file, length):
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UserError, match=r"generator.safetensors: not a whole .safetensors file"):
        load_generator(file)


def test_anothers_safetensors_file_is_told(file):
    for metadata in (None, {"format": "pt"}, {"imago": ""}, {"imago": "[1]"}, {"imago": "{}"}, {"imago": "7"}):
        save_file({"weight": torch.zeros(2)}, file, metadata=metadata)
        with pytest.raises(UserError, match="not written by imago: nothing in it says how to build a network"):
            load_generator(file)
    save_file({"weight": torch.zeros(2)}, file, metadata={"imago": "{half"})
    with pytest.raises(UserError, match=r"not a whole .safetensors file"):
        load_generator(file)


def test_a_file_of_another_format_is_told(file):
    with pytest.raises(UserError, match="format 2 of generator files; this version reads 1"):
        load_generator(rewrite(file, format=2))


@pytest.mark.parametrize("name", ["StyleGAN", "os.system", "imago.networks.ProgressiveGenerator", "Linear"])
def test_only_registered_networks_are_built(file, name):
    with pytest.raises(UserError, match=f"unknown network '{name}'; imago has .*HDCGANGenerator"):
        load_generator(rewrite(file, network=name))


@pytest.mark.parametrize(
    "changes",
    [
        {"config": dict(OPTIONS, latent_size=6)},  # shapes differ
        {"config": dict(OPTIONS, resolution=16)},  # weights are missing
        {"config": dict(OPTIONS, resolution=4)},  # weights are left over
        {"config": dict(OPTIONS, resolution=12)},
        {"config": dict(OPTIONS, colours=3)},
        {"config": dict(OPTIONS, latent_size="five")},
        {"config": dict(OPTIONS, latent_size=0)},
        {"config": dict(OPTIONS, base=4)},
        {"config": dict(OPTIONS, base=[4])},
        {"config": dict(OPTIONS, base=["a", "b"])},
        {"config": "none"},
        {"config": None},
        {"config": [1, 2]},
        {"resolution": "eight"},
        {"resolution": None},
        {"alpha": "half"},
        {"images_seen": [3]},
    ],
)
def test_metadata_that_does_not_fit_the_weights_is_told(file, changes):
    with pytest.raises(UserError, match=r"generator.safetensors: the network in it cannot be built: .+"):
        load_generator(rewrite(file, **changes))


def test_a_discriminator_is_no_generator(tmp_path):
    network = ProgressiveDiscriminator(8, fmap_base=16, fmap_max=4)
    path = tmp_path / "d.safetensors"
    save_generator(path, network, describe_generator(network, 8, 1.0, 0))
    with pytest.raises(UserError, match="ProgressiveDiscriminator is not a generator"):
        load_generator(path)


@pytest.mark.parametrize("key", ["network", "config", "resolution", "alpha", "images_seen"])
def test_metadata_without_a_part_is_told(file, key):
    with safe_open(file, framework="pt") as opened:
        description = json.loads(opened.metadata()["imago"])
    del description[key]
    tensors = load_file(file)
    save_file(tensors, file, metadata={"imago": json.dumps(description)})
    with pytest.raises(UserError, match=r"cannot be built|nothing in it says how to build"):
        load_generator(file)


def test_a_checkpoint_without_a_generator_is_told(tmp_path):
    path = tmp_path / "other.ckpt"
    for state in ({"state_dict": {}}, {"description": {"network": "ProgressiveGenerator"}}):
        torch.save(state, path)
        with pytest.raises(UserError, match=r"other.ckpt: not written by imago"):
            load_generator(path)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match=r"other.ckpt: not a checkpoint of imago"):
        load_checkpoint(path)


# --- checkpoints that name code ---------------------------------------------------------------------------------------


class Attack:
    """Unpickled by plain pickle, it runs a command."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


def test_a_checkpoint_that_names_code_is_refused_and_not_executed(tmp_path):
    path, marker = tmp_path / "evil.ckpt", tmp_path / "executed"
    torch.save({"images_seen": 3, "description": Attack(marker)}, path)
    with pytest.raises(UserError, match=r"evil.ckpt: refused, because it names code to import"):
        load_generator(path)
    assert not marker.exists()
    # The file is a loaded weapon: this is what it does elsewhere.
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_is_refused_and_not_executed(tmp_path, protocol):
    path, marker = tmp_path / "evil.ckpt", tmp_path / "executed"
    path.write_bytes(pickle.dumps({"description": Attack(marker)}, protocol=protocol))
    with pytest.raises(UserError, match=r"evil.ckpt: not a whole checkpoint"):
        load_generator(path)
    assert not marker.exists()


def test_a_whole_module_is_refused(tmp_path, generator):
    path = tmp_path / "module.ckpt"
    torch.save({"generator": generator}, path)
    with pytest.raises(UserError, match="refused, because it names code to import"):
        load_checkpoint(path)


# --- damaged checkpoints ----------------------------------------------------------------------------------------------


def test_a_flipped_bit_anywhere_in_a_checkpoint_is_told_or_harmless(checkpoint):
    """Damage to what is stored is found by checksums; of the zip's own bytes, some (dates, padding) mean nothing."""
    whole, found = checkpoint.read_bytes(), 0
    expected = load_checkpoint(checkpoint)
    choose = random.Random(0)
    for _ in range(1500):
        damaged = bytearray(whole)
        damaged[choose.randrange(len(whole))] ^= 1 << choose.randrange(8)
        checkpoint.write_bytes(damaged)
        try:
            state = load_checkpoint(checkpoint)
        except UserError:
            found += 1
        else:
            assert state["description"] == expected["description"]
            assert state["images_seen"] == expected["images_seen"]
            pairs = zip(state["generator_ema"].values(), expected["generator_ema"].values(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)
    assert found > 700


def test_a_flipped_bit_in_a_weight_is_told(checkpoint):
    """PyTorch alone would load it."""
    whole = checkpoint.read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        name = max((info for info in archive.infolist() if "/data/" in info.filename), key=lambda i: i.file_size)
        weights = archive.read(name)
    assert whole.count(weights) == 1
    damaged = bytearray(whole)
    damaged[whole.find(weights) + 5] ^= 1
    checkpoint.write_bytes(damaged)
    torch.load(checkpoint, weights_only=True)
    with pytest.raises(UserError, match=r"damaged \(.*/data/\d+ does not match its checksum\)"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_told(checkpoint, share):
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"last.ckpt: not a whole checkpoint"):
        load_checkpoint(checkpoint)


def test_another_zip_is_told(tmp_path):
    path = tmp_path / "photos.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(UserError, match=r"photos.ckpt: not a whole checkpoint"):
        load_checkpoint(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"photos.ckpt: not a whole checkpoint"):
        load_checkpoint(path)
