"""What a new user may get wrong: one line that says so, a code that is not 0, and files that stay as they were."""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commands.run_directory import RunDirectory
from imago.data import pack
from imago.data.sources.drawn import DrawnPortraits
from imago.errors import UserError
from training_runs import TINY, contents, differences, state_of


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where a test puts the images that a user would point to."""
    path = tmp_path / "photos"
    path.mkdir()
    return path


def train_on(commands, folder, run, *overrides):
    tiny = [option for option in TINY if option != "data=packed"]
    options = ["data=folder", f"data.path={folder}", "data.pack_workers=1", f"data.cache={run.parent / 'cache'}"]
    return commands.run("train", [*tiny, *options, f"run_dir={run}", "total_images=16", *overrides])


def save_noise(path: Path, size: int = 24) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


# --- data -------------------------------------------------------------------------------------------------------------


def test_path_that_does_not_exist(commands, tmp_path):
    result = train_on(commands, tmp_path / "fotos", tmp_path / "run")
    assert "fotos: no such folder or zip" in result.error
    assert not (tmp_path / "run").exists()


def test_empty_folder(commands, folder, tmp_path):
    result = train_on(commands, folder, tmp_path / "run")
    assert "no images in this folder; accepted endings: .jpg" in result.error
    assert not (tmp_path / "run").exists()


def test_text_file_named_jpg(commands, folder, tmp_path):
    (folder / "notes.jpg").write_text("not a picture\n")
    result = train_on(commands, folder, tmp_path / "run")
    assert "none of 1 images can be used (notes.jpg" in result.error


def test_image_of_one_pixel(commands, folder, tmp_path):
    save_noise(folder / "dot.png", size=1)
    result = train_on(commands, folder, tmp_path / "run")
    assert "none of 1 images can be used (dot.png" in result.error


def test_few_bad_files_among_good_ones_are_left_out_if_the_user_says_so(commands, folder, tmp_path):
    for i in range(3):
        save_noise(folder / f"{i}.png")
    (folder / "notes.jpg").write_text("not a picture\n")
    result = train_on(commands, folder, tmp_path / "run")
    assert "to pack the others, set max_unreadable=0.251" in result.error
    result = train_on(commands, folder, tmp_path / "run", "data.max_unreadable=0.251")
    assert result.code == 0, result.err


def test_path_of_packed_data_that_is_not(train, tmp_path):
    result = train(tmp_path / "run", f"data.path={tmp_path}")
    assert "not a packed data set: no dataset.json" in result.error


# --- keys and values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.latent_sise=3", "unknown key 'model.latent_sise'; did you mean latent_size?"),
        ("+model.latent_sise=3", "unknown key 'model.latent_sise'; did you mean latent_size?"),
        ("modl=pggan", "did you mean"),
        ("loss=wgn", "Could not find 'loss/wgn' Available options in 'loss': "),
        ("seed=abc", "seed: Value 'abc' of type 'str' could not be converted to Integer"),
        ("resolution=24", "resolution 24 is not the start resolution 4 times a power of two"),
        ("resolution=-16", "resolution -16 is not the start resolution 4 times a power of two"),
        ("growth.start_resolution=2", "this network has no resolution 2; it has 4, 8, 16"),
        ("growth.batch_size=-8", "growth.batch_size must be a number above 0"),
        ("growth.batch_size=many", "growth.batch_size must be a number above 0"),
        ("growth.batch_size=2.5", "growth.batch_size must be a whole number, not 2.5"),
        ("growth.batch_size=6", "growth.mbstd_group may be 1, 2, 3, 6"),
        ("growth.learning_rate=nan", "growth.learning_rate must be a number above 0"),
        ("growth.stabilize_images=-1", "stabilize_images, fade_images, final_images, mbstd_group must be at least 1"),
        ("model.latent_size=-1", "latent_size must be at least 1, not -1"),
        ("model.fmap_max=-1", "fmap_max must be at least 1"),
        ("model.n_critic=0", "model.n_critic must be at least 1, not 0"),
        ("model.micro_batch=-4", "take at least 4"),
        ("model.betas=[0.5]", "model.betas must be two numbers in [0, 1)"),
        ("model.eps=-1", "model.eps must be above 0"),
        ("model._target_=nowhere.Network", "Error locating target 'nowhere.Network'"),
        ("loss.drift=-0.1", "loss.drift must be a number of at least 0"),
        ("data.workers=-1", "data.workers must be at least 0, not -1"),
        ("seed=-1", "seed must lie in [0, 2⁶³)"),
        ("total_images=-1", "total_images must be at least 1, not -1"),
        ("base=[4]", "base must be [height, width], not [4]"),
        ("resume=perhaps", "resume must be auto or never"),
        ("callbacks.snapshot.every_images=-1", "callbacks.snapshot.every_images must be at least 1, not -1"),
        ("callbacks.snapshot.every_minutes=-1", "callbacks.snapshot.every_minutes must be above 0"),
        ("callbacks.snapshot.keep_generators=0", "callbacks.snapshot.keep_generators must be at least 1"),
        ("callbacks.sample_grid.columns=-1", "callbacks.sample_grid.columns must be at least 1, not -1"),
        ("callbacks.showcase={fps: 0}", "callbacks.showcase is null and takes no keys"),
        ("trainer.devices=0", "trainer.devices=0: give how many devices to train on, such as trainer.devices=1"),
        ("trainer.devices=[]", "trainer.devices=[]: give how many"),
        ("trainer.devices=-2", "trainer.devices=-2: give how many"),
        pytest.param(
            "trainer.accelerator=gpu",
            "trainer.accelerator=gpu: PyTorch finds no such GPU on this machine; take trainer.accelerator=auto",
            marks=pytest.mark.skipif(
                torch.cuda.is_available() or torch.backends.mps.is_available(), reason="needs a machine without GPU"
            ),
        ),
        pytest.param(
            "trainer.accelerator=tpu",
            "trainer: Requirement 'torch_xla",
            marks=pytest.mark.skipif(find_spec("torch_xla") is not None, reason="torch_xla is installed"),
        ),
        ("trainer.accelerator=abacus", "accelerator='abacus'"),
        ("trainer.precision=16-mixed", "trainer.precision must be one of 32-true"),
        ("run_dir=/dev/null", "run_dir=/dev/null: there is a file of that name"),
        ("run_dir=", "run_dir= is empty"),
    ],
)
def test_bad_key_or_value_is_one_line_and_nothing_is_written(train, finished_run, tmp_path, override, message):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    before = contents(run)
    result = train(run, override)
    assert message in result.error
    assert contents(run) == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("resolution=32", "holds no resolution 32; it holds 4, 8, 16"),
        ("data.channels=1", "has 3 channels and data.channels=1"),
        ("base=[4,3]", "was packed with base (4, 4), not (4, 3)"),
    ],
)
def test_data_that_the_networks_cannot_take(train, tmp_path, override, message):
    result = train(tmp_path, override)
    assert message in result.error
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


# --- run directories --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    """A finished run to do things to."""
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.drift=0.1", "loss.drift: 0.001 → 0.1"),
        ("model.fmap_max=16", "model.fmap_max: 8 → 16"),
        ("growth.batch_size=16", "growth.batch_size: 8 → 16"),
        ("seed=1", "seed: 0 → 1"),
        ("resume=never", "holds a checkpoint and resume=never"),
    ],
)
def test_run_of_another_configuration_is_refused_with_the_difference(train, run, override, message):
    before = contents(run)
    result = train(run, override)
    assert message in result.error
    assert contents(run) == before


def test_run_on_other_data_is_refused(train, run, tmp_path):
    other = pack(DrawnPortraits(4, 16, 0), tmp_path / "other", resolution=16)
    before = contents(run)
    result = train(run, f"data.path={other.path}", "total_images=400")
    assert "is not the data that this run began with" in result.error
    assert contents(run) == before


def test_data_that_moved_are_the_same_data(train, run, blobs, tmp_path):
    shutil.copytree(blobs, tmp_path / "moved")
    assert train(run, f"data.path={tmp_path / 'moved'}", "total_images=328").code == 0


def test_checkpoint_of_another_architecture_under_the_same_configuration(train, run):
    state = state_of(run)
    name = next(name for name in state["generator"] if name.endswith("weight"))
    state["generator"][name] = torch.zeros(1, 2, 3)
    torch.save(state, run / "checkpoints" / "last.ckpt")
    result = train(run, "total_images=400")
    assert "the checkpoint does not fit this model" in result.error
    assert state_of(run)["generator"][name].shape == (1, 2, 3)


def test_file_that_is_no_checkpoint_of_train(train, run):
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, run / "checkpoints" / "last.ckpt")
    before = contents(run)
    result = train(run)
    assert "not written by train.py (config, data_checksum, images_seen missing)" in result.error
    assert contents(run) == before


class Malicious:
    """What a hostile checkpoint could hold: code to run when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.mkdir, (str(self.proof),)


