"""CelebA-HQ in each of the layouts that people have it in."""

import logging
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data.sources.celeba_hq import CelebAHQ
from imago.data.sources.source import UnreadableImageError

ORIGINAL = {0: 119613, 1: 99094, 2: 200121, 9: 10, 10: 162771, 11: 182638}  # idx → orig_idx, from 0
PARTITION = {119613: 0, 99094: 0, 200121: 2, 10: 0, 162771: 1, 182638: 2}


def label_files(folder: Path, reverse: bool = False) -> None:
    """The files of CelebAMask-HQ and CelebA's partition, with the spaces that they have."""
    order = sorted(ORIGINAL, reverse=reverse)
    rows = [f"{i:<12}{ORIGINAL[i]:<12}{ORIGINAL[i] + 1:06d}.jpg" for i in order]
    (folder / "CelebA-HQ-to-CelebA-mapping.txt").write_text("idx         orig_idx    orig_file\n" + "\n".join(rows))
    rows = [f"{i}.jpg  {-1 if i % 2 else 1}  1" for i in order]
    (folder / "CelebAMask-HQ-attribute-anno.txt").write_text("\n".join([f"{len(rows)}", "Male Young", *rows]) + "\n")
    rows = [f"{i + 1:06d}.jpg {code}" for i, code in PARTITION.items()]
    (folder / "list_eval_partition.txt").write_text("\n".join(rows) + "\n")


@pytest.fixture
def mask_hq(tmp_path: Path, save_image: Any, make_noise: Any) -> Path:
    """CelebAMask-HQ as it unpacks, with CelebA's partition put into it."""
    root = tmp_path / "CelebAMask-HQ"
    for i in ORIGINAL:
        save_image(root / "CelebA-HQ-img" / f"{i}.jpg", make_noise(i))
        save_image(root / "CelebAMask-HQ-mask-anno" / "0" / f"{i:05d}_skin.png", make_noise(i))
    label_files(root)
    return root


@pytest.mark.parametrize("at", ["root", "up", "images", "zip", "swapped"])
def test_mask_hq(at: str, mask_hq: Path, tmp_path: Path, zip_of: Any, keeps_the_contract: Any):
    root = {"up": tmp_path, "images": mask_hq / "CelebA-HQ-img"}.get(at, mask_hq)
    if at == "zip":
        root = zip_of(mask_hq, tmp_path / "mask.zip", inside=False)
    if at == "swapped":
        label_files(mask_hq, reverse=True)
    source = CelebAHQ(root)
    assert (source.layout_found, source.name) == ("mask_hq", "celeba_hq_mask_hq")
    items = [source.read(i) for i in range(len(source))]
    assert [int(Path(item.name).stem) for item in items] == [0, 1, 2, 9, 10, 11]
    partitions = ["train", "train", "test", "train", "validation", "test"]
    for item, partition in zip(items, partitions, strict=True):
        male = "-1" if int(Path(item.name).stem) % 2 else "1"
        assert item.labels == {"Male": male, "Young": "1", "partition": partition}
    keeps_the_contract(source)
    test = CelebAHQ(root, partition="test")
    assert [Path(test.item_name(i)).stem for i in range(len(test))] == ["2", "11"]
    assert CelebAHQ(root, attributes=False).read(0).labels == {"partition": "train"}


def test_mask_hq_mistakes(mask_hq: Path, refusal: Any, caplog: pytest.LogCaptureFixture, web_page: bytes):
    mapping = mask_hq / "CelebA-HQ-to-CelebA-mapping.txt"
    text = mapping.read_text()
    mapping.write_text(text.replace("orig_file", "file"))
    assert "no column orig_file" in refusal(CelebAHQ, mask_hq)
    mapping.write_bytes(web_page)
    assert "web page" in refusal(CelebAHQ, mask_hq)
    mapping.unlink()
    assert "partitions need CelebA-HQ-to-CelebA-mapping.txt" in refusal(CelebAHQ, mask_hq, partition="test")
    mapping.write_text(text)
    (mask_hq / "list_eval_partition.txt").unlink()
    assert "partitions need list_eval_partition.txt" in refusal(CelebAHQ, mask_hq, partition="test")
    assert CelebAHQ(mask_hq).read(0).labels == {"Male": "1", "Young": "1"}
    (mask_hq / "CelebAMask-HQ-attribute-anno.txt").unlink()
    with caplog.at_level(logging.WARNING):
        assert CelebAHQ(mask_hq).read(0).labels is None
    assert "so no attributes" in caplog.text


def test_data256x256(tmp_path: Path, save_image: Any, make_noise: Any):
    for i in (1, 2, 10):
        save_image(tmp_path / "data256x256" / f"{i:05d}.jpg", make_noise(i))
    source = CelebAHQ(tmp_path / "data256x256")
    assert source.layout_found == "data256x256"
    assert [source.item_name(i) for i in range(3)] == ["00001.jpg", "00002.jpg", "00010.jpg"]
    assert source.read(0).labels is None


