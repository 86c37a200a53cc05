"""Curtó & Zarza: both releases, made small."""

import csv
import json
import logging
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data.drawn_portraits import VOCABULARY
from imago.data.sources.curto import COLUMNS, Curto, face_key, owner_of

# Photo, secret, server, owner, number of faces in the photo; the third photo has a face in the extra set, too.
PHOTOS = (
    (4662626955, "2f92c784bd", 1299, "49602580@N08", 2),
    (4662626956, "0a92c784bd", 1299, "49602580@N08", 1),
    (6084696695, "1bda619d07", 6061, "65739810@N03", 3),
    *((7000000000 + i, f"{i:010x}", 5000 + i, f"{10000000 + i}@N0{i % 8}", 1 + i % 2) for i in range(20)),
)
FACES = [
    f"{photo}_{secret}_{server}_{owner}_{n}" for photo, secret, server, owner, count in PHOTOS for n in range(count)
]
EXTRA = [
    "5578518074_f1f8dc78a7_5173_37933312@N04_1",
    "6084696695_1bda619d07_6061_65739810@N03_9",
    "5439781942_cc34f01d37_5254_41500900@N06_1",
]


def values_of(face: str) -> list[str]:
    """Its eleven labels; those of a mirror image are the same."""
    draw = random.Random(face.removesuffix("_mirror"))
    return [draw.choice(VOCABULARY[column]) for column in COLUMNS]


def pixels_of(face: str) -> np.ndarray:
    image = np.random.default_rng(list(face.removesuffix("_mirror").encode())).integers(0, 256, (20, 16, 3), np.uint8)
    return image[:, ::-1] if face.endswith("_mirror") else image


MAIN = [name for face in FACES for name in (face, f"{face}_mirror")]


def rows_of(names: list[str], old: bool = False) -> list[list[str]]:
    ending = {name: "_" if old and not name.endswith("_mirror") else "" for name in names}
    return [[f"{name}{ending[name]}.png", *values_of(name)] for name in names]


def write_csv(path: Path, rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["Filename", *COLUMNS], *rows])


def write_images(root: Path, save_image: Any, old: bool = False) -> None:
    for folder, names in (("samples", MAIN), ("extra/samples", EXTRA)):
        for name in names:
            underscore = "_" if old and not name.endswith("_mirror") else ""
            save_image(root / folder / f"{name}{underscore}.png", pixels_of(name))


@pytest.fixture
def graphics(tmp_path: Path, save_image: Any, make_noise: Any) -> Path:
    """The release of 2019."""
    root = tmp_path / "release" / "graphics"
    write_images(root, save_image)
    write_csv(root / "labels" / "c&z.csv", rows_of(MAIN))
    write_csv(root / "labels" / "extra_c&z.csv", rows_of(EXTRA))
    for i in (1, 2, 10):
        save_image(root / "hdcgan" / f"{i}.png", make_noise(i, 16, 16))
    return root


@pytest.fixture
def c(tmp_path: Path, save_image: Any, make_noise: Any) -> Path:
    """The release of 2017 to 2020."""
    root = tmp_path / "release" / "c"
    write_images(root, save_image)
    for folder, names in (("labels", MAIN), ("extra/labels", EXTRA)):
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / name).write_text(json.dumps(values_of(name)))
    for i in (1, 2, 10):
        save_image(root / "hdcgan" / "samples" / f"{i}.png", make_noise(i, 32, 32))
        save_image(root / "hdcgan" / "samples_128" / f"{i}.png", make_noise(i, 8, 8))
    return root


def content(source: Curto) -> dict[str, tuple[bytes, dict[str, str] | None]]:
    items = [source.read(i) for i in range(len(source))]
    return {face_key(item.name): (item.image.tobytes(), item.labels) for item in items}


def expected_of(names: list[str]) -> dict[str, tuple[bytes, dict[str, str]]]:
    return {n: (pixels_of(n).tobytes(), dict(zip(COLUMNS, values_of(n), strict=True))) for n in names}


