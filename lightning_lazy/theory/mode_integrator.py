"""The mode equation of a wide homogeneous net with L2, integrated for any degree of homogeneity."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_lazy.checks import check_number
from lightning_lazy.errors import InputError

Array = NDArray[np.float64]

_STEPS = 64
"""Steps while the kernel changes by a factor of e."""
_GONE = 60.0
"""A kernel smaller (or larger) than e⁻⁶⁰ (e⁶⁰) times kλ might as well be 0 (or infinite)."""


def integrate_modes(
    gammas: ArrayLike,
    targets: ArrayLike,
    start: ArrayLike,
    *,
    l2: float,
    times: ArrayLike,
    k: float,
) -> Array:
    r"""Return the modes of a k-homogeneous net of infinite width, for any k ≥ 0.

    .. math:: \dot f_a = -\gamma_a e^{-2(k-1)\lambda t} (f_a - y_a) - k \lambda f_a

    (Lewkowycz & Gur-Ari 2020, equations 1 and 2 for the loss Σ ½(f − y)²), by an exponential
    integrator that is stable for every γ/λ. With a = γ(t) + kλ and the value g = γ(t) y/a that a
    mode would settle at, ḟ = −a (f − g). In z = ∫a dt, g is taken to be linear over a step and the
    rest is exact, so that f stays between its start and what g takes on; one extrapolation raises
    the order. The error is about 1e-7 of the larger of |y| and |f₀|.

    Args:
        gammas: γ, eigenvalues of the tangent kernel at the start, at least 0, shape (m,).
        targets: y in the kernel's eigenbasis, shape (m,).
        start: f at the start in this basis, shape (m,).
        l2: λ, at least 0.
        times: t, learning rate times steps, at least 0, shape (T,).
        k: Degree of homogeneity, at least 0: the number of layers of a ReLU net without biases.

    Returns:
        f_a(t), shape (T, m).
    """
    gamma, y, f, t = checked(gammas, targets, start, l2=l2, times=times)
    check_number("k", k, zero=True)
    order = np.argsort(t)
    coarse, fine = (
        _march(gamma, y, f, l2=l2, times=t[order], k=k, steps=steps)
        for steps in (_STEPS, 2 * _STEPS)
    )
    modes = np.empty_like(fine)
    modes[order] = (4 * fine - coarse) / 3
    return modes


def mean_decay(x: ArrayLike) -> Array:
    """Return (1 − e⁻ˣ)/x, the mean of e⁻ᵘ over 0 < u < x: 1 at x = 0."""
    values = np.asarray(x, dtype=float)
    with np.errstate(over="ignore"):
        return np.where(values == 0, 1.0, -np.expm1(-values) / np.where(values == 0, 1.0, values))


def checked(
    gammas: ArrayLike, targets: ArrayLike, start: ArrayLike, *, l2: float, times: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """Return modes and times as float64.

    Raises:
        InputError: Shapes do not fit, or a number is negative or not finite.
    """
    check_number("l2", l2, zero=True)
    gamma, y, f, t = (np.asarray(one, dtype=float) for one in (gammas, targets, start, times))
    if not (gamma.ndim == t.ndim == 1 and gamma.shape == y.shape == f.shape):
        raise InputError(
            "expected gammas, targets and start of one shape (modes,) and times of shape (times,), "
            f"got {gamma.shape}, {y.shape}, {f.shape} and {t.shape}; flatten them"
        )
    for name, values in (("gammas", gamma), ("times", t)):
        bad = values[~(np.isfinite(values) & (values >= 0))]
        if len(bad):
            raise InputError(f"{name} must be finite and at least 0, got {bad[0]}; check {name}")
    return gamma, y, f, t


def _march(
    gamma: Array, y: Array, f: Array, *, l2: float, times: Array, k: float, steps: int
) -> Array:
    """Return the modes at times in increasing order, shape (T, m)."""
    rate = 2 * (k - 1) * l2
    grid, places = _grid(times, _settled(gamma, l2, rate), steps * abs(rate))
    length, tiny = np.diff(grid)[:, None], np.finfo(float).tiny
    with np.errstate(over="ignore", divide="ignore"):
        kernel = np.exp(np.log(gamma) - rate * grid[:, None]).clip(tiny, 1 / tiny)
        pull = np.where(gamma > 0, kernel[:-1] * mean_decay(rate * length), 0.0)
        goal = y / (1 + k * l2 / kernel)
    z = length * (pull + k * l2)
    mean, kept = mean_decay(z), np.exp(-z)
    gained = (mean - kept) * goal[:-1] + (1 - mean) * goal[1:]
    modes = [f]
    for factor, change in zip(kept, gained, strict=True):
        modes.append(factor * modes[-1] + change)
    return np.array(modes)[places]


def _settled(gamma: Array, l2: float, rate: float) -> float:
    """Return the time from which on the kernel is gone, or all that counts."""
    if rate == 0:
        return math.inf
    ratios = np.abs(np.log(gamma[gamma > 0] / l2))
    return (_GONE + float(ratios.max(initial=0.0))) / abs(rate)


def _grid(times: Array, last: float, density: float) -> tuple[Array, NDArray[np.intp]]:
    """Return the points between steps, and where among them the times are.

    From ``last`` on there are none but these.
    """
    parts, now = [np.zeros(1)], 0.0
    for time in times:
        end = min(max(now, last), time)
        count = max(1, math.ceil(density * (end - now)))
        parts.append(np.append(np.linspace(now, end, count + 1)[1:], time))
        now = time
    return np.concatenate(parts), np.cumsum(list(map(len, parts)))[1:] - 1
