"""CRC-32C, TFRecords, HDF5 and parquet, written by independent writers and read back."""

import json
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imago.data.sources.crc32c import crc32c, masked_crc32c
from imago.data.sources.hdf5 import HDF5Source
from imago.data.sources.parquet import ParquetSource
from imago.data.sources.source import UnreadableImageError
from imago.data.sources.tfrecords import TFRecordSource

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 3, 16, 16), dtype=np.uint8)  # (N, C, H, W)


# --- CRC-32C


def slow_crc32c(content: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_crc32c_of_known_messages():
    assert crc32c(b"") == 0
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize("length", [1, 1023, 1024, 4095, 4096, 4097, 9216, 13000, 40000])
def test_crc32c_is_that_of_the_bitwise_definition(length: int):
    content = np.random.default_rng(length).bytes(length)
    assert crc32c(content) == slow_crc32c(content)


# --- TFRecords, framed by TensorBoard, encoded by protobuf


def example_class() -> Any:
    """tf.train.Example, declared as in TensorFlow's example.proto and feature.proto."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="example_for_tests.proto", package="tf", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple[str, int, int, str, bool]) -> None:
        declared = file.message_type.add(name=name)
        for called, number, kind, type_name, repeated in fields:
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            declared.field.add(name=called, number=number, type=kind, type_name=type_name or None, label=label)

    message("BytesList", ("value", 1, field.TYPE_BYTES, "", True))
    message("FloatList", ("value", 1, field.TYPE_FLOAT, "", True))
    message("Int64List", ("value", 1, field.TYPE_INT64, "", True))
    lists = [("bytes_list", ".tf.BytesList"), ("float_list", ".tf.FloatList"), ("int64_list", ".tf.Int64List")]
    message("Feature", *((name, i, field.TYPE_MESSAGE, kind, False) for i, (name, kind) in enumerate(lists, 1)))
    message("Features", ("feature", 1, field.TYPE_MESSAGE, ".tf.Features.FeatureEntry", True))
    entry = file.message_type[-1].nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=field.TYPE_MESSAGE, type_name=".tf.Feature", label=field.LABEL_OPTIONAL
    )
    message("Example", ("features", 1, field.TYPE_MESSAGE, ".tf.Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tf.Example"))


def write_tfrecords(path: Path, images: np.ndarray, **more: Any) -> None:
    writer_of = pytest.importorskip("tensorboard.summary.writer.record_writer")
    example = example_class()
    with open(path, "wb") as file:
        writer = writer_of.RecordWriter(file)
        for image in images:
            record = example()
            record.features.feature["shape"].int64_list.value.extend(image.shape)
            record.features.feature["data"].bytes_list.value.append(image.tobytes())
            record.features.feature["weight"].float_list.value.append(0.5)
            writer.write(record.SerializeToString())


@pytest.fixture
def tfrecords(tmp_path: Path) -> Path:
    """A data set as PGGAN's tool writes it, at 8² and 16²."""
    folder = tmp_path / "celebahq"
    folder.mkdir()
    write_tfrecords(folder / "celebahq-r03.tfrecords", IMAGES[:, :, ::2, ::2])
    write_tfrecords(folder / "celebahq-r04.tfrecords", IMAGES)
    return folder


def test_tfrecords_of_the_largest_resolution(tfrecords: Path, keeps_the_contract: Any):
    source = TFRecordSource(tfrecords)
    assert (source.name, len(source), source.item_name(3)) == ("celebahq", 7, "celebahq-r04/0000003")
    for i, image in enumerate(IMAGES):
        np.testing.assert_array_equal(source.read(i).image, image.transpose(1, 2, 0))
        assert source.read(i).labels is None
    keeps_the_contract(source)
    assert TFRecordSource(tfrecords / "celebahq-r03.tfrecords").read(0).image.shape == (8, 8, 3)
    assert len(TFRecordSource(tfrecords.parent)) == 7  # one folder up


def test_tfrecord_labels(tfrecords: Path):
    classes = [3, 1, 0, 2, 2, 1, 3]
    with open(tfrecords / "celebahq-rxx.labels", "wb") as file:
        np.save(file, np.eye(4, dtype=np.float32)[classes])
    source = TFRecordSource(tfrecords)
    assert [(source.read(i).labels or {})["label"] for i in range(7)] == [str(c) for c in classes]
    with open(tfrecords / "celebahq-rxx.labels", "wb") as file:
        np.save(file, np.array([[0.5, -1]] * 7, dtype=np.float32))
    vectors = TFRecordSource(tfrecords)
    assert vectors.read(6).labels == {"label_0": "0.5", "label_1": "-1"}
    assert vectors.fingerprint() != source.fingerprint()


def test_damaged_tfrecords(tfrecords: Path, refusal: Any, web_page: bytes):
    path = tfrecords / "celebahq-r04.tfrecords"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1  # within the pixels of the fourth image
    path.write_bytes(flipped)
    source = TFRecordSource(tfrecords)
    with pytest.raises(UnreadableImageError, match="its CRC differs"):
        source.read(3)
    assert source.read(4).image.shape == (16, 16, 3)
    assert TFRecordSource(tfrecords, verify=False).read(3).image.shape == (16, 16, 3)

    flipped[0] ^= 1  # the length of the first record
    for content, expected in (
        (bytes(flipped), "damaged at its start, or not a TFRecord file"),
        (whole[:-10], "truncated after 6 records"),
        (whole[: len(whole) // 7 + 5], "truncated after 1 records"),
        (b"", "no records in it"),
        (web_page, "a web page"),
    ):
        path.write_bytes(content)
        assert expected in refusal(TFRecordSource, tfrecords)

    def frame(data: bytes) -> bytes:
        length = struct.pack("<Q", len(data))
        crc = struct.pack("<I", masked_crc32c(length))
        return length + crc + data + struct.pack("<I", masked_crc32c(data))

    for data in (b"", b"\x0a", b"\x0a\x7f", b"\xff" * 20, b"hello world", bytes(100)):
        path.write_bytes(frame(data))
        with pytest.raises(UnreadableImageError, match="not a record of PGGAN's"):
            TFRecordSource(path).read(0)


def test_tfrecord_mistakes(tfrecords: Path, tmp_path: Path, refusal: Any):
    assert "did you mean" in refusal(TFRecordSource, tmp_path / "celebahp")
    (tmp_path / "empty").mkdir()
    assert "no *.tfrecords in it; expected <root>/<name>-r02" in refusal(TFRecordSource, tmp_path / "empty")
    (tfrecords / "celebahq-rxx.labels").write_bytes(b"nothing")
    assert "not an npy file" in refusal(TFRecordSource, tfrecords)
    with open(tfrecords / "celebahq-rxx.labels", "wb") as file:
        np.save(file, np.zeros((6, 4), dtype=np.float32))
    assert "expected numbers for 7 images" in refusal(TFRecordSource, tfrecords)
    write_tfrecords(tfrecords / "other-r04.tfrecords", IMAGES)
    assert "several data sets (celebahq, other)" in refusal(TFRecordSource, tfrecords)
    (tmp_path / "empty" / "a.tfrecords").write_bytes(b"")
    assert "not named <name>-rNN" in refusal(TFRecordSource, tmp_path / "empty")


# --- HDF5


@pytest.fixture
def h5(tmp_path: Path) -> Path:
    """A file as PGGAN's h5tool writes it."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "h5" / "celeba-hq.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        for step, name in ((4, "data4x4"), (2, "data8x8"), (1, "data16x16")):
            images = IMAGES[:, :, ::step, ::step]
            maximum, chunks = (None, *images.shape[1:]), (1, *images.shape[1:])
            file.create_dataset(name, data=images, maxshape=maximum, chunks=chunks, compression="gzip")
    return path


def test_hdf5(h5: Path, keeps_the_contract: Any):
    classes = [3, 1, 0, 2, 2, 1, 3]
    np.save(h5.with_name("celeba-hq-labels.npy"), np.eye(4, dtype=np.float32)[classes])
    source = HDF5Source(h5.parent)
    assert (source.dataset, source.name, len(source)) == ("data16x16", "celeba-hq", 7)
    for i, image in enumerate(IMAGES):
        item = source.read(i)
        np.testing.assert_array_equal(item.image, image.transpose(1, 2, 0))
        assert item.labels == {"label": str(classes[i])}
    keeps_the_contract(source)
    small = HDF5Source(h5, dataset="data8x8")
    assert small.read(0).image.shape == (8, 8, 3)
    assert small.fingerprint() != source.fingerprint()


def test_hdf5_mistakes(h5: Path, refusal: Any, web_page: bytes):
    assert "no array 'data9x9' in it; it holds data16x16" in refusal(HDF5Source, h5, dataset="data9x9")
    np.save(h5.with_name("celeba-hq-labels.npy"), np.zeros(3))
    assert "expected numbers for 7 images" in refusal(HDF5Source, h5)
    h5.with_name("celeba-hq-labels.npy").unlink()
    assert "no *.h5 in it" in refusal(HDF5Source, h5.parent.parent)
    content = h5.read_bytes()
    broken = h5.with_name("broken.h5")  # another file: HDF5 keeps what it knows of one that is open
    for damaged, expected in ((web_page, "a web page"), (content[: len(content) // 2], "not a whole HDF5 file")):
        broken.write_bytes(damaged)
        assert expected in refusal(HDF5Source, broken)
    assert "several h5 files (broken.h5, celeba-hq.h5)" in refusal(HDF5Source, h5.parent)
    h5py = pytest.importorskip("h5py")
    floats = h5.with_name("floats.h5")
    with h5py.File(floats, "w") as file:
        file["faces"] = IMAGES.astype(np.float32)
    assert "no arrays named data<H>x<W>; it holds faces" in refusal(HDF5Source, floats)
    assert "is float32 (7, 3, 16, 16), expected uint8 (N, C, H, W)" in refusal(HDF5Source, floats, dataset="faces")


def test_a_damaged_chunk_is_one_unreadable_image(h5: Path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(h5) as file:
        chunk = file["data16x16"].id.get_chunk_info(2)
    with open(h5, "r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\0" * chunk.size)
    source = HDF5Source(h5)
    with pytest.raises(UnreadableImageError):
        source.read(2)
    np.testing.assert_array_equal(source.read(3).image, IMAGES[3].transpose(1, 2, 0))


# --- parquet


def write_parquet(path: Path, cells: Sequence[Any], described: bool = False, group: int = 2, **columns: Any) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    kind = pa.binary() if isinstance(cells[0], bytes) else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, kind), **columns})
    if described:
        features = {
            "image": {"_type": "Image"},
            "label": {"names": ["female", "male"], "_type": "ClassLabel"},
            "n": {"dtype": "int64", "_type": "Value"},
        }
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)


@pytest.fixture
def encoded(encode: Any) -> list[bytes]:
    """The images as PNG files."""
    return [encode(image.transpose(1, 2, 0)) for image in IMAGES]


def test_parquet_shards_of_the_hub(tmp_path: Path, encoded: list[bytes], keeps_the_contract: Any):
    cells = [{"bytes": content, "path": None} for content in encoded]
    folder = tmp_path / "celeba-hq" / "data"
    numbers = {"label": [0, 1, 1, None], "n": [4, 5, 6, 7]}
    write_parquet(folder / "train-00000-of-00002.parquet", cells[:4], described=True, **numbers)
    write_parquet(folder / "train-00001-of-00002.parquet", cells[4:6], described=True, label=[0, -1], n=[1, 2])
    write_parquet(folder / "validation-00000-of-00001.parquet", cells[6:], described=True, label=[1], n=[1])
    source = ParquetSource(tmp_path / "celeba-hq")
    assert (len(source), source.name, source.column, source.label_columns) == (7, "celeba-hq", "image", ["label"])
    assert source.item_name(5) == "train-00001-of-00002/0000001"
    for i, image in enumerate(IMAGES):
        np.testing.assert_array_equal(source.read(i).image, image.transpose(1, 2, 0))
    values = [(source.read(i).labels or {})["label"] for i in range(7)]
    assert values == ["female", "male", "male", "", "female", "", "male"]
    keeps_the_contract(source)
    assert len(ParquetSource(tmp_path / "celeba-hq", split="train")) == 6
    assert len(ParquetSource(folder, split="validation")) == 1
    assert ParquetSource(folder, label_columns=["n"]).read(1).labels == {"n": "5"}


def test_parquet_of_plain_bytes(tmp_path: Path, encoded: list[bytes]):
    write_parquet(tmp_path / "all.parquet", encoded)
    source = ParquetSource(tmp_path / "all.parquet", channels=1)
    assert len(source) == 7
    assert source.read(6).image.shape == (16, 16, 1)
    assert source.read(6).labels is None


def test_parquet_mistakes(tmp_path: Path, encoded: list[bytes], refusal: Any, web_page: bytes):
    path = tmp_path / "train.parquet"
    write_parquet(path, encoded, label=list(range(7)))
    assert "no parquet files of the split 'test'; there are train" in refusal(ParquetSource, tmp_path, split="test")
    assert "split='dev'" in refusal(ParquetSource, tmp_path, split="dev")
    assert "no column img; it holds image, label" in refusal(ParquetSource, tmp_path, column="img")
    assert "no column age" in refusal(ParquetSource, tmp_path, label_columns=["age"])
    content = path.read_bytes()
    for damaged, expected in ((content[:-9], "not a whole parquet"), (web_page, "web page"), (b"", "not a whole")):
        path.write_bytes(damaged)
        assert expected in refusal(ParquetSource, tmp_path)
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"url": ["a"]}), path)
    assert "no column of images; it holds url" in refusal(ParquetSource, tmp_path)
    (tmp_path / "empty").mkdir()
    assert "no *.parquet in it" in refusal(ParquetSource, tmp_path / "empty")


def test_bad_cells_are_unreadable_alone(tmp_path: Path, encoded: list[bytes]):
    cells = [{"bytes": content, "path": None} for content in encoded]
    cells[1] = {"bytes": None, "path": "faces/1.jpg"}
    cells[2] = {"bytes": encoded[2][:-100], "path": None}
    cells[3] = {"bytes": b"", "path": None}
    write_parquet(tmp_path / "x.parquet", cells)
    source = ParquetSource(tmp_path)
    for i, reason in ((1, "only a path"), (2, "truncated"), (3, "empty file")):
        with pytest.raises(UnreadableImageError, match=reason) as caught:
            source.read(i)
        assert caught.value.name == f"x/000000{i}"
    assert source.read(4).image.shape == (16, 16, 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", ["tfrecords", "h5"])
def test_forked_readers_do_not_disturb_each_other(kind: str, request: pytest.FixtureRequest):
    reader: Callable[..., Any] = {"tfrecords": TFRecordSource, "h5": HDF5Source}[kind]
    source = reader(request.getfixturevalue(kind))
    source.read(0)
    child = os.fork()
    for _ in range(20):
        same = all(np.array_equal(source.read(i).image, IMAGES[i].transpose(1, 2, 0)) for i in range(7))
    if child == 0:
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert same
