"""The report: JSON, Markdown, a table on the terminal, a plot over images_seen."""

import json

import pytest
from PIL import Image
from rich.console import Console

from imago.evaluation.measure import Row
from imago.evaluation.report import Evaluated, number, table_of_one, table_of_several, write_report


def evaluated(images_seen, value):
    rows = [
        Row("swd/32", value, 100, "how", reference=2.5, reference_is="real against real"),
        Row("kernel/face", 2 * value, 100, "other", spread=0.125, higher_is_better=None),
    ]
    return Evaluated(f"generators/{images_seen:09d}.safetensors", images_seen, rows)


def shown(table):
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (3.14159, "3.142"),
        (123.456, "123.46"),
        (1000.0, "1000"),
        (1e-6, "1e-06"),
        (float("nan"), "nan"),
        (0.0, "0"),
    ],
)
def test_numbers_have_four_digits(value, text):
    assert number(value) == text


def test_one_generator_is_told_with_its_references():
    text = shown(table_of_one(evaluated(1000, 3.5)))
    for part in ("swd/32", "3.5", "2.5", "real against real", "7 ± 0.125", "100", "how"):
        assert part in text


def test_several_generators_are_lines():
    text = shown(table_of_several([evaluated(1000, 3.5), evaluated(2000, 1.75)]))
    assert "1,000" in text
    assert "1.75" in text
    assert "reference" in text


def test_files(tmp_path):
    out = tmp_path / "new" / "report.json"
    written = write_report(out, [evaluated(1000, 3.5)], {"seed": 7})
    assert [path.name for path in written] == ["report.json", "report.md"]
    report = json.loads(out.read_text())
    assert report["seed"] == 7
    (one,) = report["checkpoints"]
    assert one["images_seen"] == 1000
    assert one["results"][0]["value"] == 3.5
    assert one["results"][0]["reference"] == 2.5
    lines = written[1].read_text().splitlines()
    assert lines[0] == "| checkpoint | images seen | swd/32 | kernel/face |"
    assert lines[2].endswith("| 1,000 | 3.5 | 7 ± 0.125 |")
    assert lines[3] == "| reference | | 2.5 | – |"


def test_several_are_plotted(tmp_path):
    written = write_report(tmp_path / "curve.json", [evaluated(1000, 3.5), evaluated(2000, 1.75)], {})
    assert written[-1].name == "curve.png"
    with Image.open(written[-1]) as picture:
        assert picture.width > 400
    assert not list(tmp_path.glob(".*"))
