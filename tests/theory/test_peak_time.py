"""Oracles: curves whose peak is known, and the numbers of Lewkowycz & Gur-Ari 2020."""

import math

import numpy as np
import pytest

from lightning_lazy import InputError
from lightning_lazy.theory.peak_time import peak_time, predict_l2


def test_the_peak_is_the_first_time_near_the_best_and_not_the_best_itself() -> None:
    times = [0, 10, 20, 30, 40, 50]
    accuracies = [0.1, 0.8, 0.896, 0.894, 0.9, 0.7]
    assert peak_time(times, accuracies) == 20
    assert peak_time(times, accuracies, tolerance=0) == 40
    assert peak_time(times, accuracies, tolerance=0.2) == 10
    assert peak_time([3], [0.5]) == 3


def test_times_without_an_accuracy_are_passed_over() -> None:
    assert peak_time([1, 2, 3, 4], [math.nan, 0.5, math.nan, 0.9]) == 4
    with pytest.raises(InputError, match=r"got 0 of them of shape \(2,\) for times of shape"):
        peak_time([1, 2], [math.nan, math.nan])
    with pytest.raises(InputError, match="an accuracy for each time, got 1 of them"):
        peak_time([1, 2], [0.5])


def test_a_curve_that_depends_on_l2_times_t_alone_gives_one_constant() -> None:
    # a = x e^{1-x} with x = λt comes within 0.005 of its maximum, 1, near x = 1 - √0.01 = 0.9;
    # steps of 0.001 in x.
    for l2 in (1e-4, 1e-2):
        x = np.linspace(0, 5, 5001)
        assert l2 * peak_time(x / l2, x * np.exp(1 - x)) == pytest.approx(0.9035, abs=2e-3)


def test_the_paper_predicts_its_l2_by_a_constant_over_the_budget() -> None:
    # WRN-28-10: c ≈ 0.0066 from λ = 0.01 (t* = 0.66 epochs), for 200 epochs.
    c = 0.01 * 0.66
    assert predict_l2(c, 200) == pytest.approx(3.3e-5, rel=1e-12)
    assert predict_l2(c, 0.3 * 200) == pytest.approx(1.1e-4, rel=1e-12)
    with pytest.raises(InputError, match="budget must be finite and above 0"):
        predict_l2(c, 0)
