from pathlib import Path

import pytest
from test_pack_contents import Photos

from imago.data.sources.source import SkippedImageError
from imago.data.sources.subset import Subset, keep_listed, keep_names
from imago.errors import UserError


def test_lists_of_names(memory_source, tmp_path: Path):
    source = memory_source(12)
    (tmp_path / "keep.txt").write_text("3.png\n11.png\n\n2.png\n")
    kept = keep_listed(source, tmp_path / "keep.txt")
    assert [kept.item_name(i) for i in range(len(kept))] == ["2.png", "3.png", "11.png"]
    assert kept.read(2).name == "11.png"
    (tmp_path / "keep.csv").write_text("score,name,keep\n1,3.png,1\n2,4.png,\n3,5.png,no\n4,6.png,yes\n")
    assert keep_listed(source, tmp_path / "keep.csv").entries == [3, 6]
    (tmp_path / "plain.csv").write_text("name,score\n7.png,1\n")
    assert keep_listed(source, tmp_path / "plain.csv").entries == [7]


def test_what_is_kept_is_part_of_the_fingerprint(memory_source):
    source = memory_source(12)
    prints = {keep_names(source, names, "list").fingerprint() for names in (["1.png"], ["1.png", "2.png"], ["2.png"])}
    prints |= {
        source.fingerprint(),
        Subset(source, range(0, 6)).fingerprint(),
        Subset(source, range(6, 12)).fingerprint(),
    }
    assert len(prints) == 6
    assert keep_names(source, ["1.png"], "a").fingerprint() == keep_names(source, ["1.png"], "b").fingerprint()


def test_items_of_entries():
    photos = Photos()
    names = [photos.item_name(index) for index in range(7)]
    kept = keep_names(photos, [names[1], f"{names[2]}#1", f"{names[5]}#9"], "list")
    assert kept.entries == [1, 2, 5]
    assert [item.name for item in kept.read_all(0)] == [f"{names[1]}#0"]
    assert [item.name for item in kept.read_all(1)] == [f"{names[2]}#1"]
    with pytest.raises(SkippedImageError):
        kept.read_all(2)


def test_mistakes(memory_source, tmp_path: Path):
    source = memory_source(3)

    def message(text: str, name: str = "keep.txt") -> str:
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(UserError) as caught:
            keep_listed(source, tmp_path / name)
        return str(caught.value)

    assert "2 of 3 names are not in memory: 8.png, 9.png" in message("1.png\n9.png\n8.png\n")
    assert "memory: \\udcff\\x1b[2J, …" in message("\udcff\x1b[2J\n")
    assert f"memory: {'a' * 79}…, …" in message("a" * 5000)
    assert "names nothing to keep" in message("\n")
    for name in ("keep.png", "keep.csv"):
        assert f"{name}: not a text file in UTF-8" in message("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", name)
    assert 'needs a column "name"' in message("file\n1.png\n", "keep.csv")
    with pytest.raises(UserError, match="No such file"):
        keep_listed(source, tmp_path / "none.txt")
