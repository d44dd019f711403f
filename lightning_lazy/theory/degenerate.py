"""Exponential and logistic loss on degenerate data: one input with both labels, {(1, ±1)}."""

import math
from typing import Literal, get_args

import numpy as np

from lightning_lazy.checks import check_choice
from lightning_lazy.errors import InputError

MarginLossName = Literal["exponential", "logistic"]


def mean_loss(loss: MarginLossName, f: float) -> float:
    """Return the mean loss L(f) of an output f: cosh f, or ½ ln(2 + 2 cosh f).

    (Huang, Du, Xu & Liu 2020, Theorem 1.) Infinite where it is beyond the largest float.

    Raises:
        InputError: ``loss`` is neither ``exponential`` nor ``logistic``.
    """
    check_choice("loss", loss, get_args(MarginLossName))
    if loss == "logistic":
        return abs(f) / 2 + math.log1p(math.exp(-abs(f)))
    with np.errstate(over="ignore"):
        return float(np.cosh(f))


def output_at(loss: MarginLossName, value: float) -> float:
    """Return the f ≥ 0 at which the mean loss has a value, the inverse of `mean_loss`.

    Raises:
        InputError: ``loss`` is neither ``exponential`` nor ``logistic``, or no output has so small
            a loss.
    """
    least = mean_loss(loss, 0.0)
    if not value >= least:
        raise InputError(
            f"value must be at least {least:.4g}, that of f = 0, got {value}; raise it"
        )
    if loss == "exponential":
        return math.acosh(value)
    # cosh f − 1 = 2 sinh²(f/2), and cosh f = e^2L/2 − 1, which is 1 at the least L.
    return 2 * math.asinh(math.sqrt(math.expm1(2 * (value - least))))


def slope(loss: MarginLossName, f: float) -> float:
    """Return s = dL/df: sinh f, or ½ tanh(f/2).

    Raises:
        InputError: ``loss`` is neither ``exponential`` nor ``logistic``.
    """
    check_choice("loss", loss, get_args(MarginLossName))
    if loss == "logistic":
        return math.tanh(f / 2) / 2
    with np.errstate(over="ignore"):
        return float(np.sinh(f))


def curvature(loss: MarginLossName) -> float:
    """Return L''(0), the curvature in f at the minimum: 1, or ¼.

    Raises:
        InputError: ``loss`` is neither ``exponential`` nor ``logistic``.
    """
    check_choice("loss", loss, get_args(MarginLossName))
    return 1.0 if loss == "exponential" else 0.25
