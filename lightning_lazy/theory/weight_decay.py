"""Wide homogeneous nets with L2 regularisation: their kernel decays, and their outputs with it.

Gradient flow on Σ ½(f − y)² + ½λ‖θ‖², a sum over samples; time is learning rate times steps.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import exp1

from lightning_lazy.checks import check_number
from lightning_lazy.errors import InputError
from lightning_lazy.theory.mode_integrator import Array, checked, integrate_modes, mean_decay

_SERIES_FROM, _TERMS = 50.0, 20
"""From s = 50 on, 20 terms of the asymptotic series of E₁ are exact to rounding."""


def kernel_decay(times: ArrayLike, *, l2: float, k: float) -> Array:
    """Return Θ_t/Θ₀ = e^{−2(k−1)λt} of a k-homogeneous net of infinite width.

    (Lewkowycz & Gur-Ari 2020, Theorem 1, equation 2.) A linear model (k = 1) keeps its kernel; that
    of a scale-invariant net (k = 0) grows.

    Args:
        times: t, any shape.
        l2: λ, at least 0.
        k: Degree of homogeneity.
    """
    check_number("l2", l2, zero=True)
    return np.exp(-2 * (check_number("k", k, zero=True) - 1) * l2 * np.asarray(times, dtype=float))


def evolve_outputs(
    kernel: ArrayLike,
    targets: ArrayLike,
    start: ArrayLike,
    *,
    l2: float,
    times: ArrayLike,
    k: float,
) -> Array:
    """Return the outputs on the training set of a k-homogeneous net of infinite width.

    Args:
        kernel: Tangent kernel Θ₀ at the start, shape (n, n), with rounding at most below 0; for
            several outputs with a row for each of them, n·o rows.
        targets: y, shape (n,).
        start: f at the start, shape (n,).
        l2: λ, at least 0.
        times: t, at least 0, shape (T,).
        k: Degree of homogeneity, at least 0.

    Returns:
        f_t, shape (T, n).

    Raises:
        InputError: Shapes do not fit, or a number is not finite or negative.
    """
    theta, y, f = (np.asarray(one, dtype=float) for one in (kernel, targets, start))
    fits = y.ndim == 1 and y.shape == f.shape and theta.shape == (len(y), len(y))
    if not (fits and np.isfinite(theta).all()):
        raise InputError(
            "expected a finite kernel of shape (n, n) and n targets and outputs, got shapes "
            f"{theta.shape}, {y.shape} and {f.shape}; flatten them and check the kernel"
        )
    gammas, basis = np.linalg.eigh(theta)
    y, f = y @ basis, f @ basis
    return evolve_modes(gammas.clip(min=0), y, f, l2=l2, times=times, k=k) @ basis.T


def evolve_modes(
    gammas: ArrayLike,
    targets: ArrayLike,
    start: ArrayLike,
    *,
    l2: float,
    times: ArrayLike,
    k: float,
) -> Array:
    """Return the modes f_a(t), shape (T, m): in closed form for k = 1 and 2, else integrated.

    (Lewkowycz & Gur-Ari 2020, Theorem 2.) Arguments: see `integrate_modes`.
    """
    if k not in (1, 2):
        return integrate_modes(gammas, targets, start, l2=l2, times=times, k=k)
    gamma, y, f, t = checked(gammas, targets, start, l2=l2, times=times)
    return (_linear if k == 1 else _two_homogeneous)(gamma, y, f, l2, t[:, None])


def _linear(gamma: Array, y: Array, f: Array, l2: float, t: Array) -> Array:
    r"""Return the modes of a linear model (k = 1), where equation 3 is 0/0.

    .. math:: f(t) = e^{-(\gamma+\lambda)t} f(0)
              + \frac{\gamma y}{\gamma+\lambda} (1 - e^{-(\gamma+\lambda)t})
    """
    decay = (gamma + l2) * t
    return np.exp(-decay) * f + gamma * t * mean_decay(decay) * y


def _two_homogeneous(gamma: Array, y: Array, f: Array, l2: float, t: Array) -> Array:
    r"""Return the modes for k = 2: equation 3 without the exponentials that overflow.

    .. math:: f(t) = P f(0) + y [V(s) - P V(s_0)], \quad P = e^{s - s_0 - 2 \lambda t}

    with s₀ = γ/2λ, s = s₀ e^{−2λt} and V(s) = s eˢ E₁(s), between 0 and 1.
    """
    left = np.exp(-gamma * t * mean_decay(2 * l2 * t) - 2 * l2 * t)
    s = gamma / (2 * l2) if l2 > 0 else np.where(gamma > 0, np.inf, 0.0)
    return left * f + y * (_scaled_exp1(s * np.exp(-2 * l2 * t)) - left * _scaled_exp1(s))


def _scaled_exp1(s: Array) -> Array:
    """Return s eˢ E₁(s) for s ≥ 0: 0 at 0, 1 at infinity."""
    small = np.clip(s, np.finfo(float).tiny, _SERIES_FROM)
    large = np.maximum(s, _SERIES_FROM)
    series = np.ones_like(large)
    for n in range(_TERMS, 0, -1):
        series = 1 - n / large * series
    return np.where(s > _SERIES_FROM, series, small * np.exp(small) * exp1(small))
