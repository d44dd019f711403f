"""Step sizes from bounds on the curvature of a linear predictor's loss (Proposition 1)."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from lightning_lazy.checks import check_number
from lightning_lazy.errors import InputError
from lightning_lazy.theory.degenerate import MarginLossName

_SUP = {"logistic": 0.25}
"""Largest second derivative of a loss that has one."""


def falling_step(loss: MarginLossName, x: NDArray[np.float64], start_loss: float) -> float:
    """Return the η = 2/β below which no step on a linear predictor raises its mean loss.

    β bounds the curvature wherever gradient descent gets to (Huang, Du, Xu & Liu 2020,
    Proposition 1): λ_max(XᵀX/n)/4 with the logistic loss. The exponential loss has ℓ'' = ℓ, so on
    the level set of its start the curvature is at most max‖x‖² times the loss there.

    Args:
        loss: ``exponential`` or ``logistic``, mean over samples.
        x: Inputs, shape (n, d).
        start_loss: The mean loss at the start; only the exponential loss depends on it.
    """
    if loss in _SUP:
        beta = _SUP[loss] * float(np.linalg.eigvalsh(x.T @ x / len(x))[-1])
    else:
        beta = check_number("start_loss", start_loss) * float(np.square(x).sum(axis=1).max())
    return 2 / beta


def rising_step(loss: MarginLossName, x: Sequence[float], y: Sequence[float]) -> float:
    """Return the η = 2/α from which on no step on f = w x lowers its mean loss.

    α > 0 is the smallest curvature anywhere (Huang, Du, Xu & Liu 2020, Proposition 1). The
    curvature of the logistic loss vanishes at infinity, so that η is infinite: it saturates in a
    cycle in place of exploding. The exponential loss's curvature is convex in w, with a minimum
    above 0 on data that are not separable.

    Args:
        loss: ``exponential`` or ``logistic``, mean over samples.
        x: Inputs with one feature, n numbers.
        y: Their labels ±1.

    Raises:
        InputError: A weight classifies all samples, so that α = 0.
    """
    margins = np.asarray(x, dtype=float) * np.asarray(y, dtype=float)
    if margins.min() >= 0 or margins.max() <= 0:
        raise InputError(
            "the data must not be separable, got some that are: no step size raises their loss "
            "always; pass both signs of x·y"
        )
    if loss == "logistic":
        return math.inf
    squares = np.square(margins)
    found = minimize_scalar(lambda w: float(np.mean(squares * np.exp(-margins * w))))
    return 2 / float(found.fun)
