"""The attribute benchmark from the command line: its report, kills, a second row, mistakes."""

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from labelled_packs import bars, pack_items
from PIL import Image

from accidents import kill_at, patch
from imago.classification.classifier_file import load_classifier
from training_runs import Commands, state_of

OPTIONS = (
    "experiment=classify_attributes",
    "data=packed",
    "resolution=16",
    "model.base_width=8",
    "model.max_width=16",
    "growth={batch_size: 16, learning_rate: 0.01}",
    "model.epochs=8",
    "callbacks.snapshot.every_images=320",
    "callbacks.scalar_log.every_images=160",
    "trainer.accelerator=cpu",
)
FILES = {
    "classification.md",
    "classification.json",
    "confusion-bar.png",
    "confusion-main_colour.png",
    "attribute_classifier.safetensors",
    "metrics.csv",
    "config.yaml",
    "train.log",
}


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packs")
    return {
        "real": pack_items(bars(200), folder / "real").path,
        "bare": pack_items(bars(60, seed=1, labelled=False), folder / "bare", "made").path,
    }


@pytest.fixture(scope="module")
def classify(commands: Commands, packs: dict[str, Path]):
    def run(run_dir: Path, *overrides: str, accident=None):
        return commands.run(
            "train", [*OPTIONS, f"data.path={packs['real']}", f"run_dir={run_dir}", *overrides], accident
        )

    return run


@pytest.fixture(scope="module")
def both_rows(classify, packs, tmp_path_factory) -> Path:
    """A run with a second row that was never stopped."""
    run = tmp_path_factory.mktemp("runs") / "both"
    result = classify(run, f"model.synthetic=[{packs['bare']}]", "model.confidence=0.6")
    assert result.code == 0, result.err
    assert "| attribute | values | accuracy: majority | real | real + synthetic |" in result.out
    assert result.out.strip() == (run / "classification.md").read_text().strip()
    return run


