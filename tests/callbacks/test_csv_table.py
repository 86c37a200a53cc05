import csv

import pytest

from callbacks.csv_table import CsvTable, read_rows


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write(path, count=4, columns=("loss",)):
    table = CsvTable(path)
    for i in range(1, count + 1):
        table.add({"images_seen": 100 * i} | dict.fromkeys(columns, i / 8))
    return table


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "metrics.csv"


def test_rows_are_kept_in_order(path):
    write(path)
    assert [(row["images_seen"], float(row["loss"])) for row in rows(path)] == [
        ("100", 0.125),
        ("200", 0.25),
        ("300", 0.375),
        ("400", 0.5),
    ]


def test_large_positions_are_written_in_full_and_numbers_with_seven_digits(path):
    CsvTable(path).add({"images_seen": 123_456_789, "loss": -1.23456789e-5, "spread": float("nan")})
    assert rows(path) == [{"images_seen": "123456789", "loss": "-1.234568e-05", "spread": "nan"}]


@pytest.mark.parametrize(("position", "kept"), [(0, 0), (99, 0), (100, 1), (250, 2), (400, 4), (10**9, 4)])
def test_rewinding_drops_what_came_after_a_checkpoint(path, position, kept):
    write(path)
    table = CsvTable(path)  # a new process resumes
    table.rewind(position)
    assert [row["images_seen"] for row in read_rows(path)] == [str(100 * i) for i in range(1, kept + 1)]
    table.add({"images_seen": position + 5, "loss": 0.75})
    assert [row["images_seen"] for row in rows(path)][kept:] == [str(position + 5)]
    assert rows(path)[-1]["loss"] == "0.75"


def test_a_resumed_table_equals_one_that_was_never_interrupted(path, tmp_path):
    write(path, 10)
    again = tmp_path / "again.csv"
    write(again, 7)
    table = CsvTable(again)
    table.rewind(400)
    for i in range(5, 11):
        table.add({"images_seen": 100 * i, "loss": i / 8})
    assert again.read_bytes() == path.read_bytes()


def test_rewinding_a_table_that_does_not_exist_yet(path):
    table = CsvTable(path)
    table.rewind(100)
    assert not path.exists()
    table.add({"images_seen": 1, "loss": 2})
    assert rows(path) == [{"images_seen": "1", "loss": "2"}]


def test_new_columns_leave_earlier_rows_empty(path):
    table = write(path, 2)
    table.add({"images_seen": 300, "loss": 0.5, "fid": 12.5})
    table.add({"images_seen": 400, "fid": 11.5})
    assert rows(path) == [
        {"images_seen": "100", "loss": "0.125", "fid": ""},
        {"images_seen": "200", "loss": "0.25", "fid": ""},
        {"images_seen": "300", "loss": "0.5", "fid": "12.5"},
        {"images_seen": "400", "loss": "", "fid": "11.5"},
    ]


def test_new_columns_after_a_resume_keep_the_earlier_rows(path):
    write(path, 2)
    table = CsvTable(path)
    table.rewind(200)
    table.add({"images_seen": 300, "fid": 12.5})
    assert [row["loss"] for row in rows(path)] == ["0.125", "0.25", ""]
    assert [row["fid"] for row in rows(path)] == ["", "", "12.5"]


def test_columns_may_come_in_any_order(path):
    table = CsvTable(path)
    table.add({"images_seen": 1, "a": 2, "b": 3})
    table.add({"b": 6, "a": 5, "images_seen": 4})
    assert rows(path)[1] == {"images_seen": "4", "a": "5", "b": "6"}


def test_a_line_cut_short_by_a_kill_is_dropped_wherever_it_was_cut(path):
    """A cut number would still read as a number: 0.375 as 0.37, and 300,0.375 as 30."""
    table = write(path, 3, columns=("loss", "score"))
    assert len(table.columns) == 3
    whole = path.read_bytes()
    last = whole.rstrip(b"\r\n").rfind(b"\n") + 1
    assert whole[last:].startswith(b"300,")
    for length in range(last, len(whole) - 2):
        path.write_bytes(whole[:length])
        assert [row["images_seen"] for row in read_rows(path)] == ["100", "200"]
        table = CsvTable(path)
        table.rewind(1000)
        table.add({"images_seen": 300, "loss": 0.375, "score": 0.375})
        assert path.read_bytes() == whole


def test_a_file_of_zeros_after_a_power_loss_is_no_row(path):
    write(path, 2)
    with open(path, "ab") as file:
        file.write(bytes(40))
    assert [row["images_seen"] for row in read_rows(path)] == ["100", "200"]


def test_the_file_is_replaced_whole(path, monkeypatch):
    write(path, 2)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    table = CsvTable(path)
    monkeypatch.setattr(csv.DictWriter, "writerows", fail)
    with pytest.raises(OSError, match="disk full"):
        table.rewind(100)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
