import csv
import errno
import json
import multiprocessing
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imago.data import PackedDataset, pack, pack_writer
from imago.data.packing import cached_pack, default_cache
from imago.data.pyramid import pyramid
from imago.data.sources.folder import FolderSource
from imago.data.sources.source import Item, UnreadableImageError
from imago.errors import UserError


def expected_levels(items: list[Any], levels: int) -> list[np.ndarray]:
    return [level.transpose(0, 3, 1, 2) for level in pyramid(np.stack([i.image for i in items if i]), levels)]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("zip_from", [4, 16, 256])
def test_what_is_packed_is_what_is_read(memory_source, tmp_path: Path, channels: int, zip_from: int):
    source = memory_source(70, channels=channels)
    packed = pack(source, tmp_path / "out", resolution=16, channels=channels, zip_from=zip_from)
    assert (len(packed), packed.resolutions, packed.base, packed.channels) == (70, [4, 8, 16], (4, 4), channels)
    order = np.random.default_rng(0).integers(0, 70, 200)
    for resolution, level in zip(packed.resolutions, expected_levels(source.items, 3), strict=True):
        batch = packed.images(order, resolution)
        assert batch.transpose(0, 2, 3, 1).flags.c_contiguous
        assert batch.flags.writeable
        np.testing.assert_array_equal(batch, level[order])
    packed.verify()
    assert not list(tmp_path.glob("*.partial"))
    assert not list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_mirrored_images_and_memory_to_write_to(memory_source, tmp_path: Path, channels: int):
    packed = pack(memory_source(9, channels=channels), tmp_path / "out", resolution=16, channels=channels, zip_from=16)
    order = np.array([8, 0, 0, 3])
    mirrored = np.array([True, False, True, True])
    for resolution in (8, 16):  # an array, and PNGs
        plain = packed.images(order, resolution)
        expected = np.where(mirrored[:, None, None, None], plain[..., ::-1], plain)
        out = np.empty((4, resolution, resolution, channels), dtype=np.uint8)
        images = packed.images(order, resolution, mirrored, out)
        assert np.shares_memory(images, out)
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(packed.images(order, resolution, np.zeros(4, dtype=bool)), plain)


def test_not_square(memory_source, tmp_path: Path):
    source = memory_source(5, height=32, width=24)
    packed = pack(source, tmp_path / "out", resolution=32, base=(4, 3), zip_from=16)
    assert packed.resolutions == [4, 8, 16, 32]
    assert packed.extent(16) == (16, 12)
    for resolution, level in zip(packed.resolutions, expected_levels(source.items, 4), strict=True):
        np.testing.assert_array_equal(packed.images(np.arange(5), resolution), level)


def test_files_open_in_other_tools(memory_source, tmp_path: Path):
    source = memory_source(1003)
    pack(source, tmp_path / "out", resolution=16, zip_from=16)
    array = np.load(tmp_path / "out" / "pixels_0008.npy")
    assert (array.shape, array.dtype) == ((1003, 8, 8, 3), np.uint8)
    with zipfile.ZipFile(tmp_path / "out" / "pixels_0016.zip") as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.namelist()[1002] == "00001/img00001002.png"
        with archive.open("00001/img00001002.png") as file:
            np.testing.assert_array_equal(np.asarray(Image.open(file)), source.items[1002].image)
    description = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert description["count"] == 1003
    assert set(description["checksums"]) == {"names.jsonl", "pixels_0004.npy", "pixels_0008.npy", "pixels_0016.zip"}


def test_labels_and_landmarks(memory_source, tmp_path: Path):
    source = memory_source(8, height=32, width=32)
    labels = [None, {"id": "p10", "smile": "1"}, {"id": "p9"}, {"id": "", "smile": "-1"}, {"hat": "no", "id": "p10"}]
    for item, row in zip(source.items, labels, strict=False):
        item.labels = row
    source.items[5].landmarks = np.full((68, 2), 15.5)
    packed = pack(source, tmp_path / "out", resolution=16)
    assert [(c.name, c.values) for c in packed.label_columns] == [
        ("id", ("p9", "p10")),
        ("smile", ("-1", "1")),
        ("hat", ("no",)),
    ]
    assert packed.labels is not None
    assert packed.labels.dtype == np.int16
    expected = [[-1, -1, -1], [1, 1, -1], [0, -1, -1], [-1, 0, -1], [1, -1, 0]] + [[-1, -1, -1]] * 3
    np.testing.assert_array_equal(packed.labels, expected)
    assert packed.landmarks is not None
    assert packed.landmarks.shape == (8, 68, 2)
    np.testing.assert_array_equal(np.isfinite(packed.landmarks).all((1, 2)), np.arange(8) == 5)
    np.testing.assert_allclose(packed.landmarks[5], 7.5)  # the centre of 32 × 32 is the centre of 16 × 16
    assert pack(memory_source(3), tmp_path / "bare", resolution=16).labels is None