def test_what_can_be_seen_is_read(both_rows):
    numbers = json.loads((both_rows / "classification.json").read_text())
    written = {path.name for path in both_rows.iterdir() if path.is_file()} - {".lock", "starts.jsonl"}
    assert {name for name in written if not name.endswith(".diff")} == FILES  # changes of the code are no result
    assert numbers["split"]["images"] == {"train": 140, "validation": 20, "test": 40}
    for attribute in numbers["attributes"]:
        assert sum(attribute["counts"]["test"]) == attribute["majority"]["count"] == 40
        for row in ("real", "real + synthetic"):
            assert attribute[row]["accuracy"] > attribute["majority"]["accuracy"] + 0.2, (row, attribute)
    assert set(numbers["rows"]) == {"real", "real + synthetic"}
    assert 0 < numbers["rows"]["real + synthetic"]["pseudo_labels"] <= 120
    assert 140 < numbers["rows"]["real + synthetic"]["training_images"] <= 200
    with Image.open(both_rows / "confusion-bar.png") as picture:
        assert min(picture.size) > 100
    network = load_classifier(both_rows)
    assert network.attributes == {"Main Colour": ("blue", "green", "red"), "Bar": ("bottom", "top")}
    best = state_of(both_rows)["best"]
    assert best["images_seen"] == numbers["rows"]["real"]["best_images_seen"]
    assert all(torch.equal(tensor, best["network"][name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("target", "call"),
    [
        pytest.param("callbacks.best_classifier:BestClassifier._validate", 5, marks=pytest.mark.slow),  # first row
        pytest.param("callbacks.snapshot:write_synced", 3, marks=pytest.mark.slow),
        pytest.param("commands.classify:probabilities", 1, marks=pytest.mark.slow),  # before the pseudo-labels
        ("callbacks.best_classifier:BestClassifier._validate", 12),  # second row
        pytest.param("commands.classify:_write", 1, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_ends_as_if_it_had_not_been(classify, packs, both_rows, tmp_path, target, call):
    options = (f"model.synthetic=[{packs['bare']}]", "model.confidence=0.6")
    assert classify(tmp_path / "run", *options, accident=partial(kill_at, target, call)).code == -9
    assert not (tmp_path / "run" / "classification.md").exists()
    again = classify(tmp_path / "run", *options)
    assert again.code == 0, again.err
    for name in ("classification.md", "attribute_classifier.safetensors", "with_synthetic/pseudo_labels.npy"):
        assert (tmp_path / "run" / name).read_bytes() == (both_rows / name).read_bytes(), name
    for folder in (".", "with_synthetic"):
        one, other = state_of(tmp_path / "run" / folder), state_of(both_rows / folder)
        assert one["images_seen"] == other["images_seen"] == 1120
        for key in ("network", "best"):
            first, second = (state[key]["network"] if key == "best" else state[key] for state in (one, other))
            assert all(torch.equal(first[name], second[name]) for name in second), key


def signal_at(call: int, original: Callable) -> Callable:
    """Validations, with a SIGTERM after the n-th one."""
    calls = 0

    def validation(*args):
        nonlocal calls
        original(*args)
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGTERM)

    return validation


@pytest.mark.parametrize("call", [1, pytest.param(8, marks=pytest.mark.slow)])  # the first and the last of the row
def test_a_signal_ends_a_run_with_a_checkpoint(classify, packs, both_rows, tmp_path, call):
    options = (f"model.synthetic=[{packs['bare']}]", "model.confidence=0.6")
    accident = partial(patch, "callbacks.best_classifier:BestClassifier._validate", partial(signal_at, call))
    stopped = classify(tmp_path / "run", *options, "callbacks.snapshot.every_images=100000", accident=accident)
    assert stopped.code == 128 + signal.SIGTERM, stopped.err
    saved = state_of(tmp_path / "run")["images_seen"]
    assert saved == (160 if call == 1 else 1120)  # the end of the step that it came in
    assert not (tmp_path / "run" / "with_synthetic").exists()
    assert f"stopped by SIGTERM at {saved} of 1120 images, with a checkpoint" in stopped.err
    again = classify(tmp_path / "run", *options)
    assert again.code == 0, again.err
    for name in ("classification.md", "attribute_classifier.safetensors", "with_synthetic/pseudo_labels.npy"):
        assert (tmp_path / "run" / name).read_bytes() == (both_rows / name).read_bytes(), name


def test_a_finished_run_says_so_and_stays(classify, packs, both_rows):
    before = {path: path.read_bytes() for path in both_rows.rglob("*") if path.is_file() and path.name != "train.log"}
    options = (f"model.synthetic=[{packs['bare']}]", "model.confidence=0.6")
    result = classify(both_rows, *options)
    assert result.code == 0, result.err
    assert "is finished: 1120 images seen" in result.err
    assert result.out.strip() == (both_rows / "classification.md").read_text().strip()
    assert all(path.read_bytes() == content for path, content in before.items())
    assert "total_images" not in classify(both_rows, *options, "resume=never").error
    assert "was trained to 1120 images, not 2000" in classify(both_rows, *options, "total_images=2000").error
    assert "model.confidence: 0.6 → 0.9" in classify(both_rows, *options[:1]).error


def test_mistakes(classify, packs, tmp_path):
    def error(*overrides):
        result = classify(tmp_path / "run", *overrides)
        assert not (tmp_path / "run" / "checkpoints").exists()
        return result.error

    assert "valid here: Main Colour, Bar" in error("model.attributes=[glasses]")
    assert "has no labels to classify" in error(f"data.path={packs['bare']}")
    assert "trained on one process, not 2" in error("trainer.devices=2")
    assert "does not grow: add growth=none" in error("growth=quickstart")
    assert "model.class_weights must be one of none, balanced" in error("model.class_weights=inverse")
    assert "too few to split" in error("model.test_share=0")
