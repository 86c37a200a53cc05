"""write_checkpoint: whole files at every moment; generator files that survive a full disk."""

import errno
import os
from pathlib import Path

import pytest
import torch

from callbacks.snapshot import write_checkpoint
from imago.atomic import atomic_path, remove_leftovers
from imago.networks import ProgressiveGenerator
from imago.networks.serialization import describe_generator, load_checkpoint, save_generator


def number(run_dir, name):
    return load_checkpoint(run_dir / "checkpoints" / f"{name}.ckpt")["number"]


def test_last_becomes_previous(tmp_path):
    for i in range(3):
        write_checkpoint(tmp_path, {"number": i})
    assert (number(tmp_path, "last"), number(tmp_path, "previous")) == (2, 1)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_file_system_without_hard_links(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    for i in range(3):
        write_checkpoint(tmp_path, {"number": i})
    assert (number(tmp_path, "last"), number(tmp_path, "previous")) == (2, 1)


@pytest.mark.parametrize("failing", ["save", "fsync"])
def test_failed_write_leaves_both_checkpoints_and_no_litter(tmp_path, monkeypatch, failing):
    for i in range(2):
        write_checkpoint(tmp_path, {"number": i})

    def full(*_):
        raise RuntimeError("unexpected pos") if failing == "save" else OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch if failing == "save" else os, failing, full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(tmp_path, {"number": 2})
    assert (number(tmp_path, "last"), number(tmp_path, "previous")) == (1, 0)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_full_disk_under_a_generator_file_is_an_os_error(tmp_path, monkeypatch):
    generator = ProgressiveGenerator(8, latent_size=4, fmap_base=16, fmap_max=4)

    def full(path: Path, data: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save_generator(tmp_path / "g.safetensors", generator, describe_generator(generator, 8, 1.0, 0))
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    kept = [tmp_path / name for name in (".lock", ".gitignore", "metrics.csv", ".12-folder")]
    for path in kept[:3]:
        path.write_text("kept")
    kept[3].mkdir()
    with atomic_path(tmp_path / "metrics.csv") as temporary:  # as it is called while it is written
        temporary.write_text("kept")
        (tmp_path / temporary.name.replace(str(os.getpid()), "99999")).write_text("left over")
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