def test_unreadable_items(memory_source, tmp_path: Path):
    source = memory_source(40)
    for index in (0, 7, 39):
        source.items[index] = None
    with pytest.raises(UserError) as caught:
        pack(source, tmp_path / "out", resolution=16)
    message = str(caught.value)
    assert "3 of 40" in message
    assert "0.png: broken; 7.png: broken; 39.png: broken" in message
    assert "max_unreadable=0.076" in message
    assert str(tmp_path / "out.partial" / "unreadable.csv") in message
    assert not (tmp_path / "out").exists()

    source.reads.clear()
    packed = pack(source, tmp_path / "out", resolution=16, max_unreadable=0.076)
    assert source.reads == []  # what was done before the refusal is used
    assert (len(packed), packed.unreadable) == (37, 3)
    with open(tmp_path / "out" / "unreadable.csv", newline="") as file:
        assert list(csv.reader(file)) == [["name", "reason"], *([f"{i}.png", "broken"] for i in (0, 7, 39))]
    np.testing.assert_array_equal(packed.images(np.arange(37), 16), expected_levels(source.items, 3)[2])

    with pytest.raises(UserError, match="no images"):
        pack(memory_source(0, items=[]), tmp_path / "none", resolution=16)
    with pytest.raises(UserError, match="none of 2"):
        pack(memory_source(items=[None, None]), tmp_path / "none", resolution=16, max_unreadable=1)


def test_enlarged_images_are_counted_and_reported(memory_source, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    items = memory_source(3).items + memory_source(2, height=64, width=15).items
    packed = pack(memory_source(items=items), tmp_path / "out", resolution=16)
    assert packed.upsampled == 2
    assert "2 of 5 images are smaller than 16 pixels" in caplog.text


def test_workers_and_order_do_not_show(photo_folder: Path, tmp_path: Path, contents):
    (photo_folder / "5.png").write_text("no image")
    source = FolderSource(photo_folder)
    options: Any = {"resolution": 1024, "zip_from": 512, "max_unreadable": 0.1}  # so large that runs are single items
    seen: list[tuple[int, int]] = []
    one = pack(source, tmp_path / "one", **options)
    two = pack(source, tmp_path / "two", **options, workers=2, progress=lambda *done: seen.append(done))
    assert contents(one.path) == contents(two.path)
    assert seen == [(i + 1, 12) for i in range(12)]


def test_existing_packs(memory_source, tmp_path: Path):
    source = memory_source(5)
    first = pack(source, tmp_path / "out", resolution=16)
    source.reads.clear()
    again = pack(source, tmp_path / "out", resolution=16, workers=3, max_unreadable=0.5)
    assert source.reads == []
    assert again.checksum == first.checksum
    with pytest.raises(UserError, match="made with resolution=16; choose another"):
        pack(source, tmp_path / "out", resolution=8)
    source.version = "2"
    with pytest.raises(UserError, match="another source"):
        pack(source, tmp_path / "out", resolution=16)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="not a packed data set"):
        pack(source, tmp_path / "mine", resolution=16)
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="not an interrupted pack"):
        pack(source, tmp_path / "new", resolution=16)
    assert (tmp_path / "new.partial" / "letter.txt").exists()


def test_invalid_parameters(memory_source, tmp_path: Path):
    bad: list[tuple[dict[str, Any], str]] = [
        ({"resolution": 17}, "nearest: 16 or 32"),
        ({"resolution": 16, "channels": 2}, "channels=2"),
        ({"resolution": 16, "crop": "top"}, "center, stretch"),
        ({"resolution": 16, "workers": 0}, "worker"),
        ({"resolution": 16, "max_unreadable": 2}, "share"),
    ]
    for options, message in bad:
        with pytest.raises(UserError, match=message):
            pack(memory_source(2), tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


class InterruptedPackError(Exception):
    pass


def stop_after(items: int):
    def progress(done: int, total: int) -> None:
        if done >= items:
            raise InterruptedPackError

    return progress


@pytest.fixture
def eager_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_writer, "COMMIT_SECONDS", 0.0)


@pytest.mark.usefixtures("eager_commits")
def test_interrupted_packs_continue(memory_source, tmp_path: Path, contents):
    def source():
        made = memory_source(200)
        made.items[3] = made.items[150] = None
        for item in made.items[100:]:
            if item:
                item.labels, item.landmarks = {"a": item.name[0]}, np.ones((68, 2))
        return made

    options: Any = {"resolution": 16, "zip_from": 8, "max_unreadable": 0.5}
    whole = pack(source(), tmp_path / "whole", **options)
    for stop in (64, 100, 192):
        interrupted = source()
        with pytest.raises(InterruptedPackError):
            pack(interrupted, tmp_path / "out", **options, progress=stop_after(stop))
        assert not (tmp_path / "out").exists()
        with pytest.raises(UserError, match=r"no dataset\.json"):
            PackedDataset(tmp_path / "out.partial")
    # A kill may leave more than the journal vouches for, and a torn last line.
    for name in ("pixels_0004.npy", "pixels_0016.zip", "landmarks.npy", "journal.jsonl"):
        with open(tmp_path / "out.partial" / name, "ab") as file:
            file.write(b'{"torn')
    last = source()
    resumed = pack(last, tmp_path / "out", **options)
    assert last.reads == list(range(192, 200))
    assert contents(resumed.path) == contents(whole.path)


