"""When a run with L2 is at its best, and the λ that brings this about in a given time."""

import numpy as np
from numpy.typing import ArrayLike

from lightning_lazy.checks import check_number
from lightning_lazy.errors import InputError


def peak_time(times: ArrayLike, accuracies: ArrayLike, tolerance: float = 0.005) -> float:
    """Return t*, the first time at which an accuracy is within ``tolerance`` of the best.

    t* ≈ c/λ at a fixed learning rate (Lewkowycz & Gur-Ari 2020, §2).

    Args:
        times: In increasing order, in any unit, shape (n,).
        accuracies: Shares, nan where none was measured, shape (n,).
        tolerance: The paper's 0.5%, as a share.

    Raises:
        InputError: There is no accuracy, or not one for each time.
    """
    t, a = np.asarray(times, dtype=float), np.asarray(accuracies, dtype=float)
    if t.shape != a.shape or a.ndim != 1 or np.isnan(a).all():
        raise InputError(
            f"expected an accuracy for each time, got {np.isfinite(a).sum()} of them of shape "
            f"{a.shape} for times of shape {t.shape}; pass those of one run"
        )
    close = a >= np.nanmax(a) - check_number("tolerance", tolerance, zero=True)
    return float(t[close][0])


def predict_l2(c: float, budget: float) -> float:
    """Return λ = c/T, for which the best accuracy is reached at the end of training for a time T.

    (Lewkowycz & Gur-Ari 2020, §3.) In the paper c is low by a factor of about 2 at small λ (SM
    C.3); where the learning rate first decays after a share of T, that share is the budget.

    Args:
        c: λ·t* of a short run at a large λ, with the same learning rate and in the unit of
            ``budget``.
        budget: T.
    """
    return check_number("c", c) / check_number("budget", budget)
