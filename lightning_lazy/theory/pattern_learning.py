"""Closed forms of Li, Wei & Ma 2019: the balance of noise and decay, and where to anneal."""

import math

from lightning_lazy.checks import check_number
from lightning_lazy.errors import InputError


def gradient_noise_std(tau_0: float, lr: float, l2: float) -> float:
    """Return τ_ξ = τ₀ √(1 − (1 − ηλ)²)/η, with which noise and decay keep each other's balance.

    The noise part of the weights then has the variance τ₀² at all times (equation 3.3).

    Args:
        tau_0: τ₀, standard deviation of the initial weights.
        lr: η₁.
        l2: λ.

    Raises:
        InputError: A number is not above 0, or ηλ is not below 2, where weights explode.

    >>> tau_xi = gradient_noise_std(0.1, lr=0.5, l2=0.02)
    >>> round((1 - 0.5 * 0.02) ** 2 * 0.1**2 + 0.5**2 * tau_xi**2, 12)
    0.01
    """
    decay = check_number("lr", lr) * check_number("l2", l2)
    if decay >= 2:
        raise InputError(f"lr·l2 must be below 2, got {decay:g}; lower one of them")
    return check_number("tau_0", tau_0) * math.sqrt(decay * (2 - decay)) / lr


def noise_variance(tau_0: float, tau_xi: float, *, lr: float, l2: float, steps: int) -> float:
    """Return the variance of an entry of Ũ_t after some steps at one learning rate.

    (1 − ηλ)^{2t} τ₀² + η² τ_ξ² Σ_{s<t} (1 − ηλ)^{2s}, from equation 3.4.
    """
    shrink = (1 - lr * l2) ** 2
    terms = steps if shrink == 1 else (1 - shrink**steps) / (1 - shrink)
    return shrink**steps * tau_0**2 + (lr * tau_xi) ** 2 * terms


def annealing_threshold(eps_1: float, q: float) -> float:
    """Return ε₁ + q log 2, the training loss at which algorithm L-S anneals.

    Args:
        eps_1: ε₁.
        q: Share of the training examples with Q only; their loss is log 2 while g knows nothing.
    """
    return check_number("eps_1", eps_1) + check_number("q", q, zero=True) * math.log(2)


def stopping_loss(eps_1: float, q: float) -> float:
    """Return ε₂ = √(ε₁/q), the training loss at which algorithm L-S ends (Theorem 3.4).

    It says nothing where it is above log 2: ε₁ must be below q/2.
    """
    return math.sqrt(check_number("eps_1", eps_1) / check_number("q", q))