@pytest.mark.usefixtures("eager_commits")
def test_other_parameters_and_damage_start_over(memory_source, tmp_path: Path, contents):
    whole = pack(memory_source(100), tmp_path / "whole", resolution=16)
    with pytest.raises(InterruptedPackError):
        pack(memory_source(100), tmp_path / "out", resolution=8, progress=stop_after(64))
    with pytest.raises(InterruptedPackError):
        pack(memory_source(100), tmp_path / "out", resolution=16, progress=stop_after(64))
    os.truncate(tmp_path / "out.partial" / "pixels_0008.npy", 1000)
    source = memory_source(100)
    assert contents(pack(source, tmp_path / "out", resolution=16).path) == contents(whole.path)
    assert source.reads == list(range(100))


@pytest.mark.parametrize("function", ["unlink", "replace"])
def test_death_at_the_last_step(memory_source, tmp_path: Path, contents, monkeypatch, function: str):
    whole = pack(memory_source(50), tmp_path / "whole", resolution=16, zip_from=8)
    with monkeypatch.context() as patch:

        def die(*args: Any, **kwargs: Any) -> None:
            raise InterruptedPackError

        if function == "unlink":
            patch.setattr(Path, "unlink", die)  # of the journal; dataset.json is there
        else:
            patch.setattr("imago.data.packing.os.replace", die)
        with pytest.raises(InterruptedPackError):
            pack(memory_source(50), tmp_path / "out", resolution=16, zip_from=8)
    assert not (tmp_path / "out").exists()
    assert contents(pack(memory_source(50), tmp_path / "out", resolution=16, zip_from=8).path) == contents(whole.path)


@pytest.mark.usefixtures("eager_commits")
def test_full_disk(memory_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pack_writer.os, "fsync", full)
    with pytest.raises(UserError, match=r"disk is full .*what was done is kept") as caught:
        pack(memory_source(200), tmp_path / "out", resolution=16)
    assert isinstance(caught.value.__cause__, OSError)
    monkeypatch.undo()
    source = memory_source(200)
    assert len(pack(source, tmp_path / "out", resolution=16)) == 200
    assert 0 < len(source.reads) < 200


def _pack_in_process(folder: Path, out: Path) -> None:
    pack(FolderSource(folder), out, resolution=256)


def test_two_processes_make_one_pack(photo_folder: Path, tmp_path: Path, contents):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_pack_in_process, args=(photo_folder, tmp_path / "out")) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    alone = pack(FolderSource(photo_folder), tmp_path / "alone", resolution=256)
    assert contents(tmp_path / "out") == contents(alone.path)
    assert not list(tmp_path.glob("out.*"))


def test_cache(memory_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IMAGO_CACHE", str(tmp_path / "cache"))
    assert default_cache() == tmp_path / "cache"
    source = memory_source(4)
    source.name = "my photos/2024"
    packed = cached_pack(source, resolution=16)
    assert packed.path.parent == tmp_path / "cache"
    assert packed.path.name.startswith("my_photos_2024-16-")
    assert cached_pack(source, tmp_path / "cache", resolution=16, workers=1).path == packed.path
    assert cached_pack(source, resolution=16, zip_from=8).path != packed.path
    assert cached_pack(source, resolution=8).path != packed.path
    monkeypatch.delenv("IMAGO_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "imago"


@pytest.mark.skipif("IMAGO_TEST_DATA" not in os.environ, reason="set IMAGO_TEST_DATA to a folder with faces128.zip")
def test_real_faces(tmp_path: Path):
    source = FolderSource(Path(os.environ["IMAGO_TEST_DATA"]) / "faces128.zip")
    source.names = source.names[:200]
    packed = pack(source, tmp_path / "faces", resolution=64)
    assert (len(packed), packed.unreadable, packed.upsampled) == (200, 0, 0)
    assert packed.images(np.arange(200), 64).std() > 30


def test_an_error_without_name_is_listed_by_the_items_name(memory_source, tmp_path: Path):
    source = memory_source(3)
    original = source.read

    def read(index: int) -> Item:
        if index == 1:
            raise UnreadableImageError("gone")
        return original(index)

    source.read = read
    pack(source, tmp_path / "out", resolution=16, max_unreadable=0.5)
    assert "1.png,gone" in (tmp_path / "out" / "unreadable.csv").read_text()
