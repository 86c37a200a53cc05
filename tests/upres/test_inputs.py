import os
from pathlib import Path

import pytest

from imago.errors import UserError
from imago.upres.inputs import find_inputs


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def targets(inputs, out):
    return [file.target.relative_to(out).as_posix() for file in inputs.files]


def test_a_folder_in_natural_order_without_what_systems_leave(tmp_path):
    photos = make(
        tmp_path / "photos",
        *("b10.jpg", "b2.PNG", "sub/deep/c.webp", "sub/a.tiff"),
        *("desktop.ini", "Thumbs.db", ".hidden.png", ".cache/x.png", "._b2.png", "notes.txt", "film.mp4", "x.ckpt"),
    )
    inputs = find_inputs(photos, tmp_path / "out")
    assert [file.name for file in inputs.files] == ["b2.PNG", "b10.jpg", "sub/a.tiff", "sub/deep/c.webp"]
    assert targets(inputs, tmp_path / "out") == ["b2.png", "b10.png", "sub/a.png", "sub/deep/c.png"]
    assert all(file.path.samefile(photos / file.name) and not file.is_film for file in inputs.files)


def test_one_file_and_several(tmp_path):
    make(tmp_path, "a.jpg", "b/c.png", "film.MOV", "odd.heic", "d.v2.jpg")
    given = [tmp_path / name for name in ("film.MOV", "b", "a.jpg", "odd.heic", "d.v2.jpg", "a.jpg")]
    inputs = find_inputs(given, tmp_path / "out", ".tif")
    assert targets(inputs, tmp_path / "out") == ["film.mp4", "c.tif", "a.tif", "odd.tif", "d.v2.tif"]
    assert [file.is_film for file in inputs.files] == [True, False, False, False, False]
    assert targets(find_inputs(str(tmp_path / "a.jpg"), tmp_path / "out"), tmp_path / "out") == ["a.png"]
    assert targets(find_inputs(tmp_path / "film.MOV", tmp_path, film_ending=""), tmp_path) == ["film"]


def test_several_folders_keep_their_names(tmp_path):
    make(tmp_path, "ada/1.jpg", "eve/1.jpg", "eve/x/1.jpg")
    inputs = find_inputs([tmp_path / "ada", tmp_path / "eve"], tmp_path / "out")
    assert targets(inputs, tmp_path / "out") == ["ada/1.png", "eve/1.png", "eve/x/1.png"]


def test_no_two_results_have_one_name(tmp_path):
    names = ["a.jpg", "a.png", "A.webp", "a_jpg.tif", "b.jpg", "sub/a.jpg"]
    make(tmp_path / "in", *names)
    inputs = find_inputs(tmp_path / "in", tmp_path / "out")
    found = {file.name: file.target.relative_to(tmp_path / "out").as_posix() for file in inputs.files}
    assert found == {
        "a.jpg": "a_jpg_2.png",  # a_jpg.png is the only name that a_jpg.tif wants
        "a.png": "a_png.png",
        "A.webp": "A_webp.png",
        "a_jpg.tif": "a_jpg.png",
        "b.jpg": "b.png",
        "sub/a.jpg": "sub/a.png",
    }


def test_files_of_one_name_from_two_folders(tmp_path):
    make(tmp_path, "x/a.jpg", "y/a.jpg")
    inputs = find_inputs([tmp_path / "x/a.jpg", tmp_path / "y/a.jpg"], tmp_path / "out")
    assert targets(inputs, tmp_path / "out") == ["a_jpg.png", "a_jpg_2.png"]


def test_skip_existing(tmp_path):
    make(tmp_path, "in/a.jpg", "in/sub/b.jpg", "out/sub/b.png")
    assert len(find_inputs(tmp_path / "in", tmp_path / "out").files) == 2
    inputs = find_inputs(tmp_path / "in", tmp_path / "out", skip_existing=True)
    assert [file.name for file in inputs.files] == ["a.jpg"]
    assert inputs.existing == (tmp_path / "out/sub/b.png",)


def test_results_within_the_folder_are_no_inputs(tmp_path):
    make(tmp_path, "a.png", "out/a.png", "outside/b.png")
    assert [file.name for file in find_inputs(tmp_path, tmp_path / "out").files] == ["a.png", "outside/b.png"]


def test_no_input_is_overwritten(tmp_path):
    make(tmp_path, "a.png", "b.jpg")
    with pytest.raises(UserError, match=r"a\.png: would be overwritten"):
        find_inputs(tmp_path / "a.png", tmp_path)
    with pytest.raises(UserError, match="is the folder of the pictures"):
        find_inputs(tmp_path, tmp_path, ".tif")
    assert targets(find_inputs(tmp_path / "a.png", tmp_path, ".tif"), tmp_path) == ["a.tif"]
    os.symlink(tmp_path, tmp_path / "link")
    with pytest.raises(UserError, match="overwritten"):
        find_inputs(tmp_path / "a.png", tmp_path / "link")


def test_patterns(tmp_path):
    make(tmp_path, "a10.jpg", "a9.jpg", "b.jpg", "sub/a1.jpg", "odd[1].jpg")
    out = tmp_path / "out"
    assert targets(find_inputs(tmp_path / "a*.jpg", out), out) == ["a9.png", "a10.png"]
    assert targets(find_inputs(f"{tmp_path}/**/a1.jpg", out), out) == ["a1.png"]
    assert targets(find_inputs(tmp_path / "odd[1].jpg", out), out) == ["odd[1].png"]


@pytest.mark.parametrize(
    ("given", "message"),
    [("fotos", "did you mean"), ("x*.jpg", "no file fits"), ("empty", "no pictures in this folder"), ([], "nothing")],
)
def test_nothing_there(tmp_path, given, message):
    make(tmp_path, "photos/a.jpg", "empty/notes.txt")
    paths = tmp_path / given if isinstance(given, str) else given
    with pytest.raises(UserError, match=message):
        find_inputs(paths, tmp_path / "out")


def test_home_is_expanded(tmp_path, monkeypatch):
    make(tmp_path, "a.jpg")
    monkeypatch.setenv("HOME", str(tmp_path))
    (file,) = find_inputs("~/a.jpg", "~/out").files
    assert file.target == Path(tmp_path / "out/a.png")
