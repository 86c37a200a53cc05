import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imago.data.sources.file_tree import natural_key
from imago.data.sources.folder import FolderSource
from imago.data.sources.source import UnreadableImageError
from imago.errors import UserError


def zip_of(folder: Path, to: Path) -> Path:
    with zipfile.ZipFile(to, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return to


def test_natural_order():
    names = ["b/1.png", "img10.png", "img2.png", "IMG1.png", "img02.png", "a10/2.png", "a2/10.png", "a2/9.png"]
    expected = ["a2/9.png", "a2/10.png", "a10/2.png", "b/1.png", "IMG1.png", "img02.png", "img2.png", "img10.png"]
    assert sorted(names, key=natural_key) == expected
    huge = "9" * 5000
    assert sorted([f"{huge}1.png", f"{huge}.png"], key=natural_key) == [f"{huge}.png", f"{huge}1.png"]


def test_folder_and_zip_give_the_same(photo_folder: Path, tmp_path: Path):
    folder, archive = FolderSource(photo_folder), FolderSource(zip_of(photo_folder, tmp_path / "archive.zip"))
    assert folder.names == archive.names == [f"{i}.png" for i in range(1, 13)]
    assert (folder.name, archive.name) == ("photos", "archive")
    for i in range(len(folder)):
        one, other = folder.read(i), archive.read(i)
        assert one.name == other.name
        np.testing.assert_array_equal(one.image, other.image)


def test_what_counts_as_an_image(photo_folder: Path, tmp_path: Path):
    for name in (".hidden.png", ".git/1.png", "__MACOSX/1.png", "sub/deep/UPPER.JPG", "notes.txt", "sub/x.webp"):
        (photo_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (photo_folder / name).write_bytes(b"")
    (photo_folder / "folder.png").mkdir()
    (photo_folder / "sub" / "loop").symlink_to(photo_folder)
    expected = ["sub/deep/UPPER.JPG", "sub/x.webp"]
    assert [n for n in FolderSource(photo_folder).names if "/" in n] == expected
    (photo_folder / "sub" / "loop").unlink()
    assert [n for n in FolderSource(zip_of(photo_folder, tmp_path / "z.zip")).names if "/" in n] == expected


def test_pickled_sources_read_on(photo_folder: Path, tmp_path: Path):
    source = FolderSource(zip_of(photo_folder, tmp_path / "archive.zip"))
    source.read(0)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read(3).image, source.read(3).image)
    error = pickle.loads(pickle.dumps(UnreadableImageError("why", "x.png")))
    assert (error.reason, error.name, str(error)) == ("why", "x.png", "x.png: why")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_readers_do_not_disturb_each_other(photo_folder: Path, tmp_path: Path):
    source = FolderSource(zip_of(photo_folder, tmp_path / "archive.zip"))
    expected = [source.read(i).image.sum() for i in range(12)]
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            same = all(source.read(i).image.sum() == expected[i] for _ in range(20) for i in range(12))
            os._exit(0 if same else 1)
        children.append(child)
    assert all(source.read(i).image.sum() == expected[i] for _ in range(20) for i in range(12))
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]


def test_fingerprint(photo_folder: Path, tmp_path: Path):
    archive = zip_of(photo_folder, tmp_path / "a.zip")
    first = FolderSource(archive).fingerprint()
    moved = archive.rename(tmp_path / "moved.zip")
    assert FolderSource(moved).fingerprint() == first
    assert FolderSource(moved, channels=1).fingerprint() != first
    assert FolderSource(moved, background=(0, 0, 0)).fingerprint() != first

    before = FolderSource(photo_folder).fingerprint()
    assert FolderSource(photo_folder).fingerprint() == before
    Image.new("RGB", (20, 24)).save(photo_folder / "5.png")
    assert FolderSource(photo_folder).fingerprint() != before
    assert FolderSource(zip_of(photo_folder, tmp_path / "b.zip")).fingerprint() != first


