import hashlib
import importlib.util
import sys
import types
import urllib.error

import pytest
import torch
from torch import Tensor, nn

from imago.errors import MissingDependencyError, UserError
from imago.metrics.features import inception
from imago.metrics.features.build import build_extractor
from imago.metrics.features.inception import WEIGHTS_DIGEST, WEIGHTS_FILE, InceptionFeatures
from imago.metrics.features.torchscript import TorchScriptFeatures
from imago.metrics.resizing import resize


def pictures(count=3, height=40, width=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- TorchScript ------------------------------------------------------------------------------------------------------


class Means(nn.Module):
    """Features that can be computed by hand: mean and largest value of each channel."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([images.mean(dim=(2, 3)), images.amax(dim=(2, 3))], dim=1)  # (N, 2, 3)


class Published(nn.Module):
    """What StyleGAN's Inception looks like from outside: 2048 features here are 5, and its 1008 classes 4."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(27, 5))
        self.output = nn.Linear(5, 4)

    def forward(
        self, img: Tensor, return_features: bool = False, use_fp16: bool = False, no_output_bias: bool = False
    ) -> Tensor:
        features = self.layers((img.to(torch.float32)[:, :, ::2] - 128) / 128)  # "resized inside"
        if return_features:
            return features
        logits = features @ self.output.weight.T
        if not no_output_bias:
            logits = logits + self.output.bias
        return logits.softmax(dim=1)


class Whole(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean()


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 8 * 8, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.flatten(1))


@pytest.fixture
def saved(tmp_path):
    def save(network):
        path = tmp_path / f"{type(network).__name__.lower()}.pt"
        torch.jit.script(network).save(str(path))
        return path

    return save


def test_any_network_gives_features(saved):
    path, images = saved(Means()), pictures()
    extractor = build_extractor("torchscript", path)
    expected = torch.cat([images.float().mean(dim=(2, 3)), images.float().amax(dim=(2, 3))], dim=1)
    torch.testing.assert_close(extractor(images), expected)
    assert (extractor.size, extractor.has_logits) == (6, False)
    assert sha256(path) in extractor.identity
    assert extractor.protocol == "TorchScript network means.pt, images as they are"
    with pytest.raises(UserError, match="no logits"):
        extractor.features_and_logits(images)


@pytest.mark.parametrize("how", ["tf1", "clean", "box"])
def test_images_are_resized_for_it(saved, how):
    path, images = saved(Fixed()), pictures()
    extractor = TorchScriptFeatures(path, how, side=8)
    expected = torch.jit.load(str(path))(resize(images, 8, how)).detach()
    torch.testing.assert_close(extractor(images), expected)
    assert f"8² ({how})" in extractor.protocol
    assert extractor.identity != TorchScriptFeatures(path, None, side=8).identity


@pytest.mark.parametrize("how", [None, "tf1"])
def test_the_published_inception_resizes_inside(saved, how):
    torch.manual_seed(0)
    network = Published().eval()
    extractor, images = build_extractor("torchscript", saved(network), how), pictures()
    features, logits = extractor.features_and_logits(images)
    with torch.no_grad():
        expected = network(images, return_features=True)
        torch.testing.assert_close(features, expected)
        torch.testing.assert_close(extractor(images), expected)
        torch.testing.assert_close(logits.softmax(dim=1), (expected @ network.output.weight.T).softmax(dim=1))
    assert (extractor.size, extractor.has_logits) == (5, True)
    assert "resized inside (tf1)" in extractor.protocol
    assert TorchScriptFeatures(saved(network)).identity == extractor.identity


def test_the_published_inception_takes_resized_images_as_clean_fid_gives_them(saved):
    torch.manual_seed(0)
    network = Published().eval()
    extractor, images = TorchScriptFeatures(saved(network), "clean"), pictures()
    with torch.no_grad():
        expected = network.layers((resize(images, 299, "clean") - 128) / 128)
    torch.testing.assert_close(extractor(images), expected)
    assert "299² (clean)" in extractor.protocol


def test_probabilities_of_nothing_give_finite_logits(saved):
    network = Published().eval()
    with torch.no_grad():
        network.output.weight *= 1e4
    _, logits = TorchScriptFeatures(saved(network)).features_and_logits(pictures())
    assert torch.isfinite(logits).all()


def test_mistakes_about_torchscript_are_told(saved, tmp_path):
    with pytest.raises(UserError, match=r"weights=.*none.pt: no such file"):
        TorchScriptFeatures(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not a network")
    with pytest.raises(UserError, match=r"text.pt: not a TorchScript network"):
        TorchScriptFeatures(tmp_path / "text.pt")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "state.pt")
    with pytest.raises(UserError, match=r"state.pt: not a TorchScript network"):
        TorchScriptFeatures(tmp_path / "state.pt")
    with pytest.raises(UserError, match=r"whole.pt: the network gives a tensor of shape \(\) for 1 images of 299×299"):
        TorchScriptFeatures(saved(Whole()))
    with pytest.raises(
        UserError, match=r"fixed.pt: the network cannot take images of 299×299: .*mat1 and mat2"
    ) as told:
        TorchScriptFeatures(saved(Fixed()))
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="cannot take images of 40×50"):
        TorchScriptFeatures(saved(Fixed()), side=8)(pictures())
    with pytest.raises(UserError, match="resize='area'"):
        TorchScriptFeatures(saved(Means()), "area")


