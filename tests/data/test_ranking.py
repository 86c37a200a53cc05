import csv
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data.ranking import rank
from imago.data.scoring import Scores, keep_best, score
from imago.data.sources.source import Item, SkippedImageError, UnreadableImageError
from imago.errors import UserError


class Waves:
    """Pictures of 64² that are the sharper the higher their number; entry 3 is broken, entry 4 holds two."""

    name = "waves"

    def __init__(self, count: int = 20) -> None:
        self.count = count
        self.reads: list[int] = []

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        return f"waves {self.count}"

    def item_name(self, index: int) -> str:
        return f"wave,{index}"

    def read(self, index: int) -> Item:
        return self.read_all(index)[0]

    def read_all(self, index: int) -> list[Item]:
        self.reads.append(index)
        if index == 3:
            raise UnreadableImageError("broken", self.item_name(index))
        if index == 5:
            raise SkippedImageError("no face found", self.item_name(index))
        rng = np.random.default_rng(index)
        frequencies = np.fft.rfftfreq(64)[None] ** 2 + np.fft.fftfreq(64)[:, None] ** 2
        spectrum = rng.normal(size=(64, 33)) * np.exp(-frequencies * 64**2 / (4 + 4 * index) ** 2)
        picture = np.fft.irfft2(spectrum, (64, 64))
        picture = (127 + 40 * picture / picture.std()).clip(0, 255).astype(np.uint8)
        image = picture[:, :, None].repeat(3, 2)
        if index == 4:
            return [Item(image, "wave,4#0"), Item(255 - image, "wave,4#1")]
        return [Item(image, self.item_name(index))]


def scores_of(source: Waves, folder: Path, **options: Any) -> Scores:
    scores = score(source, folder, **options)
    assert scores is not None
    return scores


def test_scores_are_of_all_images_in_order(tmp_path: Path):
    scores = scores_of(Waves(), tmp_path / "one")
    assert scores.names[:6] == ["wave,0", "wave,1", "wave,2", "wave,4#0", "wave,4#1", "wave,6"]
    assert scores.left_out == [("wave,3", "broken"), ("wave,5", "no face found")]
    assert scores.skipped == 1
    assert (scores.entries, len(scores.names), len(scores.hashes)) == (20, 19, 19)
    assert all(len(values) == 19 for values in scores.columns.values())
    assert np.isnan(scores.columns["confidence"]).all()
    two = scores_of(Waves(), tmp_path / "two", workers=2)
    assert (two.names, two.hashes) == (scores.names, scores.hashes)
    for column, values in two.columns.items():
        np.testing.assert_array_equal(values, scores.columns[column])


def test_shards_score_what_one_process_scores(tmp_path: Path):
    whole = scores_of(Waves(), tmp_path / "whole")
    for shard in (2, 0):
        assert score(Waves(), tmp_path / "out", shard=shard, shards=3) is None
    joined = scores_of(Waves(), tmp_path / "out", shard=1, shards=3)
    assert (joined.names, joined.hashes, joined.left_out) == (whole.names, whole.hashes, whole.left_out)
    np.testing.assert_array_equal(joined.best_first(), whole.best_first())
    source = Waves()
    scores_of(source, tmp_path / "out", shard=0, shards=3)
    assert source.reads == []
    for shard, shards, message in ((3, 3, "numbered from 0"), (0, 21, "only 20 entries")):
        with pytest.raises(UserError, match=message):
            score(Waves(), tmp_path / "out", shard=shard, shards=shards)


def test_scoring_goes_on_where_it_stopped(tmp_path: Path):
    scores_of(Waves(), tmp_path / "whole")

    def stop(done: int, total: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(Waves(), tmp_path / "out", progress=stop)
    journal = tmp_path / "out" / "00000-of-00001.jsonl"
    with open(journal, "ab") as file:
        file.write(b'{"torn')
    source = Waves()
    scores_of(source, tmp_path / "out")
    assert min(source.reads) == 8
    assert journal.read_bytes() == (tmp_path / "whole" / journal.name).read_bytes()
    source.reads.clear()
    scores_of(source, tmp_path / "out")
    assert source.reads == []
    with pytest.raises(UserError, match="holds scores of another source"):
        score(Waves(12), tmp_path / "out")


def test_a_full_disk_is_told_and_costs_nothing(tmp_path: Path):
    scores_of(Waves(), tmp_path / "whole")

    def full(done: int, total: int) -> None:
        if done >= 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match=r"jsonl: cannot be written \(No space left on device\); what was done is kept"):
        score(Waves(), tmp_path / "out", progress=full)
    scores_of(Waves(), tmp_path / "out")
    name = "00000-of-00001.jsonl"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_best_first_is_by_quality_then_by_order():
    scores = Scores()
    rows = [("a", 0.5), ("b", 0.7), ("c", 0.5), ("d", 0.9)]
    items = [[name, {"quality": quality, "perceptual_hash": "0"}] for name, quality in rows]
    scores.extend({"entries": 4, "items": items, "left_out": []})
    assert scores.best_first().tolist() == [3, 1, 0, 2]


def test_keep_best(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    source = Waves()
    scores = scores_of(source, tmp_path)
    quality = dict(zip(scores.names, scores.columns["quality"], strict=True))
    kept = keep_best(source, 7, scores, "scores")
    names = [item.name for index in range(len(kept)) for item in kept.read_all(index)]
    assert sorted(names) == sorted(sorted(quality, key=lambda name: -quality[name])[:7])
    assert names == [name for name in scores.names if name in names]  # in the order of the source
    assert len(keep_best(source, 100, scores, "scores")) == 18
    assert "only 19 images can be used" in caplog.text
    with pytest.raises(UserError, match="keep_best=0"):
        keep_best(source, 0, scores, "scores")


def test_table_marks_what_to_keep(tmp_path: Path):
    table = rank(Waves(), scores_of(Waves(), tmp_path), tmp_path, count=5)
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    qualities = [float(row["quality"]) for row in rows]
    assert qualities == sorted(qualities, reverse=True)
    assert sum(int(row["keep"]) for row in rows) == 5
    better = {row["name"]: i for i, row in enumerate(rows)}
    for i, row in enumerate(rows):
        if row["near_duplicate_of"]:
            assert row["keep"] == "0"
            assert better[row["near_duplicate_of"]] < i


def test_small_images_are_left_out_of_the_ranking(memory_source, tmp_path: Path):
    with pytest.raises(UserError, match="too small to judge"):
        score(memory_source(2), tmp_path)