def test_checkpoint_that_names_code_to_import_runs_none(train, run, tmp_path):
    for name in ("last", "previous"):
        torch.save({"config": Malicious(tmp_path / "proof")}, run / "checkpoints" / f"{name}.ckpt")
    before = contents(run)
    result = train(run)
    assert "refused, because it names code to import" in result.error
    assert not (tmp_path / "proof").exists()
    assert contents(run) == before


def test_run_directory_below_a_file(train, tmp_path):
    (tmp_path / "file").write_text("precious")
    result = train(tmp_path / "file" / "run")
    assert "cannot be written (Not a directory)" in result.error
    assert (tmp_path / "file").read_text() == "precious"


def can_mount(folder: Path) -> bool:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True).returncode == 0
    return mounted and subprocess.run(["umount", str(folder)], capture_output=True).returncode == 0


@pytest.fixture
def mount(tmp_path):
    """mount(options) gives a tmpfs; skips where one may not be mounted."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    if shutil.which("mount") is None or not can_mount(folder):
        pytest.skip("no right to mount a tmpfs")

    def mount(options: str) -> Path:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
        return folder

    yield mount
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_read_only_run_directory(train, mount, finished_run):
    folder = mount("size=8m")
    shutil.copytree(finished_run, folder / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    for run in ("run", "new"):
        result = train(folder / run, "total_images=400")
        assert "cannot be written (Read-only file system)" in result.error


def test_disk_that_fills_up_and_is_cleared(train, mount, finished_run, tmp_path):
    folder = mount("size=8m")
    assert train(folder / "run", "total_images=96").code == 0
    filler = folder / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    result = train(folder / "run")
    assert "No space left on device" in result.error  # already as config.yaml finds no room
    assert str(folder) in result.error
    assert result.code == 2
    assert state_of(folder / "run")["images_seen"] == 96
    filler.unlink()
    result = train(folder / "run")
    assert result.code == 0, result.err
    assert differences(state_of(folder / "run"), state_of(finished_run)) == []


def test_run_directory_in_use_is_refused(train, run):
    before = contents(run)
    with open(run / ".lock", "a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        result = train(run, "total_images=400")
    assert "another process is training there" in result.error
    assert contents(run) == before


def test_run_directory_is_free_at_once_after_a_kill(commands, train, blobs, tmp_path):
    options = [*TINY, f"data.path={blobs}", f"run_dir={tmp_path}", "growth.final_images=1000000", "data.workers=2"]
    running = commands.start("train", options)
    while not (tmp_path / "checkpoints" / "last.ckpt").exists():
        assert running.process.is_alive()
        time.sleep(0.01)
    running.process.kill()
    assert running.wait().code == -signal.SIGKILL  # its loader workers live on for some seconds
    result = train(tmp_path, "growth.final_images=64")
    assert result.code == 0, result.err


def test_archive_of_another_program_as_a_checkpoint_to_generate_from(commands, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.ckpt", "w") as archive:
        archive.writestr("data.txt", "something")
    result = commands.run("generate", [f"checkpoint={tmp_path / 'model.ckpt'}", f"out={tmp_path / 'out'}"])
    assert "model.ckpt: not a whole checkpoint" in result.error


def test_another_model_is_named_first_and_not_all_that_differs(finished_run):
    with pytest.raises(UserError) as refused:
        RunDirectory(finished_run).checkpoint({"model": {"_target_": "lightning_modules.dcgan.DCGAN"}}, "auto")
    told = str(refused.value)
    assert "configuration: model._target_: lightning_modules.pggan.PGGAN → lightning_modules.dcgan.DCGAN; " in told
    assert told.count(" → ") == 6
    assert re.search(r"; and \d+ more; choose another run_dir", told)
