"""Oracle: two nets trained by plain gradient descent, one with L2 and one with the other rate."""

import math

import pytest
import torch
from torch import Tensor

from lightning_lazy import InputError
from lightning_lazy.theory.scale_invariant import effective_lr
from lightning_lazy.theory.weight_decay import kernel_decay

X = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def outputs(weights: Tensor) -> Tensor:
    return (2 * X @ (weights / weights.norm())).tanh()


def step(weights: Tensor, lr: float, l2: float) -> Tensor:
    weights = weights.clone().requires_grad_()
    loss = (outputs(weights) - Y).square().sum() + 0.5 * l2 * weights.square().sum()
    (gradient,) = torch.autograd.grad(loss, weights)
    return (weights - lr * gradient).detach()


def test_l2_on_a_scale_invariant_net_is_a_growing_learning_rate() -> None:
    lr, l2 = 0.02, 1.5
    with_l2 = without = torch.linspace(-1, 2, 5, dtype=torch.float64)
    for done in range(40):
        with_l2 = step(with_l2, lr, l2)
        without = step(without, effective_lr(lr, l2, done), 0.0)
        # Equal but for rounding, which training may multiply a little.
        torch.testing.assert_close(outputs(with_l2), outputs(without), rtol=0, atol=1e-9)
    scale = (1 - lr * l2) ** 40
    torch.testing.assert_close(with_l2, scale * without, rtol=1e-8, atol=0)
    assert (outputs(with_l2) - outputs(torch.linspace(-1, 2, 5).double())).norm() > 0.1


def test_small_steps_make_the_growth_that_of_the_kernel_at_degree_0() -> None:
    lr, l2, time = 1e-6, 0.3, 2.0
    growth = effective_lr(lr, l2, round(time / lr)) / lr
    # First order in ηλ.
    assert growth == pytest.approx(float(kernel_decay(time, l2=l2, k=0)), rel=1e-6)
    assert growth == pytest.approx(math.exp(2 * l2 * time), rel=1e-6)


def test_a_step_that_would_turn_the_weights_around_is_refused() -> None:
    with pytest.raises(InputError, match=r"lr·l2 must be below 1, got 1.5"):
        effective_lr(0.5, 3.0, 0)
