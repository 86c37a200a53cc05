"""What is trained and tested on, and what is refused."""

import numpy as np
import pytest
from labelled_packs import bars, pack_items

from imago.classification.benchmark import build_benchmark
from imago.classification.options import ClassificationOptions
from imago.data.sources.source import Item
from imago.errors import UserError


def test_parts_hold_the_labels_of_their_images(bar_pack):
    benchmark = build_benchmark(bar_pack, ClassificationOptions(), 16)
    for part in (benchmark.train, benchmark.validation, benchmark.test):
        pixels = part.images(np.arange(len(part))).numpy().astype(int)  # (N, 3, H, W)
        assert (pixels[:, :, 7:9].mean((2, 3)).argmax(1) == 2 - part.labels[:, 0]).all()  # blue, green, red
        brighter_above = pixels[:, :, :8].mean((1, 2, 3)) > pixels[:, :, 8:].mean((1, 2, 3))
        assert (brighter_above == (part.labels[:, 1] == 1)).all()  # bottom, top
    assert benchmark.synthetic is None


def test_a_column_of_one_value_is_left_out_with_a_line(tmp_path):
    items = [Item(item.image, item.name, {**item.labels, "Hat": "no"}) for item in bars(60)]
    items[0].labels["Rare"] = "a"  # known of one image only
    benchmark = build_benchmark(pack_items(items, tmp_path / "p"), ClassificationOptions(), 16)
    assert [a.name for a in benchmark.attributes] == ["Main Colour", "Bar"]
    assert benchmark.skipped == [f"{name}: has one value only in the training part" for name in ("Hat", "Rare")]
    with pytest.raises(UserError, match="nothing to classify"):
        build_benchmark(benchmark.dataset, ClassificationOptions(attributes=["hat"]), 16)


def test_synthetic_sets_come_with_their_labels(bar_pack, tmp_path):
    labelled = pack_items(bars(10, seed=1), tmp_path / "labelled", "labelled")
    bare = pack_items(bars(7, seed=2, labelled=False), tmp_path / "bare", "bare")
    options = ClassificationOptions(synthetic=[str(labelled.path), str(bare.path)])
    benchmark = build_benchmark(bar_pack, options, 16)
    assert len(benchmark.synthetic) == 17
    np.testing.assert_array_equal(benchmark.synthetic.labels[:10], labelled.labels)
    assert (benchmark.synthetic.labels[10:] == -1).all()
    assert benchmark.synthetic_sets == {str(p.path): p.checksum for p in (labelled, bare)}


def test_synthetic_sets_that_do_not_fit(bar_pack, tmp_path):
    def refused(expected, **options):
        with pytest.raises(UserError, match=expected) as caught:
            build_benchmark(bar_pack, ClassificationOptions(**options), 16)
        assert "\n" not in str(caught.value)

    refused("is the labelled data set itself", synthetic=[str(bar_pack.path)])
    bare = pack_items(bars(7, labelled=False), tmp_path / "bare")
    refused("have no labels of these attributes", synthetic=[str(bare.path)], pseudo_labels=False)
    refused("every image of it has a label", use_unlabelled=True)
    small = pack_items(bars(7, side=8), tmp_path / "small", resolution=8)
    refused("holds no resolution 16", synthetic=[str(small.path)])
    refused("no such", synthetic=[str(tmp_path / "nothing")])


@pytest.mark.parametrize(
    "options",
    [
        {"decay": "linear"},
        {"class_weights": "some"},
        {"select_by": "loss"},
        {"epochs": 0},
        {"attributes": []},
        {"validate_every": 0},
        {"betas": [0.9]},
        {"betas": [0.9, 1.0]},
        {"eps": 0},
        {"dropout": 1.0},
        {"confidence": 1.5},
    ],
)
def test_options_that_make_no_sense(options):
    with pytest.raises(UserError, match=f"model.{next(iter(options))} "):
        ClassificationOptions(**options)
