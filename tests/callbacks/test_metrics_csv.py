"""metrics.csv over kills, resumes, new columns and full disks."""

import errno

import pytest

import callbacks.csv_table
from callbacks.csv_table import CsvTable, read_rows


@pytest.fixture
def table(tmp_path):
    return CsvTable(tmp_path / "metrics.csv")


def test_new_columns_leave_earlier_rows_empty_there(table):
    table.add({"images_seen": 8, "loss": 0.5})
    table.add({"images_seen": 16, "loss": 0.25, "norm": 2.0})
    assert table.path.read_text() == "images_seen,loss,norm\n8,0.5,\n16,0.25,2\n"


def test_rewind_drops_later_rows_and_a_line_that_was_cut_short(table):
    for images_seen in (8, 16, 24):
        table.add({"images_seen": images_seen, "loss": 1.0})
    with open(table.path, "a") as file:
        file.write("3")  # of 32
    again = CsvTable(table.path)
    again.rewind(16)
    again.add({"images_seen": 24, "loss": 2.0})
    assert [(row["images_seen"], row["loss"]) for row in read_rows(table.path)] == [
        ("8", "1"),
        ("16", "1"),
        ("24", "2"),
    ]


def test_rows_wait_for_room_on_a_full_disk(table, monkeypatch):
    table.add({"images_seen": 8, "loss": 1.0})
    whole = callbacks.csv_table._write_whole
    monkeypatch.setattr(callbacks.csv_table, "_write_whole", lambda file, line: whole(Half(file), line))
    for images_seen in (16, 24):
        with pytest.raises(OSError, match="No space"):
            table.add({"images_seen": images_seen, "loss": 1.0})
    assert table.path.read_text() == "images_seen,loss\n8,1\n"
    monkeypatch.undo()
    table.add({"images_seen": 32, "loss": 1.0})
    assert [row["images_seen"] for row in read_rows(table.path)] == ["8", "16", "24", "32"]


class Half:
    """A file on a disk that takes half of what it is given."""

    def __init__(self, file) -> None:
        self.file = file
        self.name = file.name

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, line: bytes) -> int:
        return self.file.write(line[: len(line) // 2])


def test_a_failed_first_write_is_made_up_for(table, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(callbacks.csv_table, "atomic_path", full)
    with pytest.raises(OSError, match="No space"):
        table.add({"images_seen": 8, "loss": 1.0})
    monkeypatch.undo()
    table.add({"images_seen": 16, "loss": 1.0})
    assert [row["images_seen"] for row in read_rows(table.path)] == ["8", "16"]
