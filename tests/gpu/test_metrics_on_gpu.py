"""Metrics give on a GPU what they give on a CPU, up to rounding."""

import importlib.util

import numpy as np
import pytest
import torch

from imago.metrics import MultiScaleSsim, SlicedWasserstein
from imago.metrics.features.build import build_extractor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def images(seed, count=64, resolution=64):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, 3, resolution // 8, resolution // 8), dtype=np.uint8)
    return torch.from_numpy(np.kron(blocks, np.ones((1, 1, 8, 8), np.uint8)) // 2 + 20)


@pytest.mark.parametrize("memory", [0, 4 << 30])
def test_sliced_wasserstein(memory):
    found = []
    for device in ("cpu", "cuda"):
        metric = SlicedWasserstein(patches=32, directions=64, memory=memory).to(device)
        for real, seed in ((True, 1), (False, 2)):
            metric.update(images(seed).to(device), 0, real=real)
        found.append(list(metric.compute().values()))
    np.testing.assert_allclose(*found, rtol=1e-4)


def test_ms_ssim():
    found = []
    for device in ("cpu", "cuda"):
        metric = MultiScaleSsim().to(device)
        metric.update(images(1).to(device), images(2).to(device))
        found.append(float(metric.compute()))
    np.testing.assert_allclose(*found, rtol=1e-4)


@pytest.mark.skipif(importlib.util.find_spec("face_recognition_models") is None, reason="needs imago[faces]")
def test_face_features():
    torch.backends.cudnn.allow_tf32 = True  # which must not matter
    cpu, gpu = (build_extractor("face", device=device)(images(3, 8, 128)) for device in ("cpu", "cuda"))
    torch.testing.assert_close(cpu, gpu, atol=1e-4, rtol=0)
