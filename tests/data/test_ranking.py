import csv
import json
from pathlib import Path

import numpy as np
import pytest

from imago.data.ranking import Scores, keep_best, rank, score
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


def test_scores_are_of_all_images_in_order(tmp_path: Path):
    scores = score(Waves(), tmp_path / "scores.jsonl")
    assert scores.names[:6] == ["wave,0", "wave,1", "wave,2", "wave,4#0", "wave,4#1", "wave,6"]
    assert scores.left_out == [("wave,3", "broken"), ("wave,5", "no face found")]
    assert (scores.entries, len(scores.names), len(scores.hashes)) == (20, 19, 19)
    assert all(len(values) == 19 for values in scores.columns.values())
    assert np.isnan(scores.columns["confidence"]).all()
    two = score(Waves(), tmp_path / "two.jsonl", workers=2)
    assert (two.names, two.hashes) == (scores.names, scores.hashes)
    for column, values in two.columns.items():
        np.testing.assert_array_equal(values, scores.columns[column])


def test_scoring_goes_on_where_it_stopped(tmp_path: Path):
    whole = tmp_path / "whole.jsonl"
    score(Waves(), whole)

    def stop(done: int, total: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    journal = tmp_path / "scores.jsonl"
    with pytest.raises(KeyboardInterrupt):
        score(Waves(), journal, progress=stop)
    with open(journal, "ab") as file:
        file.write(b'{"torn')
    source = Waves()
    score(source, journal)
    assert min(source.reads) == 8
    assert journal.read_bytes() == whole.read_bytes()
    source.reads.clear()
    score(source, journal)
    assert source.reads == []
    assert len(score(Waves(12), journal).names) == 11  # another source: begun anew


def test_best_first_is_by_quality_then_by_order():
    scores = Scores()
    rows = [("a", 0.5), ("b", 0.7), ("c", 0.5), ("d", 0.9)]
    items = [[name, {"quality": quality, "perceptual_hash": "0"}] for name, quality in rows]
    scores.extend({"entries": 4, "items": items, "left_out": []})
    assert scores.best_first().tolist() == [3, 1, 0, 2]


def test_keep_best(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    source = Waves()
    scores = score(source, tmp_path / "s.jsonl")
    quality = dict(zip(scores.names, scores.columns["quality"], strict=True))
    kept = keep_best(source, 7, tmp_path)
    names = [item.name for index in range(len(kept)) for item in kept.read_all(index)]
    assert sorted(names) == sorted(sorted(quality, key=lambda name: -quality[name])[:7])
    assert names == [name for name in scores.names if name in names]  # in the order of the source
    assert len(keep_best(source, 100, tmp_path)) == 18
    assert "only 19 images can be used" in caplog.text
    with pytest.raises(UserError, match="keep_best=0"):
        keep_best(source, 0, tmp_path)


def test_table_marks_what_to_keep(tmp_path: Path):
    table = rank(Waves(), tmp_path / "out", count=5)
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
        rank(memory_source(2), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "scores.jsonl").read_text().splitlines()[0])["faces"] is False
