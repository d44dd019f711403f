"""Balance of noise and decay, thresholds. Oracles: equation 3.3, the recursion of equation 3.1 by
simulation, and arithmetic."""

import math

import pytest
import torch

from lightning_lazy import InputError
from lightning_lazy.theory import (
    annealing_threshold,
    gradient_noise_std,
    noise_variance,
    stopping_loss,
)


@pytest.mark.parametrize(("tau_0", "lr", "l2"), [(0.1, 0.5, 0.02), (3.0, 10.0, 1e-3), (1.0, 1, 1)])
def test_noise_and_decay_keep_the_variance_of_the_start(tau_0: float, lr: float, l2: float) -> None:
    tau_xi = gradient_noise_std(tau_0, lr, l2)
    after = (1 - lr * l2) ** 2 * tau_0**2 + lr**2 * tau_xi**2  # equation 3.3
    assert after == pytest.approx(tau_0**2, rel=1e-14)
    for steps in (0, 1, 7, 1000):
        variance = noise_variance(tau_0, tau_xi, lr=lr, l2=l2, steps=steps)
        assert variance == pytest.approx(tau_0**2, rel=1e-12)


def test_the_variance_at_another_rate_is_that_of_the_recursion() -> None:
    tau_0, l2, steps = 0.7, 0.05, 40
    tau_xi, lr = gradient_noise_std(tau_0, 4.0, l2), 0.4
    variance = tau_0**2
    for _ in range(steps):
        variance = (1 - lr * l2) ** 2 * variance + lr**2 * tau_xi**2
    closed = noise_variance(tau_0, tau_xi, lr=lr, l2=l2, steps=steps)
    assert closed == pytest.approx(variance, rel=1e-13)
    assert closed < 0.6 * tau_0**2
    # Without decay noise adds up.
    assert noise_variance(1.0, 0.5, lr=2.0, l2=0.0, steps=3) == pytest.approx(4.0)


def test_simulated_weights_keep_their_variance_within_the_chi_square_interval() -> None:
    tau_0, lr, l2, size = 0.5, 10.0, 1e-3, 200_000
    generator = torch.Generator().manual_seed(0)
    noise = tau_0 * torch.randn(size, dtype=torch.float64, generator=generator)
    tau_xi = gradient_noise_std(tau_0, lr, l2)
    for _ in range(60):
        xi = tau_xi * torch.randn(size, dtype=torch.float64, generator=generator)
        noise = (1 - lr * l2) * noise - lr * xi
    # Σ u²/τ₀² is χ² with `size` degrees of freedom: mean size, standard deviation √(2·size).
    statistic = float(noise.square().sum()) / tau_0**2
    assert abs(statistic - size) < 4 * math.sqrt(2 * size)


def test_thresholds_of_the_algorithms() -> None:
    assert annealing_threshold(0.01, 0.2) == pytest.approx(0.01 + 0.2 * math.log(2), rel=1e-15)
    assert stopping_loss(0.02, 0.5) == pytest.approx(0.2, rel=1e-15)


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match=r"lr·l2 must be below 2, got 2"):
        gradient_noise_std(1.0, 2.0, 1.0)
    with pytest.raises(InputError, match="tau_0 must be finite and above 0, got 0"):
        gradient_noise_std(0.0, 1.0, 1.0)
    with pytest.raises(InputError, match="eps_1 must be finite and above 0"):
        annealing_threshold(0.0, 0.2)
