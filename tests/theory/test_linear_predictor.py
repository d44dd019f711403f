"""Oracle: gradient descent on the mean loss of all samples by autograd, in double precision."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_lazy import InputError
from lightning_lazy.losses import ExponentialLoss, LogisticLoss
from lightning_lazy.theory import (
    critical_lr,
    curvature,
    falling_step,
    mean_loss,
    output_at,
    rising_step,
    slope,
    two_cycle,
)

LOSSES = {"exponential": ExponentialLoss(), "logistic": LogisticLoss()}
NAMES = ("exponential", "logistic")


def descend(loss: str, x: Tensor, y: Tensor, w: Tensor, *, lr: float, steps: int) -> list[float]:
    """Return the losses at w₀ … w_steps of f = x @ w."""
    w = w.clone().requires_grad_()
    losses = []
    for _ in range(steps + 1):
        value = LOSSES[loss]((x @ w).unsqueeze(1), y)
        losses.append(value.item())
        if not math.isfinite(value.item()):
            break
        (gradient,) = torch.autograd.grad(value, w)
        with torch.no_grad():
            w -= lr * gradient
    return losses


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


DEGENERATE = (column(1, 1), torch.tensor([1, -1]))
NON_SEPARABLE = (column(1, 2), torch.tensor([1, -1]))


def on_degenerate(loss: str, w: float, lr: float, steps: int) -> list[float]:
    return descend(loss, *DEGENERATE, torch.tensor([w], dtype=torch.float64), lr=lr, steps=steps)


@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize("f", [-3.0, 0.0, 0.4, 5.0])
def test_loss_slope_and_curvature_are_those_of_the_losses(loss: str, f: float) -> None:
    at = torch.tensor([f], dtype=torch.float64)

    def mean(w: Tensor) -> Tensor:
        return LOSSES[loss]((DEGENERATE[0] @ w).unsqueeze(1), DEGENERATE[1])

    assert mean_loss(loss, f) == pytest.approx(mean(at).item(), rel=1e-14)
    gradient = torch.func.grad(mean)(at).item()
    assert slope(loss, f) == pytest.approx(gradient, rel=1e-13, abs=1e-16)
    assert output_at(loss, mean_loss(loss, f)) == pytest.approx(abs(f), rel=1e-12)
    with pytest.raises(InputError, match="value must be at least"):
        output_at(loss, 0.5)
    if f == 0:
        assert curvature(loss) == pytest.approx(torch.func.hessian(mean)(at).item(), rel=1e-14)
        assert critical_lr(loss, 0.0) == 2 / curvature(loss)


@pytest.mark.parametrize("w", [0.3, 1.5, -2.5])
def test_the_exponential_loss_converges_below_the_critical_rate_and_explodes_above(
    w: float,
) -> None:
    lr = critical_lr("exponential", w)
    assert lr == pytest.approx(2 * w / math.sinh(w), rel=1e-14)
    below = on_degenerate("exponential", w, 0.99 * lr, 3000)
    assert below[-1] == pytest.approx(1.0, abs=1e-12)
    assert all(later <= sooner + 1e-14 for sooner, later in zip(below, below[1:], strict=False))
    assert math.isinf(on_degenerate("exponential", w, 1.01 * lr, 3000)[-1])
    # At the rate itself a step ends at -w: the loss stays, until rounding has grown.
    assert on_degenerate("exponential", w, lr, 5)[-1] == pytest.approx(math.cosh(w), rel=1e-10)


@pytest.mark.parametrize("w", [0.5, 2.0, -6.0])
def test_the_logistic_loss_has_three_regions(w: float) -> None:
    critical = critical_lr("logistic", w)
    assert critical == pytest.approx(4 * w / math.tanh(w / 2), rel=1e-14)
    assert critical > 8
    below = on_degenerate("logistic", w, 7.9, 3000)
    assert below[-1] == pytest.approx(math.log(2), abs=1e-12)
    for lr in (0.5 * (8 + critical), 1.2 * critical):
        losses = on_degenerate("logistic", w, lr, 3000)
        # The end is the loss on the two-cycle, below or above the first one.
        assert losses[-1] == pytest.approx(mean_loss("logistic", two_cycle(lr)), rel=1e-12)
        assert (losses[-1] < losses[0]) == (lr < critical)


@pytest.mark.parametrize("lr", [8.0001, 9.0, 20.0, 1000.0])
def test_the_two_cycle_solves_its_equation(lr: float) -> None:
    w = two_cycle(lr)
    assert 4 * w / math.tanh(w / 2) == pytest.approx(lr, rel=1e-12)


def test_there_is_no_cycle_up_to_8() -> None:
    with pytest.raises(InputError, match="lr must be above 8, got 8"):
        two_cycle(8.0)


@pytest.mark.parametrize("loss", NAMES)
def test_no_step_below_the_first_threshold_raises_the_loss(loss: str) -> None:
    # Proposition 1 on random data, separable or not.
    generator = torch.Generator().manual_seed(1)
    for trial in range(20):
        x = torch.randn(12, 3, dtype=torch.float64, generator=generator)
        y = torch.randint(2, (12,), generator=generator) * 2 - 1
        if trial % 2:
            y = (x[:, 0] > 0).long() * 2 - 1
        w = torch.randn(3, dtype=torch.float64, generator=generator)
        start = LOSSES[loss]((x @ w).unsqueeze(1), y).item()
        lr = falling_step(loss, x.numpy(), start)
        losses = descend(loss, x, y, w, lr=0.999 * lr, steps=200)
        assert all(b <= a + 1e-13 for a, b in zip(losses, losses[1:], strict=False))
        if trial % 2:
            assert losses[-1] < losses[0]


def test_the_logistic_threshold_is_sharp_at_the_flattest_start() -> None:
    # β = λ_max(XᵀX/n)/4 is the curvature at w = 0 itself: beyond 2/β a small step's loss rises.
    lr = falling_step("logistic", DEGENERATE[0].numpy(), math.log(2))
    assert lr == pytest.approx(8.0, rel=1e-14)
    losses = on_degenerate("logistic", 1e-3, 1.01 * lr, 1)
    assert losses[1] > losses[0]


def test_every_step_above_the_second_threshold_raises_the_exponential_loss() -> None:
    # Oracle of α: (e^{-w} + 4 e^{2w})/2 is least where e^{3w} = 1/8, at w = -ln 2.
    alpha = (2 + 4 / 4) / 2
    lr = rising_step("exponential", [1, 2], [1, -1])
    assert lr == pytest.approx(2 / alpha, rel=1e-9)
    assert rising_step("exponential", [1, 1], [1, -1]) == pytest.approx(2.0, rel=1e-9)
    for w in np.linspace(-3, 2, 23):
        start = torch.tensor([w], dtype=torch.float64)
        losses = descend("exponential", *NON_SEPARABLE, start, lr=1.001 * lr, steps=60)
        assert all(b > a for a, b in zip(losses, losses[1:], strict=False))


def test_the_logistic_loss_has_no_second_threshold_and_separable_data_neither() -> None:
    assert math.isinf(rising_step("logistic", [1, 2], [1, -1]))
    with pytest.raises(InputError, match="must not be separable"):
        rising_step("exponential", [1, -2], [1, -1])
