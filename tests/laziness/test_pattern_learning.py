"""What is learnt of P and Q. Oracles: autograd, hand-made nets, least squares."""

import math

import pytest
import torch

from lightning_lazy.laziness.pattern_learning import (
    accumulate,
    components,
    hidden_gradient,
    logistic_losses,
    margin_direction,
    second_difference,
    span_projector,
)
from lightning_lazy.losses import LogisticLoss


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def test_components_are_told_by_the_part_that_is_zero() -> None:
    x1 = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, -2.0]])
    x2 = torch.tensor([[0.0], [3.0], [1e-30]])
    assert components(x1, x2).tolist() == [0, 1, 2]


def test_losses_are_those_of_the_training() -> None:
    output, y = 3 * normal(20), 2 * torch.randint(2, (20,)) - 1
    expected = LogisticLoss().per_sample(output.unsqueeze(1), y)
    assert torch.equal(logistic_losses(output, y), expected)


def test_the_gradient_of_the_hidden_layer_is_that_of_autograd() -> None:
    hidden, output, x = normal(7, 4), normal(7, seed=1), normal(11, 4, seed=2)
    y = torch.arange(11) % 2 * 2 - 1
    hidden.requires_grad_()
    logistic_losses((x @ hidden.T).relu() @ output, y).sum().backward()
    assert hidden.grad is not None
    found = hidden_gradient(hidden.detach(), output, x, y)
    torch.testing.assert_close(found, hidden.grad, rtol=1e-12, atol=1e-14)


def test_signal_and_noise_add_up_to_the_weights() -> None:
    # Oracle: gradient descent with noise, equation 3.1, and the explicit sum of equation 3.4.
    start, rates, l2 = normal(5), [0.5, 0.5, 0.05], 0.1
    gradients = [normal(5, seed=10 + step) for step in range(3)]
    noises = [normal(5, seed=20 + step) for step in range(3)]
    weights, signal, noise = start, torch.zeros(5, dtype=torch.float64), start
    for lr, gradient, xi in zip(rates, gradients, noises, strict=True):
        weights = weights - lr * (gradient + l2 * weights + xi)
        signal = accumulate(signal, gradient, lr=lr, l2=l2)
        noise = accumulate(noise, xi, lr=lr, l2=l2)
    torch.testing.assert_close(signal + noise, weights, rtol=1e-13, atol=1e-15)
    kept = [math.prod(1 - lr * l2 for lr in rates[s:]) for s in (1, 2, 3)]
    explicit = -sum(
        lr * share * gradient for lr, share, gradient in zip(rates, kept, gradients, strict=True)
    )
    torch.testing.assert_close(signal, explicit, rtol=1e-13, atol=1e-15)


def test_two_units_that_memorise_q_have_the_second_difference_of_the_paper() -> None:
    # Section 2: w·z < 0, w·(z − ζ) > 0 and v·z < 0, v·(z + ζ) > 0 give −relu(w x) − relu(v x).
    z, zeta = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.1])
    units = torch.tensor([[-0.5, -10.0], [-0.5, 10.0]])

    def g(x: torch.Tensor) -> torch.Tensor:
        return -(x @ units.T).relu().sum(1, keepdim=True)

    # g(z ± ζ) = −0.5 and g(z) = 0.
    assert second_difference(g, z, zeta) == pytest.approx(1.0, rel=1e-6)
    assert second_difference(lambda x: x @ units[:1].T, z, zeta) == pytest.approx(0.0, abs=1e-6)


def test_the_odd_part_of_a_net_is_linear_and_alpha_is_its_best_fit_in_the_span() -> None:
    hidden, output, x = normal(9, 6), normal(9, seed=1), normal(4, 6, seed=2)
    points = normal(500, 6, seed=3)

    def r(inputs: torch.Tensor) -> torch.Tensor:
        return (inputs @ hidden.T).relu() @ output

    # Least squares of the odd part by the span, over directions that are all alike.
    weight = output @ hidden
    torch.testing.assert_close(r(points) - r(-points), points @ weight, rtol=1e-11, atol=1e-12)
    coefficients = torch.linalg.lstsq(x.T, weight.unsqueeze(1)).solution
    alpha = (x.T @ coefficients).squeeze(1) / 2
    margin = margin_direction(hidden, output, x.T @ x)
    assert margin.alpha == pytest.approx(float(alpha.norm()), rel=1e-10)
    rest = float((weight - 2 * alpha).norm()) / 6**0.5
    assert margin.rest == pytest.approx(rest, rel=1e-10)


def test_the_projector_keeps_what_spans_and_nothing_else() -> None:
    x = normal(3, 8)
    projector = span_projector(x.T @ x)
    torch.testing.assert_close(x @ projector, x, rtol=1e-10, atol=1e-12)
    assert float(projector.trace()) == pytest.approx(3.0, abs=1e-10)
    full = span_projector(normal(20, 8).T @ normal(20, 8))
    torch.testing.assert_close(full, torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-10)
    assert float(span_projector(torch.zeros(4, 4, dtype=torch.float64)).abs().sum()) == 0
