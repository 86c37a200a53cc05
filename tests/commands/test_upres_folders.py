"""upres.py on folders: one bad file, what is there already, names, memory that runs out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from commands.app import IncompleteError
from commands.upres import upres
from commands.upres_job import UpresJob
from conf.upres_schema import UpresTilingConfig
from imago.errors import UserError
from tile_networks import nearest
from upres_stand_ins import PORTRAIT, STAGES, config, photo, saved, stand_ins

__all__ = ["photo", "stand_ins"]  # fixtures

pytestmark = pytest.mark.usefixtures("stand_ins")


def test_a_folder_goes_on_past_what_fails(tmp_path, capsys):
    folder = tmp_path / "photos"
    saved(folder / "a.png", PORTRAIT)
    saved(folder / "deep" / "er" / "b.jpg", PORTRAIT)
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "desktop.ini").write_text("x")
    saved(folder / "dark.png", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(IncompleteError) as caught:
        upres(config(tmp_path, input=str(folder)))
    assert str(caught.value).startswith("2 of 4 files failed: broken.png (")
    assert "dark.png (no face found; mode=whole enlarges the entire picture)" in str(caught.value)
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert names == ["a.png", "contact-sheet.png", "deep/er/b.png"]
    output = capsys.readouterr().out
    assert "landmarks found in 2 of 2 pictures\n" in output  # of dark.png no picture was made, so no guide was drawn


def test_only_pictures_that_were_made_had_an_empty_guide(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "photos"
    for name in ("a", "b"):
        saved(folder / f"{name}.png", np.zeros((20, 20, 3), np.uint8))
    saved(folder / "c.png", PORTRAIT)

    def write(job, path, *arguments, **carried):
        if path.name == "a.png":
            raise UserError("cannot be written")
        return written(job, path, *arguments, **carried)

    written = UpresJob.write
    monkeypatch.setattr(UpresJob, "write", write)
    with pytest.raises(IncompleteError, match="1 of 3 files failed"):
        upres(config(tmp_path, input=str(folder), mode="whole", size=64))
    assert "landmarks found in 1 of 2 pictures; 1 had an empty guide\n" in capsys.readouterr().out


def test_what_is_there_is_left_out(tmp_path, capsys):
    folder = tmp_path / "photos"
    for name in ("a", "b"):
        saved(folder / f"{name}.png", PORTRAIT)
    options = {"input": str(folder), "skip_existing": True, "contact_sheet": False}
    first = upres(config(tmp_path, **options))
    first[0].write_bytes(b"mine")
    first[1].unlink()
    again = upres(config(tmp_path, **options))
    assert again == [first[1]]
    assert first[0].read_bytes() == b"mine"
    assert "1 of 2 results are in" in capsys.readouterr().out
    assert upres(config(tmp_path, **options)) == []


def test_pictures_of_one_name_do_not_replace_each_other_nor_results_their_sources(tmp_path):
    folder = tmp_path / "photos"
    saved(folder / "a.png", PORTRAIT)
    saved(folder / "a.jpg", PORTRAIT)
    written = upres(config(tmp_path, input=str(folder), contact_sheet=False))
    assert sorted(path.name for path in written) == ["a_jpg.png", "a_png.png"]
    # A folder inside the folder: what it made is not its input the next time.
    inside = folder / "big"
    assert len(upres(config(tmp_path, input=str(folder), out=str(inside), contact_sheet=False))) == 2
    assert len(upres(config(tmp_path, input=str(folder), out=str(inside), contact_sheet=False))) == 2
    with pytest.raises(UserError, match="is the folder of the pictures"):
        upres(config(tmp_path, input=str(folder), out=str(folder)))
    with pytest.raises(UserError, match="would be overwritten"):
        upres(config(tmp_path, input=str(folder / "a.png"), out=str(folder)))


def test_memory_that_runs_out_lowers_the_batch_for_good(tmp_path, monkeypatch, photo, capsys):
    sizes = []

    def hungry(stacks):
        sizes.append(len(stacks))
        if len(stacks) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return nearest(4)(stacks)

    monkeypatch.setitem(STAGES, "face", replace(STAGES["face"], network=hungry))
    folder = tmp_path / "photos"
    for name in ("a", "b"):
        saved(folder / f"{name}.png", PORTRAIT)
    upres(config(tmp_path, input=str(folder), contact_sheet=False, tiling=UpresTilingConfig(batch=4)))
    assert sizes == [4, 2, 2, 2, 2]
    assert capsys.readouterr().out.count("going on with tiling.batch=2") == 1
