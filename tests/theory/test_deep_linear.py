"""Oracle: deep linear nets trained by autograd to a fixed point, in double precision."""

import math

import numpy as np
import pytest
import torch

from lightning_lazy import InputError
from lightning_lazy.models import FullyConnected
from lightning_lazy.theory.deep_linear import l2_fixed_point


def trained(
    x: torch.Tensor, y: torch.Tensor, *, l2: float, depth: int, width: int, seed: int
) -> np.ndarray:
    """Return the weights of the function that a net in the NTK parametrisation ends at."""
    net = FullyConnected(
        x.shape[1], width, depth, 1, activation="linear", parametrization="ntk",
        generator=torch.Generator().manual_seed(seed),
    ).double()  # fmt: skip
    parameters = list(net.parameters())
    for _ in range(2000):
        loss = 0.5 * (net(x)[:, 0] - y).square().sum()
        loss = loss + 0.5 * l2 * sum(p.square().sum() for p in parameters)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(0.02 * gradient)
    return net(torch.eye(x.shape[1], dtype=x.dtype)).detach().numpy()[:, 0]


@pytest.mark.parametrize(("depth", "l2"), [(0, 0.5), (1, 0.3), (1, 0.8), (2, 0.3)])
def test_training_ends_at_the_fixed_point(depth: int, l2: float) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(9, 3, dtype=torch.float64, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 0.3
    width = 6
    found = l2_fixed_point(x, y, l2=l2, beta=3**-0.5 * width ** (-depth / 2), depth=depth)
    assert np.linalg.norm(found) > 0.5
    # What is left of the way after 2000 steps of 0.02, e^{−40 λ} or faster.
    np.testing.assert_allclose(
        found, trained(x, y, l2=l2, depth=depth, width=width, seed=1), rtol=0, atol=1e-8
    )
    residual = x.numpy() @ found - y.numpy()
    # Equation S20.
    left = l2 ** (depth + 1) * 3 * width**depth
    right = (-residual @ (x.numpy() @ found)) ** (depth - 1) * np.sum((residual @ x.numpy()) ** 2)
    assert left == pytest.approx(right, rel=1e-10)


def test_the_papers_example_has_the_other_sign() -> None:
    # S21 for one sample (1, 1) and L = 1, with β = 1/√n.
    for l2, n in ((0.01, 100), (0.05, 25), (0.3, 9)):
        (f,) = l2_fixed_point([[1.0]], [1.0], l2=l2, beta=n**-0.5, depth=1)
        assert f == pytest.approx(1 - l2 * math.sqrt(n), rel=1e-9)


def test_beyond_a_threshold_only_zero_is_left() -> None:
    # One hidden layer: λ < β‖Xᵀy‖. Training agrees.
    x, y = torch.tensor([[1.0], [2.0]]).double(), torch.tensor([1.0, 1.0]).double()
    assert np.all(l2_fixed_point(x, y, l2=3.01, beta=1.0, depth=1) == 0)
    assert np.all(l2_fixed_point(x, y, l2=2.99, beta=1.0, depth=1) != 0)
    assert np.all(l2_fixed_point(x, 0 * y, l2=0.1, beta=1.0, depth=1) == 0)
    assert np.all(l2_fixed_point(x, y, l2=1e6, beta=1.0, depth=3) == 0)
    found = trained(x, y, l2=3.5, depth=1, width=1, seed=0)
    assert abs(found[0]) < 1e-6


def test_a_small_l2_leaves_least_squares_also_without_full_rank() -> None:
    x, y = np.array([[1.0, 1.0], [2.0, 2.0], [0.0, 0.0]]), np.array([1.0, 3.0, 5.0])
    found = l2_fixed_point(x, y, l2=1e-9, beta=0.1, depth=2)
    np.testing.assert_allclose(found, np.linalg.pinv(x) @ y, rtol=0, atol=1e-6)


def test_shapes_that_do_not_fit_get_one_line() -> None:
    with pytest.raises(InputError, match=r"got \(2, 1\) and \(2, 1\)"):
        l2_fixed_point([[1.0], [2.0]], [[1.0], [2.0]], l2=1, beta=1, depth=1)
