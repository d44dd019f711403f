"""Where gradient descent with L2 takes a deep linear net."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from lightning_lazy.checks import check_number, check_size
from lightning_lazy.errors import InputError
from lightning_lazy.theory.mode_integrator import Array

_LARGEST, _POINTS = 1e6, 4000
"""Ridges are sought up to so many times the largest eigenvalue of XᵀX, at so many points."""


def l2_fixed_point(x: ArrayLike, y: ArrayLike, *, l2: float, beta: float, depth: int) -> Array:
    r"""Return the weights w of the function w·x at which a deep linear net with L2 ends.

    f(x) = β W_L ⋯ W₀ x with one output, on Σ ½(f − y)² + ½λ‖θ‖². At a fixed point other than 0 the
    matrices have rank one and equal norms, and w solves a ridge regression whose ridge μ depends on
    w:

    .. math:: w = (X^T X + \mu)^{-1} X^T y, \qquad
              \mu^{L+1} \|w\|^{2L} = \lambda^{L+1} / \beta^2

    This is equation S20 of Lewkowycz & Gur-Ari 2020 (SM B.1), since Σ ℓ'x = −μw. Of several
    solutions the one of smallest μ is returned, and 0 where there is none. With one hidden layer
    and the sample (1, 1), f = 1 − λ/β; equation S21 has the opposite sign, which would need a
    negative norm.

    Args:
        x: Inputs, shape (n, d).
        y: Targets, shape (n,).
        l2: λ, above 0.
        beta: β, the product of the constants in front of all layers: n^{−L/2} at width n in the NTK
            parametrisation.
        depth: L, hidden layers.

    Returns:
        w, shape (d,).

    Raises:
        InputError: A number is out of range, or shapes do not fit.
    """
    inputs, targets = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if inputs.ndim != 2 or targets.shape != inputs.shape[:1]:
        raise InputError(
            f"expected x of shape (n, d) and y of shape (n,), got {inputs.shape} and "
            f"{targets.shape}; flatten inputs and pass one target each"
        )
    depth = check_size("depth", depth, minimum=0)
    goal = (depth + 1) * math.log(check_number("l2", l2)) - 2 * math.log(check_number("beta", beta))
    u, scale, basis = np.linalg.svd(inputs, full_matrices=False)
    kept = scale > scale[0] * max(inputs.shape) * np.finfo(float).eps
    square, pull = scale[kept] ** 2, (scale * (targets @ u))[kept]
    if not pull.any():
        return np.zeros(inputs.shape[1])

    def excess(log_ridge: Array | float) -> Array:
        weights = pull / (square + np.exp(log_ridge)[..., None])
        return (depth + 1) * log_ridge + 2 * depth * np.log(np.linalg.norm(weights, axis=-1)) - goal

    # Without a ridge ‖w‖ is largest: no solution is below this.
    lowest = (goal - 2 * depth * math.log(np.linalg.norm(pull / square))) / (depth + 1) - 1
    grid = np.linspace(lowest, max(lowest, math.log(_LARGEST * square[0])), _POINTS)
    beyond = np.flatnonzero(excess(grid) > 0)
    if not len(beyond):
        return np.zeros(inputs.shape[1])
    low, high = grid[beyond[0] - 1], grid[beyond[0]]
    ridge = math.exp(brentq(lambda one: float(excess(one)), low, high, xtol=1e-14))
    return (pull / (square + ridge)) @ basis[kept]