@pytest.mark.parametrize("at", ["root", "up", "train"])
def test_stargan_v2(at: str, tmp_path: Path, save_image: Any, make_noise: Any, keeps_the_contract: Any):
    root = tmp_path / "data" / "celeba_hq"
    names = ("train/female/004963.jpg", "train/male/000016.jpg", "val/female/064603.jpg", "val/male/000032.jpg")
    for i, name in enumerate(names):
        save_image(root / name, make_noise(i))
    source = CelebAHQ({"root": root, "up": tmp_path, "train": root / "train"}[at])
    labels = [source.read(i).labels or {} for i in range(len(source))]
    expected = [("train", "female"), ("train", "male"), ("validation", "female"), ("validation", "male")]
    found = [(row["partition"], row["gender"]) for row in labels]
    assert (source.layout_found, found) == ("stargan_v2", expected[:2] if at == "train" else expected)
    keeps_the_contract(source)
    if at == "root":
        validation = CelebAHQ(root, partition="validation")
        assert [validation.item_name(i) for i in range(len(validation))] == list(names[2:])


def test_other_folders_and_zips(tmp_path: Path, save_image: Any, make_noise: Any, zip_of: Any, refusal: Any):
    for i in (0, 2, 10):
        save_image(tmp_path / "faces" / f"img{i}.png", make_noise(i))
    for root in (tmp_path / "faces", zip_of(tmp_path / "faces", tmp_path / "faces.zip")):
        source = CelebAHQ(root)
        assert source.layout_found == "folder"
        assert [source.item_name(i) for i in range(3)] == ["img0.png", "img2.png", "img10.png"]
    assert "the layout folder tells no partitions" in refusal(CelebAHQ, tmp_path / "faces", partition="test")


def test_data_files(tmp_path: Path, encode: Any, make_noise: Any, keeps_the_contract: Any):
    h5py, pa = pytest.importorskip("h5py"), pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    image = make_noise(0, 16, 16)
    (tmp_path / "h5").mkdir()
    with h5py.File(tmp_path / "h5" / "celeba-hq.h5", "w") as file:
        file["data16x16"] = image.transpose(2, 0, 1)[None]
    (tmp_path / "hub" / "data").mkdir(parents=True)
    cells = pa.array(
        [{"bytes": encode(image), "path": None}], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    for part in ("train", "validation"):
        pq.write_table(pa.table({"image": cells, "label": [1]}), tmp_path / "hub" / "data" / f"{part}-0.parquet")
    for root, layout, count in (
        (tmp_path / "h5", "hdf5", 1),
        (tmp_path / "h5" / "celeba-hq.h5", "hdf5", 1),
        (tmp_path / "hub", "parquet", 2),
        (tmp_path / "hub" / "data" / "train-0.parquet", "parquet", 1),
    ):
        source = CelebAHQ(root)
        assert (source.layout_found, len(source)) == (layout, count)
        np.testing.assert_array_equal(source.read(0).image, image)
        keeps_the_contract(source)
    assert len(CelebAHQ(tmp_path / "hub", partition="validation")) == 1
    assert CelebAHQ(tmp_path / "h5").source.__class__.__name__ == "HDF5Source"


def test_all_of_celeba_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"image": [b"x"] * 202_599}), tmp_path / "train.parquet")
    with caplog.at_level(logging.WARNING):
        source = CelebAHQ(tmp_path)
    assert "202,599 images are all of CelebA, not the 30,000 of CelebA-HQ" in caplog.text
    with pytest.raises(UnreadableImageError, match="not an image"):
        source.read(5)


def test_mistakes(tmp_path: Path, refusal: Any, mask_hq: Path, zip_of: Any):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "celeba-hq.h5").write_bytes(b"HDF")
    packed = zip_of(tmp_path / "files", tmp_path / "files.zip")
    assert "holds hdf5 files: unpack it first" in refusal(CelebAHQ, packed)
    shutil.rmtree(tmp_path / "files")
    (tmp_path / "empty").mkdir()
    assert "expected one of <root>/CelebA-HQ-img/0.jpg" in refusal(CelebAHQ, tmp_path / "empty")
    assert "layout='h5'" in refusal(CelebAHQ, mask_hq, layout="h5")
    assert "no images in the layout stargan_v2" in refusal(CelebAHQ, mask_hq, layout="stargan_v2")
    assert "no *.tfrecords in it" in refusal(CelebAHQ, mask_hq, layout="tfrecords")
    assert "partition='val'" in refusal(CelebAHQ, mask_hq, partition="val")
    assert "did you mean" in refusal(CelebAHQ, tmp_path / "CelebAMask-HP")
    shutil.rmtree(mask_hq / "CelebA-HQ-img")
    (tmp_path / "notes.txt").write_text("hello")
    assert "no CelebA-HQ in it" in refusal(CelebAHQ, tmp_path / "notes.txt")


@pytest.mark.slow
def test_the_partition_of_30000_rows(tmp_path: Path):
    """Sizes at full length: three parts of CelebA's 202,599 photos, whole and in their order."""
    rng = np.random.default_rng(0)
    chosen = rng.permutation(202_599)[:30_000]
    expected = Counter(np.searchsorted([162_770, 182_637], chosen, side="right").tolist())
    root = tmp_path / "CelebA-HQ-img"
    root.mkdir()
    for i in range(30_000):
        (root / f"{i}.jpg").touch()
    rows = [f"{i:<12}{n:<12}{n + 1:06d}.jpg" for i, n in enumerate(chosen.tolist())]
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text("idx  orig_idx  orig_file\n" + "\n".join(rows))
    rows = [f"{n:06d}.jpg {int(n > 162_770) + int(n > 182_637)}" for n in range(1, 202_600)]
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(rows))
    source = CelebAHQ(tmp_path, attributes=False)
    found = Counter(source.source.labels(source.item_name(i))["partition"] for i in range(30_000))
    assert found == {"train": expected[0], "validation": expected[1], "test": expected[2]}
