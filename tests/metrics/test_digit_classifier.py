import gzip
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from imago.errors import UserError
from imago.metrics import digit_classifier as module
from imago.metrics.digit_classifier import (
    DigitClassifier,
    as_network_input,
    digit_classifier,
    load_digit_classifier,
    save_digit_classifier,
    train_digit_classifier,
)


def bars(count, seed=0, side=32):
    """Digits that are easy to read: digit d is a white bar at a place of its own, on faint noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    images = rng.integers(0, 60, (count, 1, side, side), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 5)
        height, width = side // 2, side // 5
        image[0, row * height : (row + 1) * height, column * width : (column + 1) * width] = 250
    return torch.from_numpy(images), torch.from_numpy(labels)


@pytest.fixture(scope="module")
def trained():
    return train_digit_classifier(*bars(800), seed=5, epochs=2)


def error(network, images, labels):
    return float((network.classify(images)[:, 0] != labels).double().mean())


def test_learns_a_toy(trained):
    assert error(trained, *bars(200, seed=1)) <= 0.02
    assert math.isnan(trained.test_error)
    assert not trained.training


def test_same_seed_same_weights():
    images, labels = bars(300)
    first, again, other = (train_digit_classifier(images, labels, seed, epochs=1).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["output.weight"], other["output.weight"])


def test_every_digit_is_seen_once_an_epoch():
    positions = np.arange(30)
    order = module._order(3, positions, 10)
    for epoch in order.reshape(3, 10):
        assert sorted(epoch) == list(range(10))
    np.testing.assert_array_equal(module._order(3, positions[7:13], 10), order[7:13])
    assert order[:10].tolist() != order[10:20].tolist()


def test_distortions_belong_to_positions_and_stay_small():
    digits = torch.zeros(8, 1, 32, 32)
    digits[:, :, 12:20, 14:18] = 1
    whole = module._distorted(digits, 0, 100)
    torch.testing.assert_close(module._distorted(digits[3:], 0, 103), whole[3:])
    assert not torch.equal(whole[0], whole[1])
    rows = (whole.sum(dim=(1, 3)) * torch.arange(32)).sum(dim=1) / whole.sum(dim=(1, 2, 3))
    assert (rows - 15.5).abs().max() <= 1.01  # a pixel
    assert (whole.sum(dim=(1, 2, 3)) / 32 - 1).abs().max() < 0.2


def test_progress_counts_up_to_the_end():
    seen = []
    train_digit_classifier(*bars(200), epochs=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(128, 400), (256, 400), (384, 400), (400, 400)]


def test_channels_are_read_one_by_one_and_batches_change_nothing(trained, monkeypatch):
    images, labels = bars(60, seed=2)
    rgb = images.view(20, 3, 32, 32)
    assert torch.equal(trained.classify(rgb), trained.classify(images).view(20, 3))
    assert (trained.classify(rgb) == labels.view(20, 3)).double().mean() > 0.95
    monkeypatch.setattr(module, "_CHUNK", 7)
    assert torch.equal(trained.classify(rgb), trained.classify(images).view(20, 3))
    assert trained.classify(rgb[:0]).shape == (0, 3)


def test_sizes(trained):
    digits = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    padded = as_network_input(digits)
    assert padded.shape == (2, 1, 32, 32)
    assert torch.equal(padded[:, :, 2:30, 2:30], digits.float() / 255)
    assert padded.sum().item() == pytest.approx((digits.double() / 255).sum().item(), rel=1e-5)
    images, labels = bars(50, seed=3, side=64)
    assert error(trained, images, labels) <= 0.04
    large = images[:1].repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert as_network_input(large).shape == (1, 1, 32, 32)
    with pytest.raises(UserError, match="must be square uint8"):
        trained.classify(torch.zeros(1, 3, 28, 32, dtype=torch.uint8))
    with pytest.raises(UserError, match="must be square uint8"):
        trained.classify(torch.zeros(1, 3, 28, 28))


def test_wrong_training_sets():
    images, labels = bars(20)
    for arguments in ((images, labels[:5]), (images[:1], labels[:1]), (images.expand(-1, 3, -1, -1), labels)):
        with pytest.raises(UserError, match="training needs"):
            train_digit_classifier(*arguments)
    with pytest.raises(UserError, match="an epoch or more"):
        train_digit_classifier(images, labels, epochs=0)
    with pytest.raises(UserError, match=r"must lie in \[0, 9\]"):
        train_digit_classifier(images, labels + 1)


def test_file_keeps_weights_and_error(trained, tmp_path):
    network = DigitClassifier()
    network.load_state_dict(trained.state_dict())
    network.test_error = 0.0625
    save_digit_classifier(tmp_path / "digits.safetensors", network)
    loaded = load_digit_classifier(tmp_path / "digits.safetensors")
    assert loaded.test_error == 0.0625
    images, _ = bars(20, seed=4)
    assert torch.equal(loaded.classify(images), trained.classify(images))
    content = (tmp_path / "digits.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(content[: len(content) // 2])
    (tmp_path / "other.safetensors").write_bytes(b"<html>")
    for name in ("half", "other", "absent"):
        with pytest.raises(UserError, match="not a whole digit classifier") as caught:
            load_digit_classifier(tmp_path / f"{name}.safetensors")
        assert "\n" not in str(caught.value)


@pytest.fixture
def mnist(tmp_path) -> Path:
    """A small folder like MNIST's."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for prefix, count, seed in (("train", 300, 6), ("t10k", 40, 7)):
        images, labels = bars(count, seed, side=28)
        header = struct.pack(">IIII", 2051, count, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.numpy().tobytes()))
        header = struct.pack(">II", 2049, count)
        content = header + labels.to(torch.uint8).numpy().tobytes()
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))
    return folder


def test_is_trained_once(mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGO_CACHE", str(tmp_path / "cache"))
    steps = []
    first = digit_classifier(mnist, epochs=1, progress=lambda done, total: steps.append(done))
    assert steps[-1] == 300
    assert 0 <= first.test_error <= 1
    (file,) = (tmp_path / "cache").iterdir()  # no lock is left behind
    assert file.suffix == ".safetensors"
    monkeypatch.setattr(module, "train_digit_classifier", None)
    again = digit_classifier(mnist, epochs=1)
    assert again.test_error == first.test_error
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    with pytest.raises(TypeError):  # another seed is another classifier
        digit_classifier(mnist, epochs=1, seed=1)
    file.write_bytes(b"")
    with pytest.raises(UserError, match="delete it"):
        digit_classifier(mnist, epochs=1)


def test_cache_that_cannot_be_written(mnist, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        digit_classifier(mnist, tmp_path / "file", epochs=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif("IMAGO_TEST_DATA" not in os.environ, reason="set IMAGO_TEST_DATA to a folder with mnist/")
def test_real_digits(tmp_path):
    """Karras et al. 2018, appendix E, have 0.4% of errors."""
    assert digit_classifier(Path(os.environ["IMAGO_TEST_DATA"]) / "mnist", tmp_path).test_error <= 0.006
