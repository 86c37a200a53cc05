"""Landmarks from a CSV file."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from imago.errors import UserError
from imago.faces.landmark_file import LandmarkFile

FIVE = "1,2,3.5,4,5,6,7,8,9,10"


def written(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "landmarks.csv"
    path.write_text(content)
    return path


def test_rows_are_faces_in_their_order(tmp_path: Path) -> None:
    many = ",".join(str(i / 4) for i in range(136))
    file = LandmarkFile(
        written(tmp_path, f"name,x0,y0\na/1.jpg,{FIVE}\n2.jpg,{many}\na/1.jpg,{many}\n3.jpg\n4.jpg,,,\n")
    )
    assert len(file) == 4
    first, second = file.faces("a/1.jpg") or []
    np.testing.assert_array_equal(first.landmarks, [[1, 2], [3.5, 4], [5, 6], [7, 8], [9, 10]])
    np.testing.assert_array_equal(second.landmarks, np.arange(136).reshape(68, 2) / 4)
    assert len((file.faces("2.jpg") or [])[0].landmarks) == 68
    assert file.faces("3.jpg") == []
    assert file.faces("4.jpg") == []
    assert file.faces("5.jpg") is None


def test_names_may_stand_without_their_folder(tmp_path: Path) -> None:
    file = LandmarkFile(written(tmp_path, f"1.jpg,{FIVE}\n"))
    assert len(file.faces("deep/down/1.jpg") or []) == 1
    assert file.faces("deep/down/2.jpg") is None


def test_it_is_pickled_to_workers(tmp_path: Path) -> None:
    file = LandmarkFile(written(tmp_path, f"1.jpg,{FIVE}\n"))
    again = pickle.loads(pickle.dumps(file))
    np.testing.assert_array_equal(again.faces("1.jpg")[0].landmarks, (file.faces("1.jpg") or [])[0].landmarks)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"1.jpg,{FIVE}\n2.jpg,1,2,3\n", "line 2: 3 numbers"),
        ("1.jpg,1,2,3,4,5,6,7,8,9,oops\n", "line 1: could not convert"),
        ("1.jpg,1,2,3,4,5,6,7,8,9,nan\n", "line 1: a coordinate is not finite"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LandmarkFile(written(tmp_path, content))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        LandmarkFile(tmp_path / "none.csv")


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    one = LandmarkFile(written(tmp_path, f"1.jpg,{FIVE}\n")).digest
    assert LandmarkFile(written(tmp_path, f"1.jpg,{FIVE}\n")).digest == one
    assert LandmarkFile(written(tmp_path, f"1.jpg,{FIVE}1\n")).digest != one
