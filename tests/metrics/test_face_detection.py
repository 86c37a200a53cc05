import importlib.util
import math

import numpy as np
import pytest
import torch

from imago.data.sources.drawn import DrawnPortraits
from imago.errors import MissingDependencyError, UserError
from imago.metrics import face_detection as module
from imago.metrics.face_detection import FaceDetection, face_detection, face_scores

needs_dlib = pytest.mark.skipif(importlib.util.find_spec("dlib") is None, reason="dlib is not installed")


def portraits(count, size):
    source = DrawnPortraits(count, size)
    return torch.from_numpy(np.stack([source.read(i).image for i in range(count)])).permute(0, 3, 1, 2)


def noise(count, size):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8))


@needs_dlib
@pytest.mark.parametrize("size", [32, 48, 64, 128, 256, 512])
def test_drawn_portraits_are_found_at_every_size_and_noise_is_not(size):
    rate, confidence = face_detection(portraits(8, size))
    assert rate == 1
    assert 0.5 < confidence < 4
    rate, confidence = face_detection(noise(3, size))
    assert rate == 0
    assert math.isnan(confidence)


@needs_dlib
def test_scores_are_those_of_the_detector():
    import dlib

    images = torch.cat([portraits(2, 64), noise(1, 64)])
    scores = face_scores(images)
    detector = dlib.get_frontal_face_detector()
    for image, score in zip(images, scores.tolist(), strict=True):
        framed = np.full((102, 102, 3), 128, dtype=np.uint8)  # 0.3 · 64, rounded, on each side
        framed[19:83, 19:83] = image.permute(1, 2, 0)
        found = detector.run(framed, 1, 0.0)[1]
        assert score == max(found) if len(found) else math.isnan(score)


@pytest.mark.parametrize(("size", "doublings"), [(16, 3), (32, 2), (48, 2), (64, 1), (65, 1), (127, 1), (128, 0)])
def test_small_images_are_doubled(size, doublings, monkeypatch):
    seen = []

    class Detector:
        def run(self, image, upsample, threshold):
            seen.append((image.shape, upsample, threshold))
            return [], [], []

    monkeypatch.setattr(module, "_detector", Detector)
    monkeypatch.setattr(module, "_require_dlib", lambda: None)
    face_scores(noise(1, size), 0.25)
    side = size + 2 * round(0.3 * size)
    assert seen == [((side, side, 3), doublings, 0.25)]


@needs_dlib
def test_grey_images_and_thresholds():
    images = portraits(4, 64)
    grey = images.float().mean(dim=1, keepdim=True).to(torch.uint8)
    assert face_detection(grey)[0] == 1
    assert face_detection(images, threshold=50)[0] == 0


@needs_dlib
def test_metric_equals_the_function_and_merges_processes():
    images = torch.cat([portraits(6, 64), noise(3, 64)])[[0, 6, 1, 2, 7, 3, 4, 8, 5]]
    rate, confidence = face_detection(images)
    whole, one, two = FaceDetection(), FaceDetection(), FaceDetection()
    for part in images.split(4):
        whole.update(part)
    expected = {"images": 9, "rate": rate, "confidence": pytest.approx(confidence)}
    assert whole.compute() == expected
    one.update(images[:2])
    two.update(images[2:])
    names = {id(getattr(one, name)): name for name in ("images", "faces", "confidence")}
    one.dist_sync_fn = lambda state, group=None: [getattr(process, names[id(state)]) for process in (one, two)]
    one.distributed_available_fn = lambda: True
    assert one.compute() == expected


def test_errors(monkeypatch):
    if module.importlib.util.find_spec("dlib") is not None:
        with pytest.raises(UserError, match="empty set"):
            FaceDetection().compute()
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"imago\[faces\]"):
        FaceDetection()
    with pytest.raises(MissingDependencyError, match=r"imago\[faces\]"):
        face_detection(noise(1, 32))
