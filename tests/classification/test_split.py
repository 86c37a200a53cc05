"""Nobody is in two parts: Curtó's owners on a tree as on disk, persons, CelebA's partition."""

import csv
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from labelled_packs import bars, pack_items
from PIL import Image

from imago.classification.benchmark import build_benchmark
from imago.classification.options import ClassificationOptions
from imago.classification.split import split_images
from imago.data import PackedDataset, pack
from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.data.sources.curto import COLUMNS, Curto, owner_of, owner_split, read_labels
from imago.data.sources.source import Item
from imago.errors import UserError

OWNERS = 30
PORTRAITS = 10  # that are drawn; faces look alike, their names differ


@pytest.fixture(scope="module")
def curto_pack(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """Drawn faces as the release of 2019 lies on disk: photos with several faces, mirror images, synthetic faces."""
    root = tmp_path_factory.mktemp("release") / "graphics"
    drawn = [
        (sample_attributes(0, i).labels(), draw_portrait(sample_attributes(0, i), 16)[0]) for i in range(PORTRAITS)
    ]
    rows = []
    draw, index = random.Random(0), 0
    (root / "samples").mkdir(parents=True)
    for owner in range(OWNERS):
        for photo in range(draw.randint(1, 2)):
            for face in range(draw.randint(1, 2)):
                labels, image = drawn[index % PORTRAITS]
                name = f"{4000000000 + 10 * owner + photo}_{index:010x}_1299_{40000000 + owner}@N0{owner % 8}_{face}"
                for ending, pixels in (("", image), ("_mirror", image[:, ::-1])):
                    Image.fromarray(pixels).save(root / "samples" / f"{name}{ending}.png")
                    rows.append([f"{name}{ending}.png", *labels.values()])
                index += 1
    (root / "labels").mkdir()
    with open(root / "labels" / "c&z.csv", "w", newline="") as file:
        csv.writer(file).writerows([["Filename", *COLUMNS], *rows])
    (root / "hdcgan").mkdir()
    for i in range(4):
        Image.fromarray(drawn[i][1]).save(root / "hdcgan" / f"{i}.png")
    source = Curto(root, include_synthetic=True)
    packed = pack(source, root.parent / "pack", resolution=16)
    main, extra = read_labels(root)
    assert len(main) == len(rows)
    assert len(extra) == 0
    packed.expected = owner_split((main, extra), 0.15, 0.2, 3)  # type: ignore[attr-defined]
    return packed


def test_curtos_owners_are_in_one_part_end_to_end(curto_pack):
    options = ClassificationOptions(validation_share=0.15, test_share=0.2, split_seed=3)
    benchmark = build_benchmark(curto_pack, options, 16)
    names = {
        part: [curto_pack.item_name(int(i)) for i in positions] for part, positions in benchmark.split.parts.items()
    }
    owners = {part: {owner_of(name) for name in some} for part, some in names.items()}
    assert len(set.union(*owners.values())) == sum(map(len, owners.values())) == OWNERS
    assert benchmark.split.groups == {part: len(some) for part, some in owners.items()}
    for some in names.values():  # each face beside its mirror image
        stems = Counter(Path(name).stem.removesuffix("_mirror") for name in some)
        assert set(stems.values()) == {2}
    unlabelled = [name for name in curto_pack.names if "hdcgan" in name]
    assert len(unlabelled) == 4
    assert sum(map(len, names.values())) == len(curto_pack) - 4
    # It is the split that the source itself makes from the label files.
    for part, some in owners.items():
        assert {curto_pack.expected[owner] for owner in some} == {part}


def test_curtos_synthetic_faces_are_for_the_second_row(curto_pack):
    options = ClassificationOptions(use_unlabelled=True, validation_share=0.15, test_share=0.2)
    benchmark = build_benchmark(curto_pack, options, 16)
    assert benchmark.synthetic is not None
    assert len(benchmark.synthetic) == 4
    assert (benchmark.synthetic.labels == -1).all()
    found = benchmark.synthetic.images(np.arange(4)).numpy()
    expected = [i for i, name in enumerate(curto_pack.names) if "hdcgan" in name]
    np.testing.assert_array_equal(found, curto_pack.images(np.array(expected), 16))


def test_other_images_are_split_one_by_one(bar_pack):
    labelled = np.ones(len(bar_pack), bool)
    labelled[:40] = False
    split = split_images(bar_pack, labelled, 0.1, 0.25, 0)
    assert {part: len(some) for part, some in split.parts.items()} == {"train": 130, "validation": 20, "test": 50}
    together = np.concatenate(list(split.parts.values()))
    assert sorted(together.tolist()) == list(range(40, 240))
    again, other = split_images(bar_pack, labelled, 0.1, 0.25, 0), split_images(bar_pack, labelled, 0.1, 0.25, 1)
    assert all(np.array_equal(split.parts[part], again.parts[part]) for part in split.parts)
    assert not np.array_equal(split.parts["test"], other.parts["test"])


def with_columns(path: Path, rows: list[dict[str, str]]) -> PackedDataset:
    items = [Item(item.image, item.name, row) for item, row in zip(bars(len(rows)), rows, strict=True)]
    return pack_items(items, path)


def test_persons_stay_together(tmp_path):
    persons = [str(i // 3) for i in range(60)]
    dataset = with_columns(tmp_path / "persons", [{"identity": person, "Smiling": "1"} for person in persons])
    split = split_images(dataset, np.ones(60, bool), 0.2, 0.2)
    found = {part: {persons[i] for i in some} for part, some in split.parts.items()}
    assert {part: len(some) for part, some in split.parts.items()} == {"train": 36, "validation": 12, "test": 12}
    assert sum(map(len, found.values())) == 20
    assert split.kind == "a person"


def test_celebas_partition_is_the_split(tmp_path):
    parts = ["train"] * 20 + ["validation"] * 3 + ["test"] * 5
    dataset = with_columns(
        tmp_path / "all", [{"partition": part, "Smiling": str(i % 2)} for i, part in enumerate(parts)]
    )
    split = split_images(dataset, np.ones(28, bool))
    assert {part: some.tolist() for part, some in split.parts.items()} == {
        "train": list(range(20)),
        "validation": [20, 21, 22],
        "test": [23, 24, 25, 26, 27],
    }
    benchmark = build_benchmark(dataset, ClassificationOptions(), 16)
    assert [a.name for a in benchmark.attributes] == ["Smiling"]  # the partition is no attribute
    only = with_columns(tmp_path / "train", [{"partition": "train", "Smiling": str(i % 2)} for i in range(30)])
    assert {part: len(some) for part, some in split_images(only, np.ones(30, bool)).parts.items()} == {
        "train": 24,
        "validation": 3,
        "test": 3,
    }


def test_too_few_images(bar_pack):
    labelled = np.zeros(len(bar_pack), bool)
    labelled[:4] = True
    with pytest.raises(UserError, match="4 labelled images are too few to split: none in the validation part"):
        split_images(bar_pack, labelled, 0.1, 0.25)
