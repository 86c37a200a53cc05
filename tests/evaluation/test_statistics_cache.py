"""What was measured of real images is kept, by everything that it depends on."""

import pytest
import torch

from imago.evaluation.statistics_cache import StatisticsCache


class Counting:
    def __init__(self, value):
        self.value = value
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.value


def test_numbers_are_measured_once(tmp_path):
    measure = Counting({"swd": 1.25})
    for _ in range(2):
        assert StatisticsCache(tmp_path).numbers({"count": 3}, measure) == {"swd": 1.25}
    assert measure.calls == 1
    StatisticsCache(tmp_path).numbers({"count": 4}, measure)
    assert measure.calls == 2


def test_tensors_are_measured_once_and_come_back_to_the_bit(tmp_path):
    features = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    measure = Counting({"features": features})
    for _ in range(2):
        assert torch.equal(StatisticsCache(tmp_path).tensors({"data": "a"}, measure)["features"], features)
    assert measure.calls == 1


@pytest.mark.parametrize("content", [b"", b"{", b'{"numbers": 3}', b"\x00" * 64])
def test_damaged_files_are_measured_again(tmp_path, content):
    cache = StatisticsCache(tmp_path)
    cache.numbers({"a": 1}, Counting({"x": 1.0}))
    cache.tensors({"a": 1}, Counting({"x": torch.ones(1)}))
    files = list(tmp_path.iterdir())
    assert len(files) == 2
    for file in files:
        file.write_bytes(content)
    assert cache.numbers({"a": 1}, Counting({"x": 2.0})) == {"x": 2.0}
    assert cache.tensors({"a": 1}, Counting({"x": torch.zeros(1)}))["x"].item() == 0


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    measure = Counting({"x": 1.0})
    cache = StatisticsCache(tmp_path / "file" / "cache")
    assert cache.numbers({}, measure) == cache.numbers({}, measure) == {"x": 1.0}
    assert measure.calls == 2


def test_without_a_folder_nothing_is_kept():
    measure = Counting({"x": 1.0})
    for _ in range(2):
        StatisticsCache(None).numbers({}, measure)
    assert measure.calls == 2