# --- Inception --------------------------------------------------------------------------------------------------------


class FidelityNetwork(nn.Module):
    """torch-fidelity's interface: uint8 images in, a tuple of the layers that were asked for out."""

    def __init__(self, name, features_list, feature_extractor_weights_path=None):
        super().__init__()
        assert features_list == ["2048", "logits_unbiased"]
        self.weight = torch.load(feature_extractor_weights_path)["weight"]
        self.shapes = []

    def forward(self, images):
        assert images.dtype == torch.uint8
        self.shapes.append(tuple(images.shape[2:]))
        means = images.float().mean(dim=(2, 3))
        return means @ self.weight, means


@pytest.fixture
def fidelity(monkeypatch, tmp_path):
    """A module in torch-fidelity's place, and weights that pass for the published ones; their path."""
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.randn(3, 2048, generator=torch.Generator().manual_seed(0))}, path)
    module = types.SimpleNamespace(FeatureExtractorInceptionV3=FidelityNetwork)
    monkeypatch.setitem(sys.modules, "torch_fidelity", module)
    monkeypatch.setattr(inception, "WEIGHTS_DIGEST", sha256(path))
    return path


def test_inception_resizes_inside_by_default(fidelity):
    images = pictures()
    extractor = build_extractor("inception", fidelity)
    features, logits = extractor.features_and_logits(images)
    torch.testing.assert_close(logits, images.float().mean(dim=(2, 3)))
    torch.testing.assert_close(features, logits @ torch.load(fidelity)["weight"])
    assert torch.equal(extractor(images), features)
    assert extractor._network.shapes == [(40, 50)] * 2
    assert (extractor.size, extractor.has_logits) == (2048, True)
    assert sha256(fidelity) in extractor.identity
    assert "299² (tf1)" in extractor.protocol


@pytest.mark.parametrize("how", ["clean", "box"])
def test_inception_takes_images_that_were_resized_and_rounded(fidelity, how):
    images = pictures()
    extractor = InceptionFeatures(fidelity, how)
    _, logits = extractor.features_and_logits(images)
    expected = resize(images, 299, how).round().clamp(0, 255).mean(dim=(2, 3))
    torch.testing.assert_close(logits, expected)
    assert extractor._network.shapes == [(299, 299)]
    assert f"299² ({how}, rounded)" in extractor.protocol


def test_weights_are_downloaded_to_where_pytorch_keeps_them(fidelity, monkeypatch, tmp_path):
    asked = []

    def download(url, path, digest, progress):
        asked.append((url, digest))
        with open(path, "wb") as file:
            file.write(fidelity.read_bytes())

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):  # the second time it is there
        build_extractor("inception")
    assert len(asked) == 1
    assert asked[0][0].endswith(WEIGHTS_FILE)
    assert (tmp_path / "hub" / "checkpoints" / WEIGHTS_FILE).is_file()


def test_mistakes_about_inception_are_told(fidelity, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=f"none.pth: no such file; expected {WEIGHTS_FILE}"):
        InceptionFeatures(tmp_path / "none.pth")
    with pytest.raises(UserError, match="resize='area'"):
        InceptionFeatures(fidelity, "area")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def unreachable(*arguments, **options):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(UserError, match=rf"Name or service.*{WEIGHTS_FILE}.*put it at .*hub.*or name it by weights="):
        InceptionFeatures()
    monkeypatch.setattr(inception, "WEIGHTS_DIGEST", WEIGHTS_DIGEST)
    with pytest.raises(UserError, match=r"not the published Inception weights .* must be 6726825d"):
        InceptionFeatures(fidelity)


def test_what_inception_needs_is_named(monkeypatch, tmp_path):
    (tmp_path / "torch_fidelity.py").write_text("import torchvision_of_another_torch")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        UserError, match=r"torchvision_of_another_torch.*needs the torchvision that was built for torch"
    ):
        InceptionFeatures()
    (tmp_path / "torch_fidelity.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    importlib.invalidate_caches()
    with pytest.raises(UserError, match=r"nms does not exist\); it needs the torchvision"):
        InceptionFeatures()
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'imago\[fid\]'"):
        InceptionFeatures()


def test_the_published_digest_is_the_one_in_the_files_name():
    assert WEIGHTS_DIGEST.startswith("6726825d")
    assert "6726825d" in WEIGHTS_FILE


# --- by name ----------------------------------------------------------------------------------------------------------


def test_unknown_names_and_missing_files_are_told():
    with pytest.raises(UserError, match="features='resnet': must be one of inception, torchscript, vgg16, face"):
        build_extractor("resnet")
    with pytest.raises(UserError, match="features=torchscript needs weights=, the file of a TorchScript network"):
        build_extractor("torchscript")
    with pytest.raises(UserError, match="features=vgg16 needs weights="):
        build_extractor("vgg16")
