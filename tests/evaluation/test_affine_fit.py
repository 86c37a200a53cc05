import math

import numpy as np
import pytest
from scipy.stats import linregress

from imago.evaluation.affine_fit import affine_fit


def test_the_line_and_its_standard_errors_against_scipy():
    rng = np.random.default_rng(0)
    x = rng.uniform(19, 74, size=12)
    y = 0.2 - 0.001 * x + 0.01 * rng.normal(size=12)
    found, expected = affine_fit(x, y), linregress(x, y)
    assert found.slope == pytest.approx(expected.slope, rel=1e-10)
    assert found.intercept == pytest.approx(expected.intercept, rel=1e-10)
    assert found.slope_error == pytest.approx(expected.stderr, rel=1e-10)
    assert found.intercept_error == pytest.approx(expected.intercept_stderr, rel=1e-10)
    assert found.at(30) == pytest.approx(expected.intercept + 30 * expected.slope)


def test_values_that_are_not_finite_are_left_out():
    found = affine_fit([0, 1, 2, 3], [1, 3, math.nan, 7])
    assert (found.slope, found.intercept) == pytest.approx((2, 1))


def test_no_line_through_one_place():
    assert affine_fit([1], [2]) is None
    assert affine_fit([1, 1], [2, 3]) is None
    assert math.isnan(affine_fit([0, 1], [2, 3]).slope_error)
