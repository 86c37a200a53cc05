"""Curtó & Zarza: both releases made small, and the real label files."""

import csv
import json
import logging
import os
import pickle
import random
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data.drawn_portraits import VOCABULARY
from imago.data.sources.curto import COLUMNS, Curto, face_key, owner_of, owner_split, read_labels

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


# --- The real label files

# Table 1 of Curtó et al. 2020: faces, and faces of the extra set.
TABLE = """
Age: Early Adulthood 3606 966, Middle Aged 2954 875, Teenager 2202 178, Adult 1806 565, Kid 1706 85, Senior 1102 402,
Retirement 436 218, Baby 232 14
Ethnicity: African American 4348 0, White 3442 3384, East Asian 3244 0, South Asian 3214 0
Eyes Color: Brown 9116 2119, Other 4136 875, Blue 580 262, Green 416 128
Facial Hair: No 12592 2821, Light Mustache 466 156, Light Goatee 444 96, Light Beard 258 142, Thick Goatee 168 39,
Thick Beard 166 68, Thick Mustache 154 62
Gender: Male 7554 1998, Female 6694 1386
Glasses: No 12576 2756, Eyeglasses 1464 539, Sunglasses 208 89
Hair Color: Black 8402 964, Brown 3038 1241, Other 1554 253, Blonde 616 543, White 590 347, Red 48 36
Hair Covered: No 12292 3060, Turban 1206 76, Cap 722 237, Helmet 28 11
Hair Style: Short Straight 5038 1642, Long Straight 2858 857, Short Curly 2524 287, Other 2016 249, Bald 1298 187,
Long Curly 514 162
Smile: Yes 8428 2118, No 5820 1266
Visible Forehead: Yes 11890 3033, No 2358 351
"""


def table_1() -> dict[tuple[str, str], tuple[int, int]]:
    """(column, class) → (faces, extra faces)."""
    counts = {}
    for column, classes in re.findall(r"^([\w ]+): ([^:]+?)$(?=\n[\w ]+:|\n*\Z)", TABLE, re.MULTILINE):
        for kind, faces, extra in re.findall(r"([A-Z][A-Za-z ]*?) (\d+) (\d+)", classes):
            counts[column, kind.lower().replace(" ", "_")] = (int(faces), int(extra))
    return counts


needs_labels = pytest.mark.skipif("IMAGO_TEST_DATA" not in os.environ, reason="set IMAGO_TEST_DATA, with curto/ in it")


@pytest.fixture(scope="module")
def real() -> Any:
    """The labels of the main and of the extra set."""
    return read_labels(Path(os.environ["IMAGO_TEST_DATA"]) / "curto")


@needs_labels
def test_the_real_counts_are_those_of_table_1_but_for_two_differences(real: Any):
    main, extra = real
    assert (len(main), len(extra)) == (14_248, 3_384)
    assert main.columns == extra.columns == list(COLUMNS)
    files = {}
    for column in COLUMNS:
        counts = main.counts(column), extra.counts(column)
        assert set(counts[0]) == set(VOCABULARY[column])
        assert set(counts[1]) <= set(VOCABULARY[column])
        files.update({(column, value): tuple(c.get(value, 0) for c in counts) for value in VOCABULARY[column]})
    paper = table_1()
    assert len(paper) == len(files) - 1 == 48
    differences = {
        key: (paper.get(key), files.get(key)) for key in {*paper, *files} if paper.get(key) != files.get(key)
    }
    assert differences == {
        ("Age", "elderly"): (None, (204, 81)),  # missing from the table, whose ages add up to 14,044 and 3,303
        ("Ethnicity", "african_american"): ((4348, 0), None),  # the files call it …
        ("Ethnicity", "black"): (None, (4348, 0)),
    }


@needs_labels
def test_the_real_structure(real: Any):
    main, extra = real
    mirrors = [name for name in main.names if name.endswith("_mirror")]
    assert len(mirrors) == 7_124
    assert all(main.get(name) == main.get(name.removesuffix("_mirror")) for name in mirrors)
    assert not any(name.endswith("_mirror") for name in extra.names)
    owners = [{owner_of(name) for name in table.names} for table in real]
    photos = [{name.split("_")[0] for name in table.names} for table in real]
    assert [len(found) for found in owners] == [1_347, 881]
    assert [len(found) for found in photos] == [4_663, 2_351]
    assert (len(owners[0] & owners[1]), len(photos[0] & photos[1])) == (203, 199)
    assert not set(main.names) & set(extra.names)


@needs_labels
def test_the_real_split(real: Any):
    main, extra = real
    parts = owner_split(real)
    assert Counter(parts.values()) == {"train": 1532, "validation": 234, "test": 259}
    faces = {table is main: Counter(parts[owner_of(name)] for name in table.names) for table in real}
    assert faces[True] == {"train": 11_450, "validation": 1_344, "test": 1_454}
    assert faces[False] == {"train": 2_656, "validation": 419, "test": 309}
    photos: dict[str, set[str]] = {}
    for table in (main, extra):
        for name in table.names:
            photos.setdefault(name.split("_")[0], set()).add(parts[owner_of(name)])
    assert all(len(found) == 1 for found in photos.values())


@needs_labels
def test_the_real_labels_with_a_few_images(
    tmp_path: Path, save_image: Any, real: Any, caplog: pytest.LogCaptureFixture
):
    for file in (Path(os.environ["IMAGO_TEST_DATA"]) / "curto").glob("*.csv"):
        (tmp_path / "labels").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "labels")
    for name in real[0].names[:5]:
        save_image(tmp_path / "samples" / f"{name}.png", pixels_of(name))
    with caplog.at_level(logging.WARNING):
        source = Curto(tmp_path)
    assert "14,243 of 14,248 labelled faces have no image" in caplog.text
    assert sorted(face_key(name) for name in source.names) == sorted(real[0].names[:5])
    item = source.read(0)
    assert item.labels == real[0].get(face_key(item.name))
