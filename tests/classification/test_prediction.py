"""Answers of a network, pseudo-labels from them, and the file that keeps it."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from imago.classification.benchmark import build_benchmark
from imago.classification.classifier_file import CLASSIFIER_FILE, load_classifier, save_classifier
from imago.classification.figures import figure_name
from imago.classification.options import ClassificationOptions
from imago.classification.prediction import evaluate, probabilities, pseudo_labels
from imago.classification.report import Row, report, report_table
from imago.errors import UserError
from imago.networks import ProgressiveDiscriminator
from imago.networks.attribute_classifier import AttributeClassifier
from imago.networks.serialization import load_generator, read_description
from imago.upres.loading import load_stage


@pytest.fixture
def network(bar_pack):
    torch.manual_seed(0)
    return AttributeClassifier({c.name: c.values for c in bar_pack.label_columns}, 16, base_width=8, max_width=16)


@pytest.fixture(scope="module")
def built(bar_pack):
    return build_benchmark(bar_pack, ClassificationOptions(), 16)


def test_probabilities_are_the_softmax_of_every_image(network, built):
    found = probabilities(network, built.train)  # 168 images: more than one chunk
    pixels = built.train.images(np.arange(len(built.train))).float() / 127.5 - 1
    for one, logits in zip(found, network(pixels), strict=True):
        torch.testing.assert_close(one, logits.detach().exp() / logits.detach().exp().sum(1, keepdim=True))


def test_pseudo_labels_fill_what_is_unknown_where_the_network_is_sure():
    answers = [torch.tensor([[0.95, 0.05], [0.2, 0.8], [0.1, 0.9]]), torch.tensor([[0.3, 0.3, 0.4]] * 3)]
    labels = np.array([[-1, 0], [-1, -1], [0, -1]])
    filled = pseudo_labels(answers, labels, 0.9)
    assert filled.tolist() == [[0, 0], [-1, -1], [0, -1]]
    assert labels.tolist() == [[-1, 0], [-1, -1], [0, -1]]
    assert pseudo_labels(answers, labels, 0.4).tolist() == [[0, 0], [1, 2], [0, 2]]


def test_the_report_says_what_was_counted(network, built):
    scores = evaluate(network, built.test, built.attributes)
    numbers = report(built, {"real": Row(built.train, 64, 0.5, scores)}, {"seed": 0})
    assert json.loads(json.dumps(numbers)) == numbers
    for k, attribute in enumerate(numbers["attributes"]):
        labels = built.test.labels[:, k]
        train = built.train.labels[:, k]
        assert attribute["counts"]["test"] == [int((labels == v).sum()) for v in range(len(attribute["values"]))]
        most = np.bincount(train).argmax()
        assert attribute["majority"]["accuracy"] == pytest.approx((labels == most).mean())
        assert np.array(attribute["real"]["confusion"]).sum() == 48
    table = report_table(numbers)
    first = numbers["attributes"][0]
    shown = [
        f"{100 * first[row][score]:.1f}"
        for score in ("accuracy", "balanced_accuracy", "macro_f1")
        for row in ("majority", "real")
    ]
    assert f"| Main Colour | 3 | {' | '.join(shown)} |" in table
    assert "168 train, 24 validation, 48 test images; no two parts share an image" in table


def test_a_classifier_is_kept_in_a_file(network, tmp_path):
    save_classifier(tmp_path / CLASSIFIER_FILE, network, 640)
    again = load_classifier(tmp_path)
    images = torch.randn(3, 3, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(network(images), again(images), strict=True))
    assert again.attributes == network.attributes
    assert not again.training


def test_files_that_hold_no_classifier(network, tmp_path):
    def refused(path):
        with pytest.raises(UserError) as caught:
            load_classifier(path)
        return str(caught.value)

    assert "no such file" in refused(tmp_path)
    path = tmp_path / CLASSIFIER_FILE
    path.write_bytes(b"nothing")
    assert "not a whole .safetensors file" in refused(path)
    for name, config in (("ProgressiveDiscriminator", {}), ("os.system", {"command": "true"})):
        save_file({"a": torch.zeros(1)}, path, {"imago": json.dumps({"format": 1, "network": name, "config": config})})
        assert "not a classifier of imago" in refused(path)
    description = {"format": 1, "network": "AttributeClassifier", "config": network.config}
    save_file({"a": torch.zeros(1)}, path, {"imago": json.dumps(description)})
    assert "cannot be built" in refused(path)
    assert ProgressiveDiscriminator  # registered, and yet no classifier


@pytest.mark.parametrize("read", [load_generator, read_description, load_stage])
def test_who_wants_pictures_is_told_that_it_is_a_classifier(network, tmp_path, read):
    file, checkpoint = tmp_path / CLASSIFIER_FILE, tmp_path / "last.ckpt"
    save_classifier(file, network, 640)
    torch.save({"network": network.state_dict(), "best": {"images_seen": 640}, "images_seen": 640}, checkpoint)
    for path in (file, checkpoint):
        with pytest.raises(UserError, match=f"{path.name}: holds an attribute classifier, which makes no pictures$"):
            read(path)


def test_figures_stay_in_their_folder():
    assert figure_name("Eyes Color") == "confusion-eyes_color.png"
    assert figure_name("../../etc/passwd") == "confusion-etc_passwd.png"
    assert figure_name("年齢") == "confusion-attribute.png"
