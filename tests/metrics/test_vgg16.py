import hashlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from imago.errors import UserError
from imago.metrics.features.vgg16 import CONVOLUTIONS, LAYERS, Vgg16, Vgg16Features, load_vgg16

# torchvision's numbering of the convolutions, and where it pools (before the layer).
INDICES = dict(zip(CONVOLUTIONS, (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), strict=True))
POOLED_BEFORE = {"conv2_1", "conv3_1", "conv4_1", "conv5_1"}


def hankel(generator: torch.Generator, shape: torch.Size, fan_in: int) -> torch.Tensor:
    """Random weights of any size in little memory and, saved, on little disk: rows are one sequence, moved on by 7."""
    rows, columns = shape[0], shape[1:].numel()
    base = torch.randn(7 * rows + columns, generator=generator) * (2 / fan_in) ** 0.5
    flat = base.as_strided((rows, columns), (7, 1))
    strides = [7]
    for dim in range(1, len(shape)):
        strides.append(shape[dim + 1 :].numel())
    return flat.as_strided(tuple(shape), tuple(strides))


def weights_of(shapes) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    weights = {}
    for name, shape in shapes.items():
        if name.endswith("bias"):
            weights[name] = torch.randn(shape, generator=generator) * 0.1
        else:
            weights[name] = hankel(generator, shape, shape[1:].numel())
    return weights


@pytest.fixture(scope="module")
def shapes():
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in Vgg16().state_dict().items()}


@pytest.fixture(scope="module")
def file(shapes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save(weights_of(shapes), path)
    return path


def reference(images: torch.Tensor, weights, until: str) -> dict[str, torch.Tensor]:
    """VGG16 from its paper, one layer after the other; images in [0, 255]."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (images / 255 - mean.to(images)[:, None, None]) / std.to(images)[:, None, None]
    found = {}
    for name, index in INDICES.items():
        if name in POOLED_BEFORE:
            x = F.max_pool2d(x, 2)
        weight, bias = (weights[f"features.{index}.{kind}"].to(images) for kind in ("weight", "bias"))
        x = F.conv2d(x, weight, bias, padding=1).clamp(min=0)
        found[name] = x
        if name == until:
            return found
    x = F.max_pool2d(x, 2).reshape(len(x), -1)
    for name, index in (("fc1", 0), ("fc2", 3)):
        weight, bias = (weights[f"classifier.{index}.{kind}"].to(images) for kind in ("weight", "bias"))
        found[name] = x = (x @ weight.T + bias).clamp(min=0)
    return found


def test_layout_and_size_are_those_of_torchvision(shapes):
    assert sum(shape.numel() for shape in shapes.values()) == 138_357_544
    convolutions = [f"features.{index}.{kind}" for index in INDICES.values() for kind in ("weight", "bias")]
    linear = [f"classifier.{index}.{kind}" for index in (0, 3, 6) for kind in ("weight", "bias")]
    assert list(shapes) == convolutions + linear
    assert shapes["classifier.0.weight"] == (4096, 25088)
    assert shapes["classifier.6.weight"] == (1000, 4096)
    assert LAYERS[:3] == ("conv1_1", "conv1_2", "conv2_1")
    assert LAYERS[-4:] == ("conv5_3", "fc1", "fc2", "fc3")


def test_activations_against_float64(file):
    network, weights = load_vgg16(file), torch.load(file)
    images = torch.randint(0, 256, (2, 3, 48, 32), generator=torch.Generator().manual_seed(0)).double()
    layers = ["conv5_2", *CONVOLUTIONS[:-1]]
    found = network((images / 127.5 - 1).float(), layers)
    expected = reference(images, weights, "conv5_2")
    assert list(found) == list(dict.fromkeys(layers))
    for name, activations in found.items():
        scale = expected[name].abs().max()
        assert scale > 1e-3
        torch.testing.assert_close(activations.double() / scale, expected[name] / scale, rtol=0, atol=1e-5)


def test_fully_connected_features_against_float64(file):
    extractor, weights = Vgg16Features(file, "box"), torch.load(file)
    images = torch.randint(0, 256, (1, 3, 112, 112), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    doubled = images.repeat_interleave(2, 2).repeat_interleave(2, 3)  # what "box" makes of it
    features = extractor(images)
    expected = reference(doubled.double(), weights, "fc2")["fc2"]
    assert features.shape == (1, extractor.size)
    assert features.dtype == torch.float32
    scale = expected.max()
    torch.testing.assert_close(features.double() / scale, expected / scale, rtol=0, atol=1e-5)
    assert not extractor.has_logits
    with pytest.raises(UserError, match="no logits"):
        extractor.features_and_logits(images)


def test_identity_and_protocol(file):
    box, default = Vgg16Features(file, "box"), Vgg16Features(file)
    assert box.identity != default.identity
    assert hashlib.sha256(file.read_bytes()).hexdigest()[:16] in default.identity
    assert default.protocol == "VGG16 fc2, images at 224² (tf1)"


def test_wrong_files(file, tmp_path):
    def refusal(path, **arguments):
        with pytest.raises(UserError) as caught:
            Vgg16Features(path, **arguments)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such file" in refusal(tmp_path / "absent.pth")
    assert "download.pytorch.org" in refusal(tmp_path / "absent.pth")
    (tmp_path / "page.pth").write_text("<html>404</html>")
    assert "not a file of weights" in refusal(tmp_path / "page.pth")
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    assert "another network" in refusal(tmp_path / "other.pth")
    wrong = torch.load(file)
    wrong["features.0.weight"] = torch.zeros(64, 1, 3, 3)
    torch.save(wrong, tmp_path / "grey.pth")
    assert "features.0.weight has the shape (64, 1, 3, 3)" in refusal(tmp_path / "grey.pth")
    (tmp_path / "vgg16-397923af.pth").write_bytes(file.read_bytes())
    assert "does not begin with 397923af" in refusal(tmp_path / "vgg16-397923af.pth")
    assert "resize='bicubic'" in refusal(file, resize="bicubic")


def test_wrong_images(file):
    network = load_vgg16(file)
    with pytest.raises(UserError, match="layers of VGG16 are conv1_1"):
        network(torch.zeros(1, 3, 32, 32), ["relu1"])
    with pytest.raises(UserError, match="224×224"):
        network(torch.zeros(1, 3, 64, 64), ["fc2"])
    with pytest.raises(UserError, match="conv5_1 of VGG16 needs 16×16 pixels, not 8×8"):
        network(torch.zeros(1, 3, 8, 8), ["conv5_1"])
    with pytest.raises(UserError, match="floating point"):
        network(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ["conv1_1"])
