import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imago.data.sources.subset import read_keep_list
from imago.data.tables import read_table, table_text
from imago.errors import UserError

FIELDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(st.lists(st.lists(FIELDS, min_size=1, max_size=3)))
def test_tables_are_read_as_they_were_written(rows):
    text = table_text(rows).decode()
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows


def test_names_that_are_no_utf8(tmp_path: Path):
    rows = [["name", "keep"], ["a\udcff\r.png", "1"], ['"b"\u2028', "0"], ["c\x85,\x1c", "1"]]
    (tmp_path / "table.csv").write_bytes(table_text(rows))
    assert read_table(tmp_path / "table.csv") == rows
    assert read_keep_list(tmp_path / "table.csv") == ["a\udcff\r.png", "c\x85,\x1c"]


def test_what_is_no_table(tmp_path: Path):
    (tmp_path / "huge.csv").write_text("name\n" + "x" * 200_000 + "\n")
    with pytest.raises(UserError, match="not a table"):
        read_table(tmp_path / "huge.csv")
    with pytest.raises(UserError, match="No such file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match='needs a column "name"'):
        read_keep_list(tmp_path / "empty.csv")
