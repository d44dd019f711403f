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
from lightning_lazy.theory.deep_linear import l2_fixed_point
from lightning_lazy.theory.degenerate import curvature, mean_loss, output_at, slope
from lightning_lazy.theory.linear_predictor import critical_lr, two_cycle
from lightning_lazy.theory.mode_integrator import integrate_modes
from lightning_lazy.theory.one_hidden_layer import Path, follow
from lightning_lazy.theory.pattern_learning import (
    annealing_threshold,
    gradient_noise_std,
    noise_variance,
    stopping_loss,
)
from lightning_lazy.theory.peak_time import peak_time, predict_l2
from lightning_lazy.theory.scale_invariant import effective_lr
from lightning_lazy.theory.weight_decay import evolve_modes, evolve_outputs, kernel_decay

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
    "effective_lr",
    "evolve_modes",
    "evolve_outputs",
    "falling_kernel",
    "falling_step",
    "follow",
    "gradient_noise_std",
    "hessian_top",
    "integrate_modes",
    "kernel_decay",
    "l2_fixed_point",
    "mean_loss",
    "noise_variance",
    "output_at",
    "peak_time",
    "predict_l2",
    "rising_lr",
    "rising_step",
    "slope",
    "stopping_loss",
    "two_cycle",
]
