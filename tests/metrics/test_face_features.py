import importlib.util
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imago.data.sources.drawn import DrawnPortraits
from imago.errors import MissingDependencyError, UserError
from imago.metrics.features.build import build_extractor
from imago.metrics.features.face import FaceFeatures, find_face_model
from imago.metrics.kernel import kernel_distance
from imago.metrics.resizing import resize

if importlib.util.find_spec("face_recognition_models") is None:
    pytest.skip("face_recognition_models is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def extractor():
    return FaceFeatures()


def portraits(count, size, first=0):
    source = DrawnPortraits(first + count, size)
    pictures = [source.read(index).image for index in range(first, first + count)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def test_embeddings_are_dlibs_own_of_the_chips(extractor):
    dlib = pytest.importorskip("dlib")
    noise = torch.randint(0, 256, (2, 3, 150, 150), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = torch.cat([portraits(3, 150), noise])  # as large as chips: nothing is resized
    model = dlib.face_recognition_model_v1(str(find_face_model()))
    expected = [np.array(model.compute_face_descriptor(image.permute(1, 2, 0).numpy().copy())) for image in images]
    features = extractor(images)
    assert features.dtype == torch.float32
    assert features.shape == (5, extractor.size)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(features, expected, atol=2e-6)


def test_images_of_any_size_are_brought_to_chips(extractor):
    images = portraits(2, 256)
    chips = resize(images, 150, "clean").round().clamp(0, 255).to(torch.uint8)
    assert torch.equal(extractor(images), extractor(chips))
    assert "clean" in extractor.protocol
    other = FaceFeatures(resize="box")
    assert not torch.equal(other(images), extractor(images))
    assert "box" in other.protocol
    assert other.identity != extractor.identity


def test_batches_do_not_matter(extractor):
    images = portraits(4, 64)
    parts = torch.cat([extractor(images[:1]), extractor(images[1:])])
    torch.testing.assert_close(parts, extractor(images), atol=1e-6, rtol=0)


def test_a_portrait_is_nearer_to_itself_at_another_size_than_to_others(extractor):
    small, large = extractor(portraits(4, 128)), extractor(portraits(4, 256))
    assert torch.cdist(small, large).argmin(dim=1).tolist() == [0, 1, 2, 3]


@pytest.mark.skipif("IMAGO_TEST_DATA" not in os.environ, reason="set IMAGO_TEST_DATA to a folder with faces128.zip")
def test_real_faces_are_nearer_to_real_faces_than_drawn_ones_are(extractor):
    with zipfile.ZipFile(Path(os.environ["IMAGO_TEST_DATA"]) / "faces128.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[:48]
        pictures = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
    real = extractor(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))
    drawn = extractor(portraits(24, 128))
    alike, apart = (kernel_distance(real[:24], other, subset_size=24)[0] for other in (real[24:], drawn))
    assert alike < 0.2 * apart


def test_mistakes_are_told(extractor, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such file; expected dlib's"):
        FaceFeatures(tmp_path / "model.dat")
    model = find_face_model().read_bytes()
    other = find_face_model().with_name("shape_predictor_5_face_landmarks.dat").read_bytes()
    for content in (b"", b"something else", model[:1_000_000], model.replace(b"fc_2", b"fc_1"), other):
        (tmp_path / "model.dat").write_bytes(content)
        with pytest.raises(UserError, match=r"model.dat: not dlib's face recognition model"):
            FaceFeatures(tmp_path / "model.dat")
    with pytest.raises(UserError, match="resize='nearest'"):
        FaceFeatures(resize="nearest")
    with pytest.raises(UserError, match="uint8"):
        extractor(torch.zeros(1, 3, 64, 64))
    with pytest.raises(UserError, match="no logits"):
        extractor.features_and_logits(portraits(1, 64))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"face_recognition_models.*imago\[faces\]"):
        FaceFeatures()


def test_it_is_built_by_its_name():
    assert isinstance(build_extractor("face"), FaceFeatures)
