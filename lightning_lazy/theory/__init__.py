"""Closed forms that trained networks and figures are held against."""

from lightning_lazy.theory.catapult import (
    annihilating_lr,
    catapult_kernel,
    catapult_window,
    converging_kernel,
    diverging_lr,
    falling_kernel,
    hessian_top,
    rising_lr,
)
from lightning_lazy.theory.convexity import falling_step, rising_step
from lightning_lazy.theory.degenerate import curvature, mean_loss, output_at, slope
from lightning_lazy.theory.linear_predictor import critical_lr, two_cycle
from lightning_lazy.theory.one_hidden_layer import Path, follow
from lightning_lazy.theory.pattern_learning import (
    annealing_threshold,
    gradient_noise_std,
    noise_variance,
    stopping_loss,
)

__all__ = [
    "Path",
    "annealing_threshold",
    "annihilating_lr",
    "catapult_kernel",
    "catapult_window",
    "converging_kernel",
    "critical_lr",
    "curvature",
    "diverging_lr",
    "falling_kernel",
    "falling_step",
    "follow",
    "gradient_noise_std",
    "hessian_top",
    "mean_loss",
    "output_at",
    "noise_variance",
    "rising_lr",
    "rising_step",
    "slope",
    "stopping_loss",
    "two_cycle",
]
