"""Theorem 2.2 of Chizat, Oyallon & Bach 2019: how fast training becomes lazy as α grows.

With h(w₀) = 0 and a fixed horizon, each model on its own path of gradient descent,

    sup ‖w_α − w₀‖ = O(1/α),  sup ‖w_α − w̄_α‖ = O(1/α²),  sup ‖αh(w_α) − αh̄(w̄_α)‖ = O(1/α).

In float64 the smallest differences measured, 3e-12 at α = 1e5, are some 1e4 times the rounding of
the parameters. So what a fitted slope is off by is the next order in 1/α, at α = 10.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from lightning_lazy import LinearizedModel, ScaledModel
from lightning_lazy.losses import SquaredLoss
from lightning_lazy.models import TwoLayerNet
from lightning_lazy.scaling import Centering

ALPHAS = [10.0**k for k in range(1, 6)]


class Task(NamedTuple):
    net: nn.Module
    inputs: Tensor
    targets: Tensor
    lr: float
    steps: int


class Path(NamedTuple):
    parameters: Tensor  # [steps + 1, parameters]
    outputs: Tensor  # of the scaled model, [steps + 1, samples · outputs]


def descend(model: ScaledModel, task: Task) -> Path:
    """Train on the whole set by plain gradient descent on ℓ/α²; return all that was passed."""
    loss = SquaredLoss(factor=0.5)
    trained = [p for p in model.parameters() if p.requires_grad]
    parameters, outputs = [], []
    for _ in range(task.steps + 1):
        output = model(task.inputs)
        parameters.append(torch.cat([p.detach().flatten() for p in trained]))
        outputs.append(output.detach().flatten())
        gradients = torch.autograd.grad(loss(output, task.targets) / model.alpha**2, trained)
        with torch.no_grad():
            for p, gradient in zip(trained, gradients, strict=True):
                p.sub_(task.lr * gradient)
    return Path(torch.stack(parameters), torch.stack(outputs))


def net_path(task: Task, alpha: float, centering: Centering = "subtract") -> Path:
    return descend(ScaledModel(copy.deepcopy(task.net), alpha, centering), task)


def linear_path(task: Task, alpha: float) -> Path:
    return descend(ScaledModel(LinearizedModel(copy.deepcopy(task.net)), alpha), task)


def sup(difference: Tensor) -> float:
    return float(difference.norm(dim=1).max())


def suprema(task: Task, alpha: float) -> list[float]:
    """Return the three suprema of the theorem, over the steps of training."""
    net, linear = net_path(task, alpha), linear_path(task, alpha)
    return [
        sup(net.parameters - net.parameters[0]),
        sup(net.parameters - linear.parameters),
        sup(net.outputs - linear.outputs),
    ]


def slopes(alphas: list[float], values: list[list[float]]) -> list[float]:
    """Return the slope of each column over α, both logarithmic, by least squares."""
    x = torch.tensor(alphas, dtype=torch.float64).log()
    y = torch.tensor(values, dtype=torch.float64).log()
    x = x - x.mean()
    return [float(slope) for slope in x @ y / x.square().sum()]


def two_layer_task() -> Task:
    torch.manual_seed(0)
    inputs = torch.randn(10, 5, dtype=torch.float64)
    targets = torch.randn(10, 2, dtype=torch.float64)
    net = TwoLayerNet(5, 20, 2, activation="softplus").double()
    return Task(net, inputs, targets, lr=0.3, steps=100)


def convolutional_task(
    activation: Callable[[], nn.Module], pooling: Callable[[int], nn.Module]
) -> Task:
    torch.manual_seed(0)
    inputs = torch.randn(8, 1, 8, 8, dtype=torch.float64)
    targets = torch.eye(3, dtype=torch.float64)[torch.arange(8) % 3]
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        activation(),
        pooling(2),
        nn.Conv2d(4, 6, 3, padding=1),
        activation(),
        pooling(2),
        nn.Flatten(),
        nn.Linear(24, 3),
    )
    return Task(net.double(), inputs, targets, lr=0.3, steps=60)


def assert_slopes_of_the_theorem(fitted: list[float]) -> None:
    assert fitted[0] == pytest.approx(-1, abs=0.02)
    assert fitted[1] == pytest.approx(-2, abs=0.05)
    assert fitted[2] == pytest.approx(-1, abs=0.02)


def test_a_smooth_net_of_two_layers_has_the_slopes_of_the_theorem() -> None:
    task = two_layer_task()
    assert_slopes_of_the_theorem(slopes(ALPHAS, [suprema(task, alpha) for alpha in ALPHAS]))


def test_a_smooth_convolutional_net_has_the_slopes_of_the_theorem() -> None:
    task = convolutional_task(nn.Softplus, nn.AvgPool2d)
    assert_slopes_of_the_theorem(slopes(ALPHAS, [suprema(task, alpha) for alpha in ALPHAS]))


def test_relu_and_max_pooling_end_in_the_slopes_of_the_theorem_and_fall_no_slower() -> None:
    # At small α the path crosses kinks, which adds to the difference from the linear path; once it
    # crosses none, the net is smooth all along it and the theorem holds.
    task = convolutional_task(nn.ReLU, nn.MaxPool2d)
    values = [suprema(task, alpha) for alpha in ALPHAS]
    assert slopes(ALPHAS, values)[2] <= -1 + 0.02
    assert_slopes_of_the_theorem(slopes(ALPHAS[3:], values[3:]))


def test_the_linear_path_is_the_same_for_every_alpha_but_for_its_scale() -> None:
    # §2.1: α(w̄_α − w₀) does not depend on α where h(w₀) = 0. At α = 1e5 the rounding of w, 1e-16,
    # is 1e-11 of a displacement of 1e-5, and adds up over 100 steps.
    task = two_layer_task()
    small, large = linear_path(task, 10.0), linear_path(task, 1e5)
    first, second = (
        alpha * (path.parameters - path.parameters[0])
        for alpha, path in ((10.0, small), (1e5, large))
    )
    assert sup(first) > 0.1
    torch.testing.assert_close(second, first, rtol=0, atol=1e-9)
    torch.testing.assert_close(large.outputs, small.outputs, rtol=0, atol=1e-9)


def test_the_horizon_is_long_enough_to_learn_much() -> None:
    for task in (two_layer_task(), convolutional_task(nn.ReLU, nn.MaxPool2d)):
        left = net_path(task, 1e5).outputs[-1] - task.targets.flatten()
        assert left.norm() < 0.7 * task.targets.norm()


def test_without_centring_the_theorem_does_not_hold() -> None:
    # αh(w₀) grows with α, so that the pull on w does not shrink: the displacement tends to that of
    # gradient descent on ½‖h‖², whatever α.
    task = two_layer_task()
    moved = []
    for alpha in (1e3, 1e5):
        parameters = net_path(task, alpha, "none").parameters
        moved.append([sup(parameters - parameters[0])])
    assert slopes([1e3, 1e5], moved)[0] == pytest.approx(0, abs=0.02)