@pytest.mark.parametrize("release", ["graphics", "c"])
@pytest.mark.parametrize("at", ["root", "up", "samples", "zip"])
def test_both_releases(
    release: str, at: str, request: pytest.FixtureRequest, tmp_path: Path, zip_of: Any, keeps_the_contract: Any
):
    folder: Path = request.getfixturevalue(release)
    root = {"up": folder.parent, "samples": folder / "samples"}.get(at, folder)
    if at == "zip":
        root = zip_of(folder, tmp_path / "release.zip", inside=False)
    source = Curto(root)
    assert (source.release, source.name, source.missing) == (release, "curto", 0)
    assert content(source) == expected_of(MAIN)
    keeps_the_contract(source)
    assert content(Curto(root, include_mirrors=False)) == expected_of(FACES)
    assert content(Curto(root, include_extra=True, include_mirrors=False)) == expected_of(FACES + EXTRA)
    everything = Curto(root, include_extra=True, include_synthetic=True)
    assert len(everything) == len(MAIN) + len(EXTRA) + 3
    synthetic = [everything.read(len(everything) - 3 + i) for i in range(3)]
    assert [Path(item.name).stem for item in synthetic] == ["1", "2", "10"]
    assert [item.labels for item in synthetic] == [None] * 3
    assert synthetic[0].image.shape[0] == (32 if release == "c" else 16)


def test_the_releases_agree(graphics: Path, c: Path):
    for split in ("train", "validation", "test"):
        assert content(Curto(graphics, split=split)) == content(Curto(c, split=split))
    assert Curto(graphics.parent).release == "graphics"
    assert Curto(graphics.parent, release="c").release == "c"


def test_parts_share_no_owner(graphics: Path):
    names, owners = {}, {}
    for split in ("train", "validation", "test"):
        source = Curto(graphics, split=split, include_extra=True, validation_share=0.2, test_share=0.2)
        names[split] = {face_key(name) for name in source.names}
        owners[split] = {owner_of(name) for name in source.names}
    assert set.union(*names.values()) == {*MAIN, *EXTRA}
    assert sum(map(len, names.values())) == len(MAIN) + len(EXTRA)
    assert sum(map(len, owners.values())) == len({owner_of(name) for name in MAIN + EXTRA})
    # What is chosen besides does not move anybody.
    few = Curto(graphics, split="test", include_mirrors=False, validation_share=0.2, test_share=0.2)
    assert {face_key(name) for name in few.names} == {n for n in names["test"] if n in FACES}
    assert len(few) > 0
    with_synthetic = Curto(graphics, split="train", include_synthetic=True)
    assert len(with_synthetic) == len(Curto(graphics, split="train")) + 3
    assert len(Curto(graphics, split="test", include_synthetic=True)) == len(Curto(graphics, split="test"))
    other = Curto(graphics, split="test", split_seed=1)
    assert set(other.names) != set(Curto(graphics, split="test").names)


def test_missing_images_do_not_move_the_split(graphics: Path, caplog: pytest.LogCaptureFixture):
    whole = {face_key(name) for name in Curto(graphics, split="train").names}
    for name in MAIN[::3]:
        (graphics / "samples" / f"{name}.png").unlink()
    with caplog.at_level(logging.WARNING):
        source = Curto(graphics, split="train")
    assert {face_key(name) for name in source.names} == whole - set(MAIN[::3])
    assert source.missing == len(whole & set(MAIN[::3]))
    assert f"{source.missing:,} of {len(whole):,} labelled faces have no image" in caplog.text
    assert len(caplog.records) == 1


def test_rows_in_another_order_and_old_names(graphics: Path, tmp_path: Path, save_image: Any):
    rows = rows_of(MAIN, old=True)
    random.Random(0).shuffle(rows)
    write_csv(graphics / "labels" / "c&z.csv", rows)
    assert any(row[0].endswith("_.png") for row in rows)
    assert content(Curto(graphics)) == expected_of(MAIN)  # old labels, new images
    old = tmp_path / "old"
    write_images(old, save_image, old=True)
    write_csv(old / "labels" / "c&z.csv", rows_of(MAIN))
    assert content(Curto(old)) == expected_of(MAIN)  # new labels, old images


def test_images_that_their_script_has_moved(graphics: Path):
    for name in MAIN:
        target = graphics / "samples" / values_of(name)[4] / f"{name}.png"
        target.parent.mkdir(exist_ok=True)
        (graphics / "samples" / f"{name}.png").rename(target)
    assert content(Curto(graphics)) == expected_of(MAIN)


