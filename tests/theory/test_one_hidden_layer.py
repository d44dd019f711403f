"""Oracles: `DeepLinear` trained by autograd, and its dense Hessian, in double precision."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_lazy.losses import ExponentialLoss, LogisticLoss
from lightning_lazy.models import DeepLinear
from lightning_lazy.theory import (
    annihilating_lr,
    catapult_kernel,
    catapult_window,
    converging_kernel,
    diverging_lr,
    falling_kernel,
    follow,
    hessian_top,
    mean_loss,
    rising_lr,
)

LOSSES: dict[str, Any] = {"exponential": ExponentialLoss(), "logistic": LogisticLoss()}
X, Y = torch.ones(2, 1, dtype=torch.float64), torch.tensor([1, -1])


def network(width: int, variance: float, seed: int) -> DeepLinear:
    generator = torch.Generator().manual_seed(seed)
    net = DeepLinear(1, width, 1, sigma_w=math.sqrt(variance), generator=generator)
    return net.double()


def state(net: DeepLinear) -> tuple[float, float]:
    """Return f and Θ of a net, Θ by autograd: a squared gradient of the output."""
    output = net(X[:1])
    gradients = torch.autograd.grad(output.sum(), list(net.parameters()))
    return output.item(), sum(float(g.square().sum()) for g in gradients)


def train(net: DeepLinear, loss: str, lr: float, steps: int) -> np.ndarray:
    """Train in place; return f and Θ after 0 … steps steps, shape (steps + 1, 2)."""
    path = [state(net)]
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        LOSSES[loss](net(X), Y).backward()
        optimizer.step()
        path.append(state(net))
    return np.array(path)


@pytest.mark.parametrize(
    ("loss", "variance", "rate"),
    [
        ("exponential", 0.5, 1.0),
        ("exponential", 0.5, 1.9),
        ("logistic", 1.0, 2.0),
        ("logistic", 1.0, 9.0),
        ("logistic", 1.0, 12.0),
    ],
)
@pytest.mark.parametrize("width", [7, 1000])
def test_training_follows_the_recursion(
    loss: str, variance: float, rate: float, width: int
) -> None:
    # ηΘ₀ = rate, in the lazy phase and in the catapult. Fifty steps multiply rounding a little.
    net = network(width, variance, seed=3)
    f, kernel = state(net)
    lr = rate / kernel
    path = follow(loss, f, kernel, lr=lr, width=width, steps=50)
    trained = train(net, loss, lr, 50)
    np.testing.assert_allclose(path.output, trained[:, 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(path.kernel, trained[:, 1], rtol=0, atol=1e-9)


def test_an_explosion_ends_in_numbers_that_are_not_finite_without_an_error() -> None:
    path = follow("exponential", 1.0, 1.0, lr=10.0, width=100, steps=40)
    assert not np.isfinite(path.output[-1])
    assert mean_loss("exponential", 1e4) == math.inf


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_the_loss_rises_at_first_above_the_threshold_only(loss: str) -> None:
    # Up to O(1/m), which at m = 1e5 is far below the margin of 1%.
    for f in (0.2, -1.0, 2.0):
        lr = rising_lr(loss, f, kernel=1.7)
        assert lr * 1.7 == pytest.approx(2 * f / LOSS_SLOPES[loss](f), rel=1e-12)
        for factor, rises in ((0.99, False), (1.01, True)):
            path = follow(loss, f, 1.7, lr=factor * lr, width=100_000, steps=1)
            assert (mean_loss(loss, path.output[1]) > mean_loss(loss, f)) == rises


LOSS_SLOPES = {"exponential": math.sinh, "logistic": lambda f: math.tanh(f / 2) / 2}


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_a_minimum_is_stable_below_half_of_the_papers_bound(loss: str) -> None:
    lr, width = 1.5, 10_000
    limit = converging_kernel(loss, lr)
    assert limit == {"exponential": 2, "logistic": 8}[loss] / lr
    assert falling_kernel(loss, lr) == 2 * limit
    near = 1e-6
    shrinks = follow(loss, near, 0.99 * limit, lr=lr, width=width, steps=100).output
    grows = follow(loss, near, 1.01 * limit, lr=lr, width=width, steps=100).output
    assert abs(shrinks[-1]) < near < abs(grows[-1])
    # Θ falls up to 4/(L''(0) η) although the minimum is not stable there.
    for factor, falls in ((0.99, True), (1.01, False)):
        kernel = follow(loss, 1e-3, factor * 2 * limit, lr=lr, width=10, steps=1).kernel
        assert (kernel[1] - kernel[0] < 0) == falls


@pytest.mark.parametrize("lr", [5.0, 6.0, 8.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_logistic_catapults_end_at_a_kernel_that_does_not_depend_on_the_seed(
    lr: float, seed: int
) -> None:
    # Θ₀ ≈ 2; to 0.1% at m = 1000, where the next order is some (η²/m)².
    f, kernel = state(network(1000, 1.0, seed))
    path = follow("logistic", f, kernel, lr=lr, width=1000, steps=4000)
    assert abs(path.output[-1]) < 1e-9
    assert path.kernel[-1] == pytest.approx(catapult_kernel(lr, 1000), rel=1e-3)


def test_logistic_catapults_end_near_the_rate_of_divergence() -> None:
    f, kernel = state(network(1000, 1.0, seed=0))
    ends = {}
    for factor in (0.9, 1.1):
        lr = factor * diverging_lr(1000)
        ends[factor] = follow("logistic", f, kernel, lr=lr, width=1000, steps=3000).output[-1]
    assert abs(ends[0.9]) < 1e-6
    assert not abs(ends[1.1]) < abs(f)


def test_at_twice_the_root_of_the_width_large_weights_vanish() -> None:
    # Balanced weights far from the minimum, where s = ½ to the last bit.
    width = 400
    path = follow("logistic", 200.0, 20.0, lr=annihilating_lr(width), width=width, steps=2)
    assert abs(path.output[-1]) < 1e-9
    assert abs(path.kernel[-1]) < 1e-9


@pytest.mark.parametrize(("f", "kernel"), [(0.1, 1.0), (-0.3, 1.2)])
def test_exponential_catapults_happen_within_the_window_only(f: float, kernel: float) -> None:
    # First order in 1/m and f₀: its ends are right to a tenth of its breadth.
    low, high = catapult_window(f, kernel, 1000)
    breadth = high - low

    def ends(lr: float) -> tuple[bool, bool]:
        path = follow("exponential", f, kernel, lr=lr, width=1000, steps=10_000)
        losses = [mean_loss("exponential", one) for one in path.output[:200]]
        return max(losses[1:]) > losses[0], bool(abs(path.output[-1]) < 0.01)

    assert ends(low - 0.1 * breadth) == (False, True)
    for place in (0.2, 0.5, 0.8):
        assert ends(low + place * breadth) == (True, True)
    assert ends(high + 0.1 * breadth) == (True, False)


@pytest.mark.parametrize(
    ("loss", "variance", "rate"), [("exponential", 0.5, 1.5), ("logistic", 1.0, 4.0),
                                   ("logistic", 1.0, 11.0)]
)  # fmt: skip
def test_the_hessian_at_the_minimum_is_the_kernel_times_the_curvature(
    loss: str, variance: float, rate: float
) -> None:
    # Corollary 1. Oracle: the dense Hessian of the trained net; 41 parameters.
    net = network(20, variance, seed=1)
    f, kernel = state(net)
    train(net, loss, rate / kernel, 600)
    f, kernel = state(net)
    assert abs(f) < 1e-7
    values = {name: p.detach() for name, p in net.named_parameters()}
    shapes = [(name, p.shape, p.numel()) for name, p in values.items()]

    def mean(flat: Tensor) -> Tensor:
        parts = flat.split([size for _, _, size in shapes])
        given = {
            name: part.view(shape) for part, (name, shape, _) in zip(parts, shapes, strict=True)
        }
        return LOSSES[loss](torch.func.functional_call(net, given, (X,)), Y)

    dense = torch.func.hessian(mean)(torch.cat([p.flatten() for p in values.values()]))
    top = torch.linalg.eigvalsh(dense)[-1].item()
    # The term beyond Gauss-Newton is s ∇²f, of the size of f.
    assert top == pytest.approx(hessian_top(loss, kernel), rel=1e-6)
