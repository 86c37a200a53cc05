"""The benchmark of the tiler runs, counts every tile, and measures memory."""

import re

import pytest
import tiling
import torch


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


SMALL = ["--filters", "2", "--max-channels", "4", "--size", "40", "--rounds", "1", "--batch", "3"]


def test_every_row_is_timed(capsys):
    tiling.main(SMALL)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("320² from 40², 4 tiles of 32² at stride 16, 3 at a time")
    assert [line.split(" | ")[0].strip("| ") for line in lines[3:]] == list(tiling.ROWS)
    for line in lines[3:]:
        seconds, rate, milliseconds = map(float, line.split(" | ")[1:4])
        assert 0 < float(line.split(" | ")[4].split()[0]) < 100
        count = 8 if re.match(r"\| (flip|best)", line) else 4
        assert seconds * rate == pytest.approx(count, rel=0.02)
        assert rate * milliseconds == pytest.approx(1000, rel=0.02)


@pytest.mark.slow
def test_memory_is_measured_in_processes_of_their_own(capsys):
    # More than what importing held.
    enough = ["--filters", "16", "--max-channels", "16", "--size", "96", "--batch", "8"]
    tiling.main([*SMALL, *enough, "--memory", "--rows", "tiles"])
    value = float(re.search(r"\| tiles \| (\S+) \|", capsys.readouterr().out).group(1))
    assert 0.02 < value < 1
