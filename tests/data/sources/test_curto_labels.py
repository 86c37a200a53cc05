"""The real label files of Curtó & Zarza against Table 1 of the paper, and the split made of them."""

import logging
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from imago.data.drawn_portraits import VOCABULARY
from imago.data.sources.curto import COLUMNS, Curto, face_key, owner_of, owner_split, read_labels

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


pytestmark = pytest.mark.skipif("IMAGO_TEST_DATA" not in os.environ, reason="set IMAGO_TEST_DATA, with curto/ in it")


@pytest.fixture(scope="module")
def real() -> Any:
    """The labels of the main and of the extra set."""
    return read_labels(Path(os.environ["IMAGO_TEST_DATA"]) / "curto")


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


def test_the_real_labels_with_a_few_images(
    tmp_path: Path, save_image: Any, make_noise: Any, real: Any, caplog: pytest.LogCaptureFixture
):
    for file in (Path(os.environ["IMAGO_TEST_DATA"]) / "curto").glob("*.csv"):
        (tmp_path / "labels").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "labels")
    for name in real[0].names[:5]:
        save_image(tmp_path / "samples" / f"{name}.png", make_noise(0))
    with caplog.at_level(logging.WARNING):
        source = Curto(tmp_path)
    assert "14,243 of 14,248 labelled faces have no image" in caplog.text
    assert sorted(face_key(name) for name in source.names) == sorted(real[0].names[:5])
    item = source.read(0)
    assert item.labels == real[0].get(face_key(item.name))
