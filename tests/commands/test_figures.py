import math

import numpy as np
import pytest

from commands.figures import figure_of_run, plot_activations, plot_errors, running_mean
from imago.errors import UserError


def test_running_means_against_a_loop():
    values = np.array([1.0, 3.0, math.nan, 5.0, 7.0])
    assert running_mean(values, 2).tolist() == [1, 2, 3, 5, 6]
    assert math.isnan(running_mean(np.array([math.nan, 1.0]), 3)[0])


def test_tables_without_rows(tmp_path):
    (tmp_path / "metrics.csv").write_text("images_seen,discriminator_loss\n")
    with pytest.raises(UserError, match="holds no losses yet"):
        plot_errors(tmp_path / "metrics.csv", tmp_path / "a.png")
    (tmp_path / "activations.csv").write_text("images_seen\n")
    with pytest.raises(UserError, match="holds no rows yet"):
        plot_activations(tmp_path / "activations.csv", tmp_path / "a.png")


def test_a_run_without_the_table(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*activations.csv; train with callbacks=activations"):
        figure_of_run("activations", tmp_path, tmp_path)
