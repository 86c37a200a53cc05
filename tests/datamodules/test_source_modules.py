"""Data sets packed on first use, through the data modules."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.sources import SourceDataModule
from imago.data import pack
from imago.data.sources.build import build_source
from imago.data.sources.drawn import DrawnPortraits
from imago.data.sources.folder import FolderSource
from imago.errors import UserError

FOLDER = "imago.data.sources.folder.FolderSource"
COMMON = {"resolution": 8, "base": (4, 4), "seed": 0, "pack_workers": 1}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def module(tmp_path: Path, **options) -> SourceDataModule:
    return SourceDataModule(FOLDER, cache=str(tmp_path / "cache"), **{**COMMON, **options})


def test_packs_on_first_use_and_opens_afterwards(photos: Path, tmp_path: Path):
    data = module(tmp_path, root=str(photos), minimum_side=10)
    data.check()
    assert not (tmp_path / "cache").exists()
    data.prepare_data()
    assert data.dataset is not None
    expected = pack(FolderSource(photos, minimum_side=10), tmp_path / "hand", resolution=8)
    assert data.dataset.checksum == expected.checksum
    (made,) = (tmp_path / "cache").glob("photos-8-*")
    before = made.stat().st_mtime_ns
    again = module(tmp_path, path=str(photos), minimum_side=10)
    again.prepare_data()
    assert made.stat().st_mtime_ns == before


def test_a_pack_in_place_of_the_source_is_used_as_it_is(photos: Path, tmp_path: Path):
    packed = pack(FolderSource(photos), tmp_path / "packed", resolution=16)
    data = module(tmp_path, path=str(packed.path))
    data.check()
    data.prepare_data()
    assert data.dataset is not None
    assert data.dataset.path == packed.path
    assert not (tmp_path / "cache").exists()
    with pytest.raises(UserError, match=r"data\.keep .*packed already"):
        module(tmp_path, path=str(packed.path), keep="list.txt").check()


def test_a_list_and_grey_images(photos: Path, tmp_path: Path):
    (tmp_path / "keep.txt").write_text("1.png\n4.png\n")
    data = module(tmp_path, root=str(photos), keep=str(tmp_path / "keep.txt"), channels=1)
    data.prepare_data()
    assert data.dataset is not None
    assert (data.dataset.names, data.dataset.channels) == (["1.png", "4.png"], 1)
    source = build_source(FOLDER, {"root": str(photos)}, channels=1)
    assert source.read(0).image.shape == (16, 16, 1)


def test_what_is_wrong_is_told_before_anything_is_written(photos: Path, tmp_path: Path):
    with pytest.raises(UserError, match="no such folder"):
        module(tmp_path, root=str(photos / "no")).check()
    for options in ({"max_unreadable": 2}, {"pack_workers": 0}, {"prefetch": 0}):
        with pytest.raises(UserError, match=f"data.{next(iter(options))}"):
            module(tmp_path, root=str(photos), **options)
    assert not (tmp_path / "cache").exists()


def test_training_refuses_a_damaged_pack(photos: Path, tmp_path: Path):
    packed = pack(FolderSource(photos), tmp_path / "packed", resolution=16, zip_from=16)
    for name in ("pixels_0004.npy", "pixels_0016.zip"):
        path = packed.path / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    data = module(tmp_path, path=str(packed.path))
    with pytest.raises(UserError, match=r"damaged since it was packed: pixels_0004\.npy;"):
        data.prepare_data()
    assert data.dataset is None
    unchecked = module(tmp_path, path=str(packed.path), verify=False)
    unchecked.prepare_data()
    assert unchecked.dataset is not None
    with pytest.raises(UserError, match="is damaged"):  # PNGs are checked as they are read
        unchecked.dataset.images(np.arange(6), 16)


def test_sources_travel_to_worker_processes(photos: Path):
    source = build_source(FOLDER, {"root": str(photos)})
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read(2).image, source.read(2).image)


def test_synthetic_packs_are_added_to_any_source(photos: Path, tmp_path: Path):
    made, more = (str(pack(DrawnPortraits(6, 16, seed), tmp_path / f"{seed}", resolution=8).path) for seed in (1, 2))
    for given, count in ((made, 12), ([made, more], 18), (None, 6), (False, 6)):
        data = module(tmp_path, root=str(photos), include_synthetic=given)
        data.check()
        data.prepare_data()
        assert data.dataset is not None
        assert data.real is not None
        assert (len(data.dataset), len(data.real)) == (count, 6)
    with pytest.raises(UserError, match="the same images are there twice"):
        module(tmp_path, root=str(photos), include_synthetic=[made, made]).prepare_data()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (True, "FolderSource reads no synthetic images of its own"),
        (7, "include_synthetic=7: give the folder of a pack"),
        ([True], "give the folder of a pack"),
        ("nowhere", "nowhere: no such folder"),
        ([""], "give the folder of a pack"),
    ],
)
def test_synthetic_images_that_are_not_there(photos: Path, tmp_path: Path, given, message):
    with pytest.raises(UserError, match=message):
        module(tmp_path, root=str(photos), include_synthetic=given).check()


def test_a_pack_has_no_synthetic_images_of_its_own(photos: Path, tmp_path: Path):
    packed = pack(FolderSource(photos), tmp_path / "packed", resolution=8)
    with pytest.raises(UserError, match=r"include_synthetic=true does not act on .* packed already"):
        module(tmp_path, path=str(packed.path), include_synthetic=True).check()
