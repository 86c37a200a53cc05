"""CelebA as it lies on disks: the official archives, torchvision's flat folder, Kaggle, zips."""

import logging
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data.sources.celeba import CelebA
from imago.data.sources.source import UnreadableImageError

NUMBERS = (1, 2, 3, 9, 10, 11)
ATTRIBUTES = ("5_o_Clock_Shadow", "Male", "Smiling", "Young")
VALUES = {n: ["1" if (n >> bit) & 1 else "-1" for bit in range(4)] for n in NUMBERS}
PARTITION = {1: 0, 2: 0, 3: 1, 9: 2, 10: 0, 11: 2}


def points_of(n: int) -> list[int]:
    return [69 + n, 109, 106, 113, 77, 142, 73, 152, 108, 154]


def text_files(folder: Path, eval_folder: Path | None = None, order: tuple[int, ...] = NUMBERS) -> None:
    """The official text files, spaces as they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    eval_folder = eval_folder or folder
    eval_folder.mkdir(parents=True, exist_ok=True)

    def counted(name: str, header: str, rows: list[str]) -> None:
        (folder / name).write_text(f"{len(rows)}\n{header}\n" + "".join(f"{row}\n" for row in rows))

    jpg = {n: f"{n:06d}.jpg" for n in NUMBERS}
    rows = [f"{jpg[n]} " + " ".join(f"{value:>2}" for value in VALUES[n]) for n in order]
    counted("list_attr_celeba.txt", " ".join(ATTRIBUTES) + " ", rows)
    names = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    rows = [f"{jpg[n]} " + "  ".join(f"{value:>3}" for value in points_of(n)) for n in order]
    counted("list_landmarks_align_celeba.txt", names + " ", rows)
    counted("list_landmarks_celeba.txt", names, rows)
    counted("list_bbox_celeba.txt", "image_id x_1 y_1 width height", [f"{jpg[n]}    {n}  71 226  313" for n in order])
    (eval_folder / "list_eval_partition.txt").write_text("".join(f"{jpg[n]} {PARTITION[n]}\n" for n in order))
    (folder / "identity_CelebA.txt").write_text("".join(f"{jpg[n]} {2880 + n}\n" for n in order))


@pytest.fixture
def aligned(tmp_path: Path, save_image: Any, make_noise: Any) -> Path:
    """A folder of aligned images."""
    folder = tmp_path / "images" / "img_align_celeba"
    for n in NUMBERS:
        save_image(folder / f"{n:06d}.png", make_noise(n, 218, 178))
        (folder / f"{n:06d}.png").rename(folder / f"{n:06d}.jpg")  # exact pixels, to compare
    return folder


def everything(source: CelebA) -> dict[str, Any]:
    items = [source.read(i) for i in range(len(source))]
    return {Path(item.name).stem: (item.image.tobytes(), item.labels, item.five_points) for item in items}


def flat(tmp_path: Path, images: Path) -> Path:  # torchvision
    shutil.copytree(images, tmp_path / "celeba" / "img_align_celeba")
    text_files(tmp_path / "celeba")
    return tmp_path / "celeba"


def official(tmp_path: Path, images: Path) -> Path:
    shutil.copytree(images, tmp_path / "CelebA" / "Img" / "img_align_celeba")
    text_files(tmp_path / "CelebA" / "Anno", tmp_path / "CelebA" / "Eval")
    return tmp_path / "CelebA"


def only_the_images_named(tmp_path: Path, images: Path) -> Path:
    return official(tmp_path, images) / "Img" / "img_align_celeba"


def kaggle(tmp_path: Path, images: Path) -> Path:
    root = tmp_path / "archive"
    shutil.copytree(images, root / "img_align_celeba" / "img_align_celeba")
    header = "image_id," + ",".join(ATTRIBUTES)
    rows = [header, *(f"{n:06d}.jpg," + ",".join(VALUES[n]) for n in NUMBERS)]
    (root / "list_attr_celeba.csv").write_text("\n".join(rows) + "\n")
    rows = ["image_id,partition", *(f"{n:06d}.jpg,{PARTITION[n]}" for n in NUMBERS)]
    (root / "list_eval_partition.csv").write_text("\r\n".join(rows) + "\r\n")
    header = "image_id,lefteye_x,lefteye_y,righteye_x,righteye_y,nose_x,nose_y,"
    header += "leftmouth_x,leftmouth_y,rightmouth_x,rightmouth_y"
    rows = [header, *(f"{n:06d}.jpg," + ",".join(map(str, points_of(n))) for n in NUMBERS)]
    (root / "list_landmarks_align_celeba.csv").write_text("\n".join(rows) + "\n")
    return root


def zip_beside_labels(tmp_path: Path, images: Path) -> Path:
    root = tmp_path / "zipped"
    text_files(root)
    with zipfile.ZipFile(root / "img_align_celeba.zip", "w") as archive:
        for path in images.iterdir():
            archive.write(path, f"img_align_celeba/{path.name}")
    return root


def the_zip_itself(tmp_path: Path, images: Path) -> Path:
    return zip_beside_labels(tmp_path, images) / "img_align_celeba.zip"


def zip_of_everything(tmp_path: Path, images: Path) -> Path:
    root = official(tmp_path, images)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in sorted(root.rglob("*")):
            archive.write(path, path.relative_to(tmp_path))
    return tmp_path / "all.zip"


def png_variant(tmp_path: Path, images: Path) -> Path:
    root = tmp_path / "png"
    shutil.copytree(images, root / "img_align_celeba_png" / "img_align_celeba_png")
    for path in list(root.rglob("*.jpg")):
        path.rename(path.with_suffix(".png"))
    text_files(root)
    return root


def swapped_rows(tmp_path: Path, images: Path) -> Path:
    root = flat(tmp_path, images)
    text_files(root, order=NUMBERS[::-1])
    return root


LAYOUTS = (flat, official, only_the_images_named, kaggle, zip_beside_labels, the_zip_itself, zip_of_everything)


@pytest.mark.parametrize("layout", [*LAYOUTS, png_variant, swapped_rows])
def test_every_layout_gives_the_same(
    layout: Callable[..., Path], tmp_path: Path, aligned: Path, make_noise: Any, keeps_the_contract: Any
):
    source = CelebA(layout(tmp_path, aligned))
    assert source.name == "celeba"
    assert [Path(name).stem for name in source.names] == [f"{n:06d}" for n in NUMBERS]
    for n, (pixels, labels, points) in zip(NUMBERS, everything(source).values(), strict=True):
        assert pixels == make_noise(n, 218, 178)[57:185, 25:153].tobytes()
        expected = dict(zip(ATTRIBUTES, VALUES[n], strict=True))
        assert labels == {**expected, "partition": ("train", "validation", "test")[PARTITION[n]]}
        np.testing.assert_array_equal(points, np.reshape(points_of(n), (5, 2)) - [25, 57])
    keeps_the_contract(source)


def test_options(tmp_path: Path, aligned: Path):
    root = flat(tmp_path, aligned)
    whole = CelebA(root, crop="none", attributes=False, identity=True)
    assert whole.read(0).image.shape == (218, 178, 3)
    assert whole.read(0).labels == {"partition": "train", "identity": "2881"}
    np.testing.assert_array_equal(whole.read(1).five_points, np.reshape(points_of(2), (5, 2)))
    test = CelebA(root, partition="test")
    assert ([Path(name).stem for name in test.names], test.name) == (["000009", "000011"], "celeba_test")
    grey = CelebA(root, channels=1)
    assert grey.read(0).image.shape == (128, 128, 1)
    fingerprints = {source.fingerprint() for source in (whole, test, grey, CelebA(root))}
    assert len(fingerprints) == 4


def test_in_the_wild(tmp_path: Path, save_image: Any, make_noise: Any, keeps_the_contract: Any):
    for n in NUMBERS:
        save_image(tmp_path / "CelebA" / "Img" / "img_celeba" / f"{n:06d}.jpg", make_noise(n, 60 + n, 50))
    text_files(tmp_path / "CelebA" / "Anno", tmp_path / "CelebA" / "Eval")
    source = CelebA(tmp_path / "CelebA", variant="in_the_wild")
    assert source.name == "celeba_in_the_wild"
    assert source.boxes is not None
    for i, n in enumerate(NUMBERS):
        item = source.read(i)
        assert item.image.shape == (60 + n, 50, 3)  # never cropped
        np.testing.assert_array_equal(item.five_points, np.reshape(points_of(n), (5, 2)))
        assert source.boxes[i].tolist() == [n, 71, 226, 313]
    keeps_the_contract(source)


def test_labels_and_images_that_lack_each_other(tmp_path: Path, aligned: Path, caplog: pytest.LogCaptureFixture):
    root = flat(tmp_path, aligned)
    (root / "img_align_celeba" / "000002.jpg").unlink()
    shutil.copy(root / "img_align_celeba" / "000001.jpg", root / "img_align_celeba" / "000500.jpg")
    with caplog.at_level(logging.WARNING):
        source = CelebA(root)
    assert "1 of 6 images are in no label file" in caplog.text
    items = [source.read(i) for i in range(len(source))]
    assert [Path(item.name).stem for item in items] == ["000001", "000003", "000009", "000010", "000011", "000500"]
    assert items[1].labels is not None
    assert items[1].labels["partition"] == "validation"
    assert items[-1].labels is None
    assert items[-1].five_points is None


def test_images_alone_and_of_another_size(tmp_path: Path, aligned: Path, save_image: Any, make_noise: Any, caplog: Any):
    with caplog.at_level(logging.WARNING):
        source = CelebA(aligned)
    assert "no list_attr_celeba.txt or .csv" in caplog.text
    assert source.read(0).labels is None
    save_image(aligned / "000001.jpg", make_noise(0, 128, 128))
    with pytest.raises(UnreadableImageError, match="128x128, an aligned photo is 178x218; crop=none"):
        CelebA(aligned, attributes=False).read(0)
    assert CelebA(aligned, attributes=False, crop="none").read(0).image.shape == (128, 128, 3)


def test_mistakes(tmp_path: Path, aligned: Path, refusal: Any, web_page: bytes):
    assert "variant='wild'" in refusal(CelebA, aligned, variant="wild")
    assert "crop='yes'" in refusal(CelebA, aligned, crop="yes")
    assert "partition='val'" in refusal(CelebA, aligned, partition="val")
    assert "no list_eval_partition.txt or .csv; expected <root>/" in refusal(CelebA, aligned, partition="test")
    assert "no identity_CelebA.txt" in refusal(CelebA, aligned, identity=True)
    assert "variant=aligned" in refusal(CelebA, aligned, variant="in_the_wild")
    (tmp_path / "empty").mkdir()
    assert "no aligned CelebA images; expected <root>/img_align_celeba" in refusal(CelebA, tmp_path / "empty")
    (tmp_path / "empty" / "img_celeba.7z.001").write_bytes(b"7z")
    assert "must be unpacked" in refusal(CelebA, tmp_path / "empty", variant="in_the_wild")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "img_align_celeba.zip").write_bytes(web_page)
    assert "a web page, not a zip: the download failed" in refusal(CelebA, tmp_path / "page")

    root = flat(tmp_path, aligned)
    text = (root / "list_attr_celeba.txt").read_text()
    for content, expected in (
        (web_page.decode(), "a web page, not labels"),
        (text[: len(text) // 2], "is the file whole?"),
        ("\n".join(text.splitlines()[:4]), "2 rows, but the first line says 6"),
        (text.replace("000003.jpg -1", "000003.jpg  x").replace("000003.jpg  1", "000003.jpg  x"), "must be -1 or 1"),
        (text.replace(" Young", ""), "3 columns are named, but the first row has 4 values"),
    ):
        (root / "list_attr_celeba.txt").write_text(content)
        assert expected in refusal(CelebA, root)
    (root / "list_attr_celeba.txt").write_bytes(b"\xff\xfe" + text.encode("utf-16-le"))
    assert "cannot" in refusal(CelebA, root)
    (root / "list_attr_celeba.txt").write_text(text)
    (root / "list_eval_partition.txt").write_text("000001.jpg 3\n")
    assert "expected 0, 1 or 2" in refusal(CelebA, root)


def test_a_truncated_image_is_unreadable_alone(tmp_path: Path, aligned: Path):
    content = (aligned / "000003.jpg").read_bytes()
    (aligned / "000003.jpg").write_bytes(content[: len(content) // 2])
    (aligned / "000009.jpg").write_bytes(b"")
    source = CelebA(aligned, attributes=False)
    for place in (2, 3):
        with pytest.raises(UnreadableImageError):
            source.read(place)
    assert source.read(4).image.shape == (128, 128, 3)
