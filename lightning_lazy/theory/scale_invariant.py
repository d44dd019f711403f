"""Nets whose outputs do not depend on the scale of their weights (k = 0), with L2."""

from lightning_lazy.checks import check_number, check_size
from lightning_lazy.errors import InputError


def effective_lr(lr: float, l2: float, step: int) -> float:
    r"""Return the learning rate without L2 that does what η does with L2: it grows exponentially.

    .. math:: \tilde\eta_s = \eta \, (1 - \eta\lambda)^{-2s-1}

    in the update that follows s others. If f(cθ) = f(θ) for every c > 0, gradient descent on the
    loss with ½λ‖θ‖² and on the loss alone with η̃ has the same outputs in every step, exactly: the
    weights differ by the factor (1 − ηλ)ˢ. As η → 0 it is the growth e^{2λt} of Theorem 1's kernel
    at k = 0 (Lewkowycz & Gur-Ari 2020, §4, after Li & Arora 2019).

    Args:
        lr: η of gradient descent without momentum, above 0.
        l2: λ, at least 0 and below 1/η.
        step: s, number of updates done, at least 0.

    Raises:
        InputError: An argument is out of range.
    """
    shrinking = check_number("lr", lr) * check_number("l2", l2, zero=True)
    if shrinking >= 1:
        raise InputError(f"lr·l2 must be below 1, got {shrinking:g}; lower one of them")
    return lr * (1 - shrinking) ** (-2 * check_size("step", step, minimum=0) - 1)