def test_errors_say_what_and_how(photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def message(path: str | Path, **options: int) -> str:
        with pytest.raises(UserError) as caught:
            FolderSource(path, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "did you mean" in message(tmp_path / "photo")
    assert str(photo_folder) in message(tmp_path / "fotos")
    assert f"nor a folder {tmp_path / 'no'}" in message(tmp_path / "no" / "photos")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(FolderSource("~/photos")) == 12

    (tmp_path / "empty").mkdir()
    assert "no images in this folder; accepted endings: .jpg" in message(tmp_path / "empty")
    assert "no images in this zip" in message(zip_of(tmp_path / "empty", tmp_path / "empty.zip"))
    (tmp_path / "text.txt").write_text("hello")
    assert "neither a folder nor a zip" in message(tmp_path / "text.txt")
    whole = zip_of(photo_folder, tmp_path / "whole.zip").read_bytes()
    (tmp_path / "broken.zip").write_bytes(whole[: len(whole) // 2])
    assert "broken zip" in message(tmp_path / "broken.zip")
    assert "channels=2" in message(photo_folder, channels=2)


def test_bad_files_are_unreadable_by_name(tmp_path: Path):
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(noise, "JPEG")
    (tmp_path / "1.jpg").write_bytes(noise.getvalue())
    (tmp_path / "2.jpg").write_text("not pixels")
    (tmp_path / "3.jpg").write_bytes(noise.getvalue()[:-500])
    Image.new("RGB", (1, 1)).save(tmp_path / "4.png")
    (tmp_path / "5.jpg").symlink_to(tmp_path / "1.jpg")
    source = FolderSource(tmp_path)
    (tmp_path / "5.jpg").unlink()  # gone since it was listed
    assert source.read(0).image.shape == (64, 64, 3)
    reasons = {}
    for i in range(1, 5):
        with pytest.raises(UnreadableImageError) as caught:
            source.read(i)
        reasons[caught.value.name] = caught.value.reason
    assert reasons["2.jpg"] == "not an image of a known format"
    assert "truncated" in reasons["3.jpg"]
    assert reasons["4.png"] == "1x1 is smaller than 8x8"
    assert "No such file" in reasons["5.jpg"]


def test_damaged_zip_members_are_unreadable(photo_folder: Path, tmp_path: Path):
    path = zip_of(photo_folder, tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    at = content.find(b"IDAT") + 20
    content[at] ^= 0xFF
    path.write_bytes(content)
    source = FolderSource(path)
    with pytest.raises(UnreadableImageError, match="CRC"):
        source.read(0 if source.names[0] == "1.png" else 1)


def test_labels_of_stylegan_tools(photo_folder: Path, tmp_path: Path):
    (photo_folder / "a").mkdir()
    (photo_folder / "12.png").rename(photo_folder / "a" / "12.png")
    pairs = [["3.png", 7], ["a/12.png", 1], ["gone.png", 2], ["4.png", None]]
    (photo_folder / "dataset.json").write_text(json.dumps({"labels": pairs}))
    for source in (FolderSource(photo_folder), FolderSource(zip_of(photo_folder, tmp_path / "a.zip"))):
        labels = {source.read(i).name: source.read(i).labels for i in range(len(source))}
        assert labels["3.png"] == {"label": "7"}
        assert labels["a/12.png"] == {"label": "1"}
        assert labels["4.png"] == {"label": ""}
        assert labels["5.png"] is None
    first = FolderSource(photo_folder).fingerprint()
    (photo_folder / "dataset.json").write_text(json.dumps({"labels": [["3.png", [0.5, 1]]]}))
    source = FolderSource(photo_folder)
    assert source.fingerprint() != first
    assert source.read(source.names.index("3.png")).labels == {"label_0": "0.5", "label_1": "1"}
    (photo_folder / "dataset.json").write_text('{"labels": null}')
    assert FolderSource(photo_folder).read(0).labels is None
    for broken in ('{"labels": [1]}', '{"labels"', '{"labels": [["a.png", "cat"]]}', "[" * 200_000):
        (photo_folder / "dataset.json").write_text(broken)
        with pytest.raises(UserError, match="not StyleGAN labels"):
            FolderSource(photo_folder)


def test_a_name_twice_in_a_zip_counts_once(tmp_path: Path, photo_folder: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(photo_folder / "1.png", "x.png")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.write(photo_folder / "2.png", "x.png")
    source = FolderSource(tmp_path / "a.zip")
    assert source.names == ["x.png"]
    expected = np.asarray(Image.open(photo_folder / "2.png"))
    np.testing.assert_array_equal(source.read(0).image, expected)


def test_paths_that_leave_a_zip_are_refused_by_name(tmp_path: Path, photo_folder: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("../evil.png", "/etc/evil.png", "b\\..\\..\\evil.png", "good.png"):
            archive.writestr(name, (photo_folder / "1.png").read_bytes())
    source = FolderSource(tmp_path / "a.zip")
    for i, name in enumerate(source.names):
        if name == "good.png":
            assert source.read(i).image.shape == (24, 20, 3)
        else:
            with pytest.raises(UnreadableImageError, match="outside the archive"):
                source.read(i)
    assert len(source) == 4
