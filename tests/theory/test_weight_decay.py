"""Oracles: a solver of stiff equations on the mode equation, and limits in closed form."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp

from lightning_lazy import InputError
from lightning_lazy.theory.mode_integrator import integrate_modes
from lightning_lazy.theory.weight_decay import evolve_modes, evolve_outputs, kernel_decay

RATIOS = np.array([0.0, 1e-8, 1e-2, 0.3, 1.0, 7.0, 60.0, 99.0, 101.0, 1e3, 1e5, 1e8])
"""γ/λ; the closed form changes to a series between 99 and 101."""
TARGETS = np.linspace(1.5, -1.0, len(RATIOS))
START = np.linspace(-2.0, 0.7, len(RATIOS))
TIMES = np.array([0.0, 1e-9, 1e-6, 1e-3, 0.03, 0.3, 1.0, 3.0, 8.0, 9.0, 20.0])
"""λt."""


def solved(gamma: float, y: float, f: float, *, l2: float, k: float) -> np.ndarray:
    """Return a mode at `TIMES`/λ by an implicit solver."""

    def slope(t: float, value: np.ndarray) -> np.ndarray:
        return -gamma * np.exp(-2 * (k - 1) * l2 * t) * (value - y) - k * l2 * value

    times = TIMES / l2
    found = solve_ivp(slope, (0, times[-1]), [f], "LSODA", t_eval=times, rtol=1e-10, atol=1e-12)
    return found.y[0]


@pytest.mark.parametrize("l2", [0.01, 3.0])
@pytest.mark.parametrize("k", [0, 0.5, 1, 1.5, 2, 3, 7])
def test_modes_solve_the_mode_equation_for_any_homogeneity(k: float, l2: float) -> None:
    # The solver is right to some 1e-7 here, the integrator to 1e-7 by its docstring.
    found = evolve_modes(RATIOS * l2, TARGETS, START, l2=l2, times=TIMES / l2, k=k)
    # With k < 1 the kernel grows by up to e⁴⁰, too stiff for the solver: no large ones there.
    for place, ratio in enumerate(RATIOS):
        if k < 1 and ratio >= 1e3:
            break
        expected = solved(ratio * l2, TARGETS[place], START[place], l2=l2, k=k)
        assert_allclose(found[:, place], expected, rtol=0, atol=5e-7)


@pytest.mark.parametrize("k", [1, 2])
def test_the_integrator_agrees_with_the_closed_forms(k: int) -> None:
    problem = (RATIOS * 0.01, TARGETS, START)
    times = np.concatenate([TIMES, [1e3, 1e6], TIMES[::-1]]) / 0.01  # and in any order
    closed = evolve_modes(*problem, l2=0.01, times=times, k=k)
    integrated = integrate_modes(*problem, l2=0.01, times=times, k=k)
    assert_allclose(integrated, closed, rtol=0, atol=1e-13 if k == 1 else 3e-7)


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_modes_begin_at_their_start_and_end_where_they_must(k: int) -> None:
    times = [0.0, 1e3, 1e9]
    first, *last = evolve_modes(RATIOS, TARGETS, START, l2=1.0, times=times, k=k)
    assert_allclose(first, START, rtol=0, atol=1e-14)
    # k = 0: labels are learned in the end, but for the mode without kernel, which stays. k = 1:
    # ridge regression. k ≥ 2: nothing is left.
    ends = {0: np.where(RATIOS > 0, TARGETS, START), 1: TARGETS * RATIOS / (RATIOS + 1)}
    for end in last:
        assert_allclose(end, ends.get(k, np.zeros_like(START)), rtol=0, atol=1e-12)


def test_without_l2_every_net_is_a_linear_model() -> None:
    gammas = RATIOS[:-2]
    times = TIMES[:, None]
    expected = TARGETS[:-2] + np.exp(-gammas * times) * (START - TARGETS)[:-2]
    for k in (0, 1, 2, 3.5):
        found = evolve_modes(gammas, TARGETS[:-2], START[:-2], l2=0.0, times=TIMES, k=k)
        assert_allclose(found, expected, rtol=0, atol=1e-14)
    almost = evolve_modes(gammas, TARGETS[:-2], START[:-2], l2=1e-12, times=TIMES, k=2)
    assert_allclose(almost, expected, rtol=0, atol=1e-10)  # 1e-12 times t, a few times


def test_the_linear_model_is_the_limit_of_small_homogeneity() -> None:
    # Equation 3 is 0/0 at k = 1; the difference is of first order in k - 1.
    linear = evolve_modes(RATIOS, TARGETS, START, l2=1.0, times=TIMES, k=1)
    for excess in (1e-5, -1e-5):
        near = evolve_modes(RATIOS, TARGETS, START, l2=1.0, times=TIMES, k=1 + excess)
        assert_allclose(near, linear, rtol=0, atol=40 * abs(excess))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_outputs_follow_equation_1_in_the_basis_of_samples(k: int) -> None:
    rng = np.random.default_rng(1)
    factor, y, f = rng.normal(size=(6, 4)), rng.normal(size=6), rng.normal(size=6)
    kernel, l2, times = factor @ factor.T, 0.2, np.array([0.0, 0.1, 1.0, 6.0])  # of rank 4

    def slope(t: float, value: np.ndarray) -> np.ndarray:
        decayed = math.exp(-2 * (k - 1) * l2 * t) * kernel
        return -decayed @ (value - y) - k * l2 * value

    expected = solve_ivp(slope, (0, 6), f, "DOP853", t_eval=times, rtol=1e-11, atol=1e-12).y.T
    found = evolve_outputs(kernel, y, f, l2=l2, times=times, k=k)
    assert_allclose(found, expected, rtol=0, atol=1e-7 if k == 3 else 1e-9)
    tensors = (torch.from_numpy(one) for one in (kernel, y, f))
    assert_allclose(evolve_outputs(*tensors, l2=l2, times=times, k=k), found, rtol=0, atol=0)


def test_bad_modes_get_one_line() -> None:
    with pytest.raises(InputError, match=r"got \(2,\), \(3,\), \(3,\) and \(1,\)"):
        evolve_modes([1, 2], [1, 2, 3], [1, 2, 3], l2=1, times=[0], k=2)
    with pytest.raises(InputError, match="gammas must be finite and at least 0"):
        evolve_modes([-1.0], [1.0], [1.0], l2=1, times=[0], k=2)
    with pytest.raises(InputError, match="times must be finite"):
        integrate_modes([1.0], [1.0], [1.0], l2=1, times=[math.inf], k=3)
    with pytest.raises(InputError, match="l2 must be finite and at least 0"):
        evolve_modes([1.0], [1.0], [1.0], l2=-1, times=[0], k=1)
    with pytest.raises(InputError, match="k must be finite and at least 0"):
        kernel_decay([0.0], l2=0.1, k=-1)
    for kernel in (np.eye(3), np.full((2, 2), np.nan), np.eye(2)[:, :1]):
        with pytest.raises(InputError, match=r"expected a finite kernel of shape \(n, n\)"):
            evolve_outputs(kernel, [1, 2], [0, 0], l2=1, times=[0], k=2)


def test_no_times_give_no_rows() -> None:
    for k in (1, 2, 3):
        assert evolve_modes([1.0, 2.0], [1, 1], [0, 0], l2=0.1, times=[], k=k).shape == (0, 2)
