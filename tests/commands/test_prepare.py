"""prepare.py as a user meets it."""

import csv
import os
import shlex
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imago.data import PackedDataset, pack
from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.data.sources.folder import FolderSource
from training_runs import TINY


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Ten smooth 40×48 pictures; 7.png is broken."""
    folder = tmp_path_factory.mktemp("photos")
    y, x = np.mgrid[:40, :48] / 40
    for i in range(10):
        picture = np.stack([np.sin(i + 3 * y), np.cos(i * x), x * y], axis=2)
        Image.fromarray((127 + 120 * picture).astype(np.uint8)).save(folder / f"{i}.png")
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:100])
    return folder


@pytest.fixture
def prepare(commands, photos):
    def run(*overrides: str, source: str | None = "folder", root: Path | None = photos, accident=None):
        arguments = [f"source={source}"] if source else []
        arguments += [f"source.root={root}"] if root else []
        return commands.run("prepare", [*arguments, "workers=1", *overrides], accident)

    return run


# --- packing ----------------------------------------------------------------------------------------------------------


def test_packs_and_tells_what_it_made(prepare, tmp_path, photos):
    result = prepare(f"out={tmp_path / 'out'}", "max_unreadable=0.2")
    assert result.code == 0, result.err
    packed = PackedDataset(tmp_path / "out")
    assert packed.resolutions == [4, 8, 16, 32]  # the pictures have 40 rows
    assert packed.names == [f"{i}.png" for i in range(10) if i != 7]
    assert f"{tmp_path / 'out'}: 9 images of 32×32" in result.out
    assert "left out: 0 skipped, 1 unreadable; see" in result.out
    assert f"data=packed data.path={tmp_path / 'out'} resolution=32" in result.out
    by_hand = pack(FolderSource(photos), tmp_path / "hand", resolution=32, max_unreadable=0.2)
    assert packed.checksum == by_hand.checksum
    again = prepare(f"out={tmp_path / 'out'}", "max_unreadable=0.2")
    assert again.code == 0, again.err


def test_the_command_that_it_prints_trains_on_the_pack(prepare, commands, tmp_path):
    out = tmp_path / "grey, of another base"
    result = prepare(f"out='{out}'", "max_unreadable=0.2", "channels=1", "base=[6,8]")
    assert result.code == 0, result.err
    command = result.out.split("train on it with: ")[1].splitlines()[0]
    python, program, *options = shlex.split(command)
    assert (python, program) == ("python", "train.py")
    assert options[1:] == [f"data.path='{out}'", "resolution=24", "data.channels=1", "base=[6,8]"]
    small = [option for option in TINY if not option.startswith(("resolution=", "data="))]
    trained = commands.run("train", [*options, *small, f"run_dir={tmp_path / 'run'}", "total_images=16"])
    assert trained.code == 0, trained.err


def test_a_list_filters_the_pack(prepare, tmp_path):
    (tmp_path / "keep.txt").write_text("8.png\n2.png\n")
    result = prepare(f"out={tmp_path / 'out'}", f"source.keep={tmp_path / 'keep.txt'}", "resolution=16", "crop=stretch")
    assert result.code == 0, result.err
    packed = PackedDataset(tmp_path / "out")
    assert (packed.names, packed.source) == (["2.png", "8.png"], "FolderSource")
    assert packed.preparation["crop"] == "stretch"


def test_shards_make_the_pack_of_one_process(prepare, tmp_path, contents_of):
    assert prepare(f"out={tmp_path / 'whole'}", "max_unreadable=0.2").code == 0
    sweep = f"hydra.sweep.dir={tmp_path / 'sweep'}"
    result = prepare(f"out={tmp_path / 'out'}", "max_unreadable=0.2", "-m", "shard=0,1,2", "shards=3", sweep)
    assert result.code == 0, result.err
    assert result.out.count("9 images") == 1
    assert contents_of(tmp_path / "out") == contents_of(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "out", "sweep"}


def test_mistakes_are_one_line(prepare, photos, tmp_path):
    def error(*overrides: str, **options) -> str:
        out = f"out={tmp_path / 'out'}"
        return prepare(out, *overrides, **options).error

    assert "source= is needed: one of folder, celeba" in error(source=None, root=None)
    assert "source.root is needed" in error(root=None)
    assert "no such folder or zip" in error(root=photos / "fotos")
    assert "1 of 10 images cannot be read (7.png" in error()
    assert "what=pak: must be one of pack, rank, verify" in error("what=pak")
    assert "shards=4: say which one" in error("shards=4")
    assert "numbered from 0" in error("shards=2", "shard=2")
    assert "nearest: 16 or 32" in error("resolution=17")
    assert "unknown key 'resolutoin'" in error("resolutoin=16")
    assert "valid here: " in error("source.rot=x")
    assert "workers=0: must be at least 1" in error("workers=0")
    assert "base=(0, 4): must be two positive numbers" in error("base=[0,4]")
    assert "base=(4, 0): must be two positive numbers" in error("base=[4,0]")
    assert "max_unreadable=2.0: is a share" in error("max_unreadable=2")
    assert "zip_from=-1" in error("zip_from=-1")
    assert "keep_count=0: must be at least 1" in error("what=rank", "keep_count=0")
    assert "img_celeba/" in error(source="celeba_hq_recipe")
    assert "not packed" in error("what=verify") or "no such folder" in error("what=verify")
    assert "category is needed" in error(source="lsun")
    assert "expected" in error(source="celeba")  # which shows the layout
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("dear")
    assert "not a packed data set" in error("max_unreadable=0.2")
    assert "not a ranking" in error("what=rank")
    assert (tmp_path / "out" / "diary.txt").read_text() == "dear"


def test_help_lists_sources_with_their_keys(prepare):
    result = prepare("--help", source=None, root=None)
    assert result.code == 0
    assert "source.variant=aligned" in result.out
    assert "or in_the_wild" in result.out
    assert "max_unreadable=0.01" in result.out


def test_killed_and_run_again_it_ends_with_the_same_bytes(commands, photos, tmp_path, contents_of):
    arguments = ["source=folder", f"source.root={photos}", "resolution=512", "zip_from=64", "max_unreadable=0.2"]
    assert commands.run("prepare", [*arguments, "workers=1", f"out={tmp_path / 'whole'}"]).code == 0
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        for _ in range(2):
            running = commands.start("prepare", [*arguments, f"out={out}", f"workers={workers}"])
            partial = tmp_path / f"out{workers}.partial" / "pixels_0512.zip"
            while running.process.exitcode is None and not (partial.exists() and partial.stat().st_size > 20_000):
                time.sleep(0.005)
            os.kill(running.process.pid, signal.SIGKILL)
            running.process.join()
        assert commands.run("prepare", [*arguments, f"out={out}", "workers=1"]).code == 0
        assert contents_of(out) == contents_of(tmp_path / "whole")


# --- verifying --------------------------------------------------------------------------------------------------------


def test_verify_tells_whole_from_damaged(prepare, commands, photos, tmp_path):
    assert prepare(f"out={tmp_path / 'out'}", "max_unreadable=0.2", "zip_from=16").code == 0
    result = commands.run("prepare", ["what=verify", f"out={tmp_path / 'out'}"])
    assert (result.code, result.err) == (0, "")
    assert "whole (9 images" in result.out
    for name in ("pixels_0008.npy", "pixels_0016.zip"):
        path = tmp_path / "out" / name
        content = bytearray(path.read_bytes())
        content[-700] ^= 1
        path.write_bytes(content)
    result = commands.run("prepare", ["what=verify", f"out={tmp_path / 'out'}"])
    assert "damaged since it was packed: pixels_0008.npy, pixels_0016.zip" in result.error


# --- ranking ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def portraits(tmp_path_factory) -> Path:
    """Three drawn portraits, one of them blurred as well, one scaled down a little."""
    folder = tmp_path_factory.mktemp("portraits")
    for i in range(3):
        image = Image.fromarray(draw_portrait(sample_attributes(5, i), 160)[0])
        image.save(folder / f"{i}.png")
    image.save(folder / "copy.jpg", quality=30)
    Image.open(folder / "0.png").reduce(5).resize((160, 160)).save(folder / "blurred.png")
    (folder / "broken.png").write_text("x")
    return folder


def test_rank_makes_a_table_that_filters(prepare, portraits, tmp_path):
    result = prepare(f"out={tmp_path / 'rank'}", "what=rank", root=portraits)
    assert result.code == 0, result.err
    with open(tmp_path / "rank" / "scores.csv", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {"0.png", "1.png", "2.png", "copy.jpg", "blurred.png"}
    assert [int(row["rank"]) for row in rows.values()] == [1, 2, 3, 4, 5]
    assert float(rows["0.png"]["quality"]) > float(rows["blurred.png"]["quality"])
    assert rows["copy.jpg"]["near_duplicate_of"] == "2.png"
    assert (rows["copy.jpg"]["keep"], rows["2.png"]["keep"]) == ("0", "1")
    assert float(rows["1.png"]["face_size"]) > 0.2
    assert float(rows["1.png"]["confidence"]) > 0
    assert (tmp_path / "rank" / "unreadable.csv").read_text().startswith("name,reason\nbroken.png,")
    assert f"left out: 0 skipped, 1 unreadable; see {tmp_path / 'rank' / 'unreadable.csv'}\n" in result.out
    for name in ("best", "worst"):
        assert Image.open(tmp_path / "rank" / f"{name}.png").width > 300
    table = tmp_path / "rank" / "scores.csv"
    result = prepare(f"out={tmp_path / 'out'}", f"source.keep={table}", root=portraits)
    assert result.code == 0, result.err
    kept = {name for name, row in rows.items() if row["keep"] == "1"}
    assert set(PackedDataset(tmp_path / "out").names) == kept
    before = table.read_bytes()
    assert prepare(f"out={tmp_path / 'rank'}", "what=rank", root=portraits).code == 0
    assert table.read_bytes() == before
    other = prepare(f"out={tmp_path / 'rank'}", "what=rank", "source.minimum_side=9", root=portraits)
    assert "holds scores of another source" in other.error
    assert table.read_bytes() == before


def test_the_best_are_kept(prepare, portraits, tmp_path):
    result = prepare(f"out={tmp_path / 'out'}", "source.keep_best=4", "max_unreadable=0.2", root=portraits)
    assert result.code == 0, result.err
    names = PackedDataset(tmp_path / "out").names
    assert len(names) == 4
    assert "blurred.png" not in names
    assert "keep_best=0: must be at least 1" in prepare(f"out={tmp_path}", "source.keep_best=0", root=portraits).error


def test_shards_score_and_then_pack_the_best(prepare, portraits, tmp_path, contents_of):
    options = ["source.keep_best=4", "max_unreadable=0.2"]
    assert prepare(f"out={tmp_path / 'whole'}", *options, root=portraits).code == 0
    out = tmp_path / "out"
    sweep = ["shard=0,1", "shards=2", f"hydra.sweep.dir={tmp_path / 'sweep'}", "-m"]
    for _ in range(2):  # scores, then packs
        assert not out.exists()
        result = prepare(f"out={out}", *options, *sweep, root=portraits)
        assert result.code == 0, result.err
    whole = contents_of(tmp_path / "whole")
    packed = contents_of(out)
    assert {name: packed[name] for name in packed if "/" not in name} == {
        name: whole[name] for name in whole if "/" not in name
    }
    assert not list(tmp_path.glob("out.*"))
    again = prepare(f"out={tmp_path / 'whole'}", *options, root=portraits)
    assert again.code == 0, again.err
    assert contents_of(tmp_path / "whole") == whole


def test_faces_of_photos_are_aligned(prepare, portraits, tmp_path):
    options = ["source.size=64", "source.supersample=128", "max_unreadable=0.2"]
    result = prepare(f"out={tmp_path / 'out'}", *options, source="in_the_wild", root=portraits)
    assert result.code == 0, result.err
    packed = PackedDataset(tmp_path / "out")
    assert (packed.resolutions[-1], packed.source) == (64, "AlignedFaces")
    assert packed.landmarks is not None
    assert "CelebA-HQ-like" in result.out
