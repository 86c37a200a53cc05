"""FFHQ: nested, flat, zipped, thumbnails, the photos in the wild, and the metadata's landmarks."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data.sources.ffhq import FFHQ

NUMBERS = (0, 7, 999, 1000, 59999, 60000, 69999)


def points_of(number: int, kind: str) -> list[list[float]]:
    rng = np.random.default_rng([number, len(kind)])
    return np.round(rng.uniform(200, 800, (68, 2)), 2).tolist()


def metadata(folder: Path) -> None:
    """ffhq-dataset-v2.json with the keys and the indentation of the published file, in a mixed order."""
    entries = {}
    for number in (*NUMBERS[::-1], 12345):
        path = f"{number - number % 1000:05d}/{number:05d}.png"
        about = {"file_url": "https://drive.google.com/uc?id=x", "file_size": 1, "pixel_size": [1024, 1024]}
        entries[str(number)] = {
            "category": "training" if number < 60000 else "validation",
            "metadata": {"author": 'Ä\\"}{', "license": "Attribution License", "title": "a } b"},
            "image": {**about, "file_path": f"images1024x1024/{path}", "face_landmarks": points_of(number, "image")},
            "thumbnail": {**about, "file_path": f"thumbnails128x128/{path}"},
            "in_the_wild": {
                **about,
                "file_path": f"in-the-wild-images/{path}",
                "face_rect": [1, 2, 3, 4],
                "face_landmarks": points_of(number, "in_the_wild"),
                "face_quad": [[0, 0], [0, 1], [1, 1], [1, 0]],
            },
        }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ffhq-dataset-v2.json").write_text(json.dumps(entries, indent=2, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def ffhq(tmp_path: Path, save_image: Any, make_noise: Any) -> Path:
    """The published folder: images (here 64² for 1024²), thumbnails, photos."""
    root = tmp_path / "ffhq-dataset"
    for number in NUMBERS:
        path = f"{number - number % 1000:05d}/{number:05d}.png"
        save_image(root / "images1024x1024" / path, make_noise(number, 64, 64))
        save_image(root / "thumbnails128x128" / path, make_noise(number, 16, 16))
        save_image(root / "in-the-wild-images" / path, make_noise(number, 70, 90))
    metadata(root)
    return root


@pytest.mark.parametrize("at", ["root", "images", "one folder up", "zip", "flat zip", "stylegan"])
def test_aligned_images(at: str, ffhq: Path, tmp_path: Path, zip_of: Any, make_noise: Any, keeps_the_contract: Any):
    root = ffhq
    if at == "images":
        root = ffhq / "images1024x1024"
    elif at == "one folder up":
        root = tmp_path
    elif at == "zip":
        root = zip_of(ffhq, tmp_path / "all.zip", inside=False)
    elif at in ("flat zip", "stylegan"):
        flat = tmp_path / "flat"
        flat.mkdir()
        for path in (ffhq / "images1024x1024").rglob("*.png"):
            path.rename(flat / (f"img000{path.name}" if at == "stylegan" else path.name))
        root = zip_of(flat, ffhq / "ffhq.zip")  # beside the metadata
    source = FFHQ(root)
    assert (source.name, source.variant, len(source)) == ("ffhq", "images1024x1024", 7)
    for place, number in enumerate(NUMBERS):
        item = source.read(place)
        np.testing.assert_array_equal(item.image, make_noise(number, 64, 64))
        assert item.landmarks is not None
        expected = (np.array(points_of(number, "image")) + 0.5) * 64 / 1024 - 0.5
        np.testing.assert_allclose(item.landmarks, expected, atol=1e-4)
    keeps_the_contract(source)


def test_other_variants(ffhq: Path, keeps_the_contract: Any):
    thumbnails = FFHQ(ffhq, variant="thumbnails128x128")
    item = thumbnails.read(3)
    assert (thumbnails.name, item.image.shape) == ("ffhq_thumbnails128x128", (16, 16, 3))
    expected = (np.array(points_of(1000, "image")) + 0.5) * 16 / 1024 - 0.5
    np.testing.assert_allclose(item.landmarks, expected, atol=1e-4)
    wild = FFHQ(ffhq, variant="in_the_wild")
    item = wild.read(3)
    assert (wild.name, item.image.shape) == ("ffhq_in_the_wild", (70, 90, 3))
    np.testing.assert_allclose(item.landmarks, points_of(1000, "in_the_wild"), atol=1e-4)
    keeps_the_contract(wild)
    assert FFHQ(ffhq / "thumbnails128x128").variant == "thumbnails128x128"
    assert len({FFHQ(ffhq).fingerprint(), thumbnails.fingerprint(), wild.fingerprint()}) == 3


def test_parts(ffhq: Path):
    train, validation = FFHQ(ffhq, part="train"), FFHQ(ffhq, part="validation")
    assert [int(Path(name).stem) for name in train.names] == [0, 7, 999, 1000, 59999]
    assert [int(Path(name).stem) for name in validation.names] == [60000, 69999]
    np.testing.assert_allclose(
        (validation.read(0).landmarks[0] + 0.5) * 16 - 0.5, points_of(60000, "image")[0], atol=1e-3
    )
    assert validation.name == "ffhq_validation"


def test_images_without_metadata(ffhq: Path, caplog: pytest.LogCaptureFixture, save_image: Any, make_noise: Any):
    save_image(ffhq / "images1024x1024" / "00000" / "00500.png", make_noise(0))
    assert FFHQ(ffhq).read(2).landmarks is None
    (ffhq / "ffhq-dataset-v2.json").unlink()
    assert FFHQ(ffhq, landmarks=False).read(0).landmarks is None
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert FFHQ(ffhq).read(0).landmarks is None
    assert "no ffhq-dataset-v2.json, so no landmarks" in caplog.text


def test_mistakes(ffhq: Path, tmp_path: Path, refusal: Any, web_page: bytes, save_image: Any, make_noise: Any):
    assert "variant='wild'" in refusal(FFHQ, ffhq, variant="wild")
    assert "part='test'" in refusal(FFHQ, ffhq, part="test")
    (tmp_path / "empty").mkdir()
    assert "expected <root>/images1024x1024/00000/00000.png" in refusal(FFHQ, tmp_path / "empty")
    assert "no FFHQ images" in refusal(FFHQ, ffhq / "thumbnails128x128", variant="in_the_wild")
    path = ffhq / "ffhq-dataset-v2.json"
    text = path.read_text(encoding="utf-8")
    for content, expected in (
        (text[: len(text) // 2], "damaged or truncated JSON"),
        (text[:-1], "damaged or truncated JSON"),
        (web_page.decode(), "a web page"),
        ("[]", "damaged"),
        (text.replace("face_landmarks", "landmarks"), "has no 68 points in image.face_landmarks"),
    ):
        path.write_text(content, encoding="utf-8")
        assert expected in refusal(FFHQ, ffhq)
    save_image(ffhq / "images1024x1024" / "00007.png", make_noise(1))
    assert "have the same number" in refusal(FFHQ, ffhq, landmarks=False)
