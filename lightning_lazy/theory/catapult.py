"""Where one hidden linear layer of width m trains lazily, is catapulted, or diverges.

Degenerate data {(1, ±1)}, mean loss, gradient descent with learning rate η; f₀ and Θ₀ are output
and tangent kernel at the start (`one_hidden_layer`).
"""

import math

from lightning_lazy.checks import check_number, check_size
from lightning_lazy.theory.degenerate import MarginLossName, curvature
from lightning_lazy.theory.linear_predictor import critical_lr


def rising_lr(loss: MarginLossName, output: float, kernel: float) -> float:
    """Return the η above which the loss rises in the first step: 2 f₀/(s(f₀) Θ₀), up to O(1/m).

    For the exponential loss ηΘ₀ = 2 f₀/sinh f₀ ≤ 2, for the logistic one 4 f₀/tanh(f₀/2) ≥ 8
    (Huang, Du, Xu & Liu 2020, Theorem 2).
    """
    return critical_lr(loss, output) / check_number("kernel", kernel)


def converging_kernel(loss: MarginLossName, lr: float) -> float:
    """Return the largest Θ at which the minimum is stable, 2/(L''(0) η): 2/η, or 8/η."""
    return 2 / (curvature(loss) * check_number("lr", lr))


def falling_kernel(loss: MarginLossName, lr: float) -> float:
    """Return the Θ below which no small f makes Θ grow, 4/(L''(0) η): 4/η, or 16/η.

    The bound of the argument of Huang, Du, Xu & Liu 2020 (Theorem 2); a minimum is stable only
    below half of it (`converging_kernel`).
    """
    return 2 * converging_kernel(loss, lr)


def catapult_kernel(lr: float, width: int) -> float:
    """Return Θ at the end of a catapult with the logistic loss.

    Θ_∞ = (8/η)(1 − (3/16) η²/m), to first order in η²/m, whatever f₀ and Θ₀ > 8/η were, where
    ηΘ₀ − 8 is large against η²/m. (To 0.1% at m = 1000 and η from 5 to 8.)
    """
    return converging_kernel("logistic", lr) * (1 - 3 / 16 * lr**2 / check_size("width", width))


def catapult_window(output: float, kernel: float, width: int) -> tuple[float, float]:
    """Return the η between which the exponential loss is catapulted.

    0 < ηΘ₀ − 2 f₀/sinh f₀ < 12/(m Θ₀²), to first order in 1/m and for small f₀: narrow at a large
    width. (Its upper end lies within 5% of that for f₀ up to 0.3, 10% to 20% above it at f₀ = 0.8.)
    """
    below = rising_lr("exponential", output, kernel)
    return below, below + 12 / (check_size("width", width) * kernel**3)


def diverging_lr(width: int) -> float:
    """Return the η near which the logistic loss's catapults end and it diverges: √(8m)."""
    return math.sqrt(8 * check_size("width", width))


def annihilating_lr(width: int) -> float:
    """Return the η at which large weights go to zero, a saddle, with the logistic loss: 2√m.

    There s² η²/m is 1 with s = ½, its value far from the minimum.
    """
    return 2 * math.sqrt(check_size("width", width))


def hessian_top(loss: MarginLossName, kernel: float) -> float:
    """Return the Hessian's top eigenvalue at the minimum, L''(0) Θ: Θ, or Θ/4.

    (Huang, Du, Xu & Liu 2020, Corollary 1.)
    """
    return curvature(loss) * kernel