def test_the_pickle_is_read_where_the_csv_is_missing(graphics: Path, refusal: Any, tmp_path: Path):
    (graphics / "labels" / "c&z.csv").unlink()
    rows = [tuple(row) for row in rows_of(MAIN)]
    random.Random(0).shuffle(rows)
    path = graphics / "labels" / "c&z.p"
    path.write_bytes(pickle.dumps(rows, protocol=3))
    assert content(Curto(graphics)) == expected_of(MAIN)
    path.write_bytes(f"cos\nsystem\n(S'touch {tmp_path / 'was-here'}'\ntR.".encode())
    assert "would run code (it names os.system)" in refusal(Curto, graphics)
    assert not (tmp_path / "was-here").exists()
    path.write_bytes(pickle.dumps({"a": 1}))
    assert "not a list of rows" in refusal(Curto, graphics)


def test_what_does_not_fit_is_counted_in_one_warning(graphics: Path, caplog: pytest.LogCaptureFixture, save_image: Any):
    (graphics / "samples" / f"{MAIN[0]}.png").unlink()
    save_image(graphics / "samples" / "holiday.png", pixels_of("holiday"))
    save_image(graphics / "copy" / f"{MAIN[1]}.png", pixels_of(MAIN[1]))
    with caplog.at_level(logging.WARNING):
        source = Curto(graphics)
    assert len(source) == len(MAIN) - 1
    (record,) = caplog.records
    assert "1 of 72 labelled faces have no image; 1 images have no labels and are left out" in record.getMessage()
    assert "1 faces are there twice and taken once" in record.getMessage()


def test_mistakes(graphics: Path, c: Path, refusal: Any, tmp_path: Path, web_page: bytes, caplog: Any):
    assert "release='d'" in refusal(Curto, graphics, release="d")
    assert "split='val'" in refusal(Curto, graphics, split="val")
    assert "validation_share=0.9" in refusal(Curto, graphics, validation_share=0.9, test_share=0.2)
    assert "no label files of the release c; expected <root>/samples" in refusal(Curto, graphics, release="c")
    assert "did you mean" in refusal(Curto, tmp_path / "releas")
    shutil.rmtree(graphics / "hdcgan")
    assert "no synthetic faces" in refusal(Curto, graphics, include_synthetic=True)
    path = graphics / "labels" / "c&z.csv"
    text = path.read_text(encoding="utf-8")
    row = text.splitlines()[1]
    contradiction = row.replace(",yes", ",no") if ",yes" in row else row.replace(",no", ",yes")
    for changed, expected in (
        (web_page.decode(), "a web page"),
        (text.replace("Filename,Age", "Filename,Years"), "expected the header Filename,Age"),
        (text[: text.rindex(",")], "is it whole?"),
        ("", "expected the header"),
        (f"{text}{contradiction}\n", "stands there twice"),
    ):
        path.write_text(changed, encoding="utf-8")
        assert expected in refusal(Curto, graphics)
    path.write_text(text.replace(",black,", ",purple,"), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        Curto(graphics)
    assert "values that the published files do not have" in caplog.text
    path.write_text(text, encoding="utf-8")
    (graphics / "labels" / "extra_c&z.csv").unlink()
    assert "no labels of the extra set" in refusal(Curto, graphics, include_extra=True)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        Curto(graphics, split="train")
    assert "the split differs from the one made with them" in caplog.text
    (c / "labels" / MAIN[0]).write_text('["kid", "white"]')
    assert "a row is not a file name and eleven labels" in refusal(Curto, c)
    (c / "labels" / MAIN[0]).write_text('["kid", "wh')
    assert "not a JSON list" in refusal(Curto, c)
    shutil.rmtree(graphics / "samples")
    message = refusal(Curto, graphics)
    assert "labels of 72 faces, but none of their images; expected <root>/samples" in message
    assert "github.com/curto2/graphics" in message


def test_names():
    face = "4662626955_2f92c784bd_1299_49602580@N08_2"
    for name in (f"{face}.png", f"samples/{face}_.png", f"a/b/{face}.jpg", face):
        assert (face_key(name), owner_of(name)) == (face, "49602580@N08")
    assert face_key(f"{face}_mirror.png") == f"{face}_mirror"
    assert owner_of(f"{face}_mirror.png") == "49602580@N08"
    assert (face_key("x/holiday.png"), owner_of("x/holiday.png")) == ("holiday", "holiday")
