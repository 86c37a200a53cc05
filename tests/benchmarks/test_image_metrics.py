"""The benchmark runs, on a few small images, and both sides find the same."""

import re

import image_metrics
import pytest
import torch


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(capsys, *arguments):
    image_metrics.main([*arguments, "--resolution", "32", "--threads", "1", "--rounds", "1"])
    return capsys.readouterr().out


@pytest.mark.parametrize(("metric", "tolerance"), [("swd", 0.1), ("ms_ssim", 1e-4)])
def test_both_sides_find_the_same(capsys, metric, tolerance):
    out = run(capsys, "--metric", metric, "--count", "32", "--batch", "5")
    ours, theirs = map(float, re.search(r"imago finds (\S+), the reference (\S+)\n", out).groups())
    assert ours == pytest.approx(theirs, rel=tolerance)
    assert len(out.splitlines()) == 4


@pytest.mark.parametrize("metric", ["swd", "ms_ssim"])
def test_memory_is_measured_without_the_reference(capsys, monkeypatch, metric):
    monkeypatch.setitem(image_metrics.RUNS, metric, (image_metrics.RUNS[metric][0], None))
    assert "GiB" in run(capsys, "--metric", metric, "--count", "8", "--memory")


def test_no_image_comes_twice():
    images = image_metrics.whole(200, 32, seed=0)
    assert len(images.flatten(1).unique(dim=0)) == 200
    parts = [batch for _, batch in image_metrics.batches(200, 32, 0, 7)]
    assert torch.equal(torch.cat(parts), images)
