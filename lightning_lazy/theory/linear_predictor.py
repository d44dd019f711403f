"""Gradient descent on a linear predictor f = w with degenerate data (Theorem 1)."""

from scipy.optimize import brentq

from lightning_lazy.checks import check_number
from lightning_lazy.errors import InputError
from lightning_lazy.theory.degenerate import MarginLossName, curvature, slope


def critical_lr(loss: MarginLossName, w: float) -> float:
    r"""Return the learning rate at which a step from w ends at −w.

    .. math:: \eta_c = \frac{2 w}{L'(w)} = \frac{2 w}{\sinh w} \;\text{(exponential)}, \quad
              \frac{4 w}{\tanh(w/2)} \;\text{(logistic)}

    (Huang, Du, Xu & Liu 2020, Theorem 1.) With the exponential loss η_c ≤ 2: gradient descent
    converges below it, oscillates at it and explodes above it. With the logistic loss η_c ≥ 8:
    gradient descent converges for η < 8; for larger η it ends in a cycle (`two_cycle`), whose loss
    is below the initial one for η < η_c and above for η > η_c.

    Args:
        loss: ``exponential`` or ``logistic``, mean over both samples.
        w: The initial weight; at 0 the limit 2/L''(0) is returned.
    """
    s = slope(loss, w)
    return 2 * w / s if s != 0 else 2 / curvature(loss)


def two_cycle(lr: float) -> float:
    """Return w* > 0 such that the logistic loss's gradient descent jumps between w* and −w*.

    It solves η = 4 w*/tanh(w*/2) (Huang, Du, Xu & Liu 2020, Theorem 1).

    Raises:
        InputError: ``lr`` is not above 8, below which there is no cycle.
    """
    if not check_number("lr", lr) > 8:
        raise InputError(f"lr must be above 8, got {lr}: below it gradient descent converges")
    # tanh(w/2) < w/2 gives η > 8 for any w > 0, and tanh < 1 gives w* < η/4.
    return float(brentq(lambda w: critical_lr("logistic", w) - lr, 0.0, lr / 4, xtol=1e-14))
