from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_pack_contents import Photos

from imago.data import pack, pack_writer
from imago.data.sharding import pack_shard
from imago.errors import UserError

PARAMETERS: Any = {"resolution": 16, "zip_from": 8}


@pytest.fixture
def source(memory_source):
    made = memory_source(101)
    made.items[0] = made.items[30] = made.items[100] = None
    for i, item in enumerate(made.items[40:80]):  # so shards differ in the columns that they know
        if item:
            item.labels, item.landmarks = {"b": str(i % 5), "a": "x"}, np.full((68, 2), 3.5)
    made.items[10].labels = {"a": "", "c": "z"}
    return made


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_shards_join_into_the_bytes_of_one_process(source, tmp_path: Path, contents, shards: int):
    whole = pack(source, tmp_path / "whole", max_unreadable=0.1, **PARAMETERS)
    order = np.random.default_rng(0).permutation(shards).tolist()
    for i, shard in enumerate(order):
        packed = pack_shard(source, tmp_path / "out", shard, shards, max_unreadable=0.1, **PARAMETERS)
        assert (packed is None) == (i < shards - 1)
    assert contents(tmp_path / "out") == contents(whole.path)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "out"}
    source.reads.clear()
    again = pack_shard(source, tmp_path / "out", 0, shards, max_unreadable=0.1, **PARAMETERS)
    assert again is not None
    assert source.reads == []


def test_a_join_that_was_interrupted_goes_on(source, tmp_path: Path, contents, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pack_writer, "COMMIT_SECONDS", 0.0)
    whole = pack(source, tmp_path / "whole", max_unreadable=0.1, **PARAMETERS)
    monkeypatch.setattr("imago.data.sharding.RUN_BYTES", 3000)  # a few images a step
    for shard in (0, 1):
        pack_shard(source, tmp_path / "out", shard, 3, max_unreadable=0.1, **PARAMETERS)
    for stop in (20, 70):  # in the second, then in the third shard's images

        def progress(done: int, total: int, stop: int = stop) -> None:
            if total > 40 and done >= stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pack_shard(source, tmp_path / "out", 2, 3, max_unreadable=0.1, progress=progress, **PARAMETERS)
        assert not (tmp_path / "out").exists()
    positions: list[int] = []
    pack_shard(
        source, tmp_path / "out", 1, 3, max_unreadable=0.1, progress=lambda d, t: positions.append(d), **PARAMETERS
    )
    assert positions[0] > 70
    assert contents(tmp_path / "out") == contents(whole.path)


def test_mistakes(source, tmp_path: Path):
    with pytest.raises(UserError, match="numbered from 0"):
        pack_shard(source, tmp_path / "out", 2, 2, **PARAMETERS)
    with pytest.raises(UserError, match="only 101 entries"):
        pack_shard(source, tmp_path / "out", 0, 102, **PARAMETERS)
    pack_shard(source, tmp_path / "out", 0, 2, resolution=8)
    source.reads.clear()
    for shard in (0, 1):
        with pytest.raises(UserError, match="00000-of-00002: already holds a pack made with resolution=8"):
            pack_shard(source, tmp_path / "out", shard, 2, **PARAMETERS)
    assert source.reads == []  # told before the work
    pack_shard(source, tmp_path / "few", 0, 2, **PARAMETERS)
    with pytest.raises(UserError, match="3 of 101 images cannot be read"):
        pack_shard(source, tmp_path / "few", 1, 2, **PARAMETERS)


def test_a_shard_may_be_without_images(memory_source, tmp_path: Path, contents):
    source = memory_source(6)
    source.items[:3] = [None] * 3
    whole = pack(source, tmp_path / "whole", max_unreadable=0.5, **PARAMETERS)
    for shard in (0, 1):
        pack_shard(source, tmp_path / "out", shard, 2, max_unreadable=0.5, **PARAMETERS)
    assert contents(tmp_path / "out") == contents(whole.path)


def test_names_that_hold_anything(tmp_path: Path, contents):
    """Photos has names with line breaks and bytes that are no UTF-8, entries of several items and skipped ones."""
    whole = pack(Photos(), tmp_path / "whole", resolution=16)
    for shard in (1, 0):
        pack_shard(Photos(), tmp_path / "out", shard, 2, resolution=16)
    assert contents(tmp_path / "out") == contents(whole.path)
