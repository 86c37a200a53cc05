"""Figures of a run's tables, and how many images make an epoch of it."""

import json
import math

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

import commands.figures
from commands.checkpoints import images_in_epoch
from commands.figures import figure_of_run, plot_activations, plot_errors, running_mean
from imago.errors import UserError


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures = []
    save = commands.figures._save
    monkeypatch.setattr(commands.figures, "_save", lambda figure, out: figures.append(figure) or save(figure, out))
    return figures


def table(tmp_path, rows):
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_the_running_mean_is_of_the_last_finite_values():
    values = np.array([1.0, 3.0, math.nan, 5.0, 10.0])
    assert running_mean(values, 3).tolist() == [1, 2, 2, 4, 7.5]
    assert math.isnan(running_mean(np.array([math.nan]), 3)[0])


def test_errors_of_both_networks_over_images_and_epochs(drawn, tmp_path):
    rows = ["images_seen,discriminator_loss,generator_loss", "1000,0.5,2", "2000,,", "3000,1.5,4"]  # one of metrics
    assert plot_errors(table(tmp_path, rows), tmp_path / "errors.png", epoch=500) == tmp_path / "errors.png"
    top, bottom = drawn[0].axes
    assert top.lines[0].get_xydata().tolist() == [[1, 0.5], [3, 1.5]]
    assert bottom.lines[1].get_ydata().tolist() == [2, 3]  # the mean
    (epochs,) = top.child_axes
    low, high = top.get_xlim()
    np.testing.assert_allclose(epochs.get_xlim(), (2 * low, 2 * high))  # 1,000 images are two epochs
    assert epochs.get_xlabel() == "epochs of 500 images"
    with Image.open(tmp_path / "errors.png") as picture:
        assert min(picture.size) > 300
    plot_errors(table(tmp_path, rows), tmp_path / "errors.png")
    assert not drawn[1].axes[0].child_axes


def test_no_errors_yet(tmp_path):
    with pytest.raises(UserError, match="holds no losses yet"):
        plot_errors(table(tmp_path, ["images_seen,ms_ssim", "10,0.2"]), tmp_path / "errors.png")
    with pytest.raises(UserError, match="holds no rows yet"):
        plot_activations(table(tmp_path, ["images_seen"]), tmp_path / "activations.png")


def test_activations_of_each_layer(drawn, tmp_path):
    columns = [f"{n}/{i}/{m}" for n, d in (("generator", 2), ("discriminator", 1)) for i in range(d) for m in MOMENTS]
    rows = [",".join(["images_seen", *columns]), "0,0,1,0.5,2,,", "1000,0.1,1.5,0.25,4,0,1"]
    plot_activations(table(tmp_path, rows), tmp_path / "activations.png")
    mean_g, mean_d, variance_g, variance_d = drawn[0].axes
    assert [line.get_ydata().tolist() for line in mean_g.lines[:2]] == [[0, 0.1], [0.5, 0.25]]
    assert [line.get_ydata().tolist() for line in variance_g.lines[:2]] == [[1, 1.5], [2, 4]]
    assert mean_d.lines[0].get_ydata()[1] == 0
    assert math.isnan(variance_d.lines[0].get_ydata()[0])  # the layer was not there yet


MOMENTS = ("mean", "variance")


def test_images_in_an_epoch(tmp_path, blobs):
    def of(**data):
        OmegaConf.save({"data": data}, tmp_path / "config.yaml")
        return images_in_epoch(tmp_path)

    assert of(path=str(blobs)) == 48
    assert of(root=str(blobs), include_synthetic=str(blobs)) == 96
    assert of(path=str(blobs), include_synthetic=[str(blobs), str(blobs)]) == 144
    assert of(_target_="datamodules.sources.DrawnPortraitsDataModule", count=30) == 30
    assert of(path="nowhere") is None
    assert of(path=str(blobs), include_synthetic="nowhere") is None
    assert of() is None
    (tmp_path / "config.yaml").unlink()
    assert images_in_epoch(tmp_path) is None
    for damaged in ("data: [", "data: 3", json.dumps([1])):
        (tmp_path / "config.yaml").write_text(damaged)
        with pytest.raises(UserError, match=r"config\.yaml: cannot be read"):
            images_in_epoch(tmp_path)


def test_a_run_without_the_table(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*activations.csv; train with callbacks=activations"):
        figure_of_run("activations", tmp_path, tmp_path)
