"""The recipe of CelebA-HQ on made photos in CelebA's and FFHQ's layouts, and the paper's choice of LSUN."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.data.sources import recipes
from imago.data.sources.recipes import celeba_hq_recipe, in_the_wild, lsun_of_the_paper
from imago.data.sources.source import SkippedImageError
from imago.errors import UserError
from imago.faces.landmarks import five_points

SMALL: Any = {"size": 64, "supersample": 128}
MARKS = ((255, 0, 0), (0, 0, 255))  # on the eyes
PLACES = ((10, 30), (55, 5))  # of a portrait of 128² in a photo of 160 × 200, x and y


def photo_of(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A grey photo with a drawn portrait in it, and the 68 landmarks."""
    portrait, landmarks = draw_portrait(sample_attributes(7, index), 128)
    (x, y), photo = PLACES[index], np.full((160, 200, 3), 128, dtype=np.uint8)
    photo[y : y + 128, x : x + 128] = portrait
    return photo, landmarks + np.array([x, y])


@pytest.fixture
def celeba(tmp_path: Path, save_image: Any) -> Path:
    header = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    rows = []
    for index in range(2):
        photo, landmarks = photo_of(index)
        for (x, y), colour in zip(np.round(five_points(landmarks)[:2]).astype(int), MARKS, strict=True):
            photo[y - 4 : y + 5, x - 4 : x + 5] = colour
        save_image(tmp_path / "celeba" / "img_celeba" / f"{index + 1:06d}.jpg", photo)
        numbers = " ".join(str(round(value)) for value in five_points(landmarks).ravel())
        rows.append(f"{index + 1:06d}.jpg {numbers}")
    (tmp_path / "celeba" / "list_landmarks_celeba.txt").write_text("\n".join(["2", header, *rows, ""]))
    return tmp_path / "celeba"


def test_celeba_is_aligned_by_its_annotation(celeba: Path):
    """Appendix C: the eyes lie 0.1·|y| above the centre of a square of side max(4|x|, 3.6|y|), level and centred."""
    source = celeba_hq_recipe(celeba, **SMALL)
    assert len(source) == 2
    for index in range(2):
        item = source.read(index)
        assert item.image.shape == (64, 64, 3)
        assert item.name == source.item_name(index)
        five = np.round(five_points(photo_of(index)[1]))
        x, y = five[1] - five[0], five[:2].mean(axis=0) - five[3:].mean(axis=0)
        centre = five[:2].mean(axis=0) - 0.1 * y
        side = max(4 * np.linalg.norm(x), 3.6 * np.linalg.norm(y))
        rotated = np.array([-y[1], y[0]])  # to the right, in a picture whose y axis points down
        across = (x + rotated) / np.linalg.norm(x + rotated)
        for eye, channel in zip(five[:2], (0, 2), strict=True):
            offset = (eye - centre) / side
            place = (np.array([offset @ across, offset @ [-across[1], across[0]]]) + 0.5) * 64 - 0.5
            marked = np.argwhere(
                (item.image[..., channel] > 180) & (np.delete(item.image, channel, 2) < 90).all(axis=2)
            )
            np.testing.assert_allclose(marked.mean(axis=0)[::-1], place, atol=0.6)


def test_ffhq_is_told_by_its_metadata_and_aligned_by_its_landmarks(tmp_path: Path, save_image: Any):
    metadata = {}
    for index in range(2):
        photo, landmarks = photo_of(index)
        save_image(tmp_path / "in-the-wild-images" / "00000" / f"{index:05d}.png", photo)
        wild = {"file_path": f"in-the-wild-images/00000/{index:05d}.png", "face_landmarks": landmarks.tolist()}
        metadata[str(index)] = {"in_the_wild": {**wild, "pixel_size": [200, 160]}}
    (tmp_path / "ffhq-dataset-v2.json").write_text(json.dumps(metadata))
    source = celeba_hq_recipe(tmp_path, **SMALL)
    for index in range(2):
        item = source.read(index)
        eyes = five_points(item.landmarks)[:2]
        assert eyes[:, 1].mean() == pytest.approx(0.482 * 64, abs=1.0)  # 494 of 1024, as in CelebA-HQ
        assert eyes.mean(axis=0)[0] == pytest.approx(31.5, abs=1.5)


def test_photos_in_the_wild(tmp_path: Path, save_image: Any):
    save_image(tmp_path / "a.png", photo_of(0)[0])
    save_image(tmp_path / "b.png", np.full((90, 90, 3), 90, dtype=np.uint8))
    source = in_the_wild(tmp_path, **SMALL)
    item = source.read(0)
    _, landmarks = photo_of(0)
    assert item.image.shape == (64, 64, 3)
    assert item.landmarks is not None
    assert np.isfinite(landmarks).all()
    with pytest.raises(SkippedImageError, match="no face found"):
        source.read(1)
    with pytest.raises(UserError, match="no such folder"):
        in_the_wild(tmp_path / "no")
    with pytest.raises(UserError, match="expected"):
        celeba_hq_recipe(tmp_path)


def test_the_papers_number_of_lsun_images(monkeypatch: pytest.MonkeyPatch):
    """Appendix G: 100,000 images of each category, all of bedroom and dog."""
    asked: list[tuple[str, int | None]] = []
    monkeypatch.setattr(recipes, "LSUN", lambda root, category, split, count, *rest: asked.append((category, count)))
    for category, given in (("cat", None), ("bedroom", None), ("dog", None), ("cat", 0), ("dog", 7)):
        lsun_of_the_paper("somewhere", category, max_images=given)
    assert asked == [("cat", 100_000), ("bedroom", None), ("dog", None), ("cat", None), ("dog", 7)]
