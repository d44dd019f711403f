"""Derivatives, transforms and extreme outputs. Oracle: closed forms, finite differences."""

import numpy as np
import pytest
import torch
from torch import func

from lightning_lazy.losses import (
    CrossEntropyLoss,
    ExponentialLoss,
    LogisticLoss,
    NormalizedSoftmaxLoss,
    SoftHingeLoss,
    SquaredLoss,
)

LOSSES = {
    "squared": SquaredLoss(),
    "soft_hinge": SoftHingeLoss(),
    "logistic": LogisticLoss(),
    "exponential": ExponentialLoss(),
    "cross_entropy": CrossEntropyLoss(),
    "normalized": NormalizedSoftmaxLoss(),
}
BOUNDED = [name for name in LOSSES if name != "exponential"]


def _data():
    generator = torch.Generator().manual_seed(1)
    output = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    return output, torch.tensor([0, 2, 1, 1])


@pytest.mark.parametrize("name", LOSSES)
def test_derivatives_by_finite_differences(name):
    output, labels = _data()
    output.requires_grad_()
    soft = torch.softmax(output.detach().flip(0), 1)
    for target in (labels, soft):
        torch.autograd.gradcheck(LOSSES[name], (output, target))
        torch.autograd.gradgradcheck(LOSSES[name], (output, target))


@pytest.mark.parametrize("name", LOSSES)
def test_function_transforms_agree_with_autograd(name):
    loss = LOSSES[name]
    output, labels = _data()
    direction = torch.ones_like(output)
    flat = output.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(flat, labels), flat, create_graph=True)
    (product,) = torch.autograd.grad((gradient * direction).sum(), flat)

    value, tangent = func.jvp(lambda f: loss(f, labels), (output,), (direction,))
    torch.testing.assert_close(value, loss(output, labels))
    torch.testing.assert_close(tangent, gradient.sum())
    hessian = func.hessian(lambda f: loss(f, labels))(output)
    torch.testing.assert_close(hessian.sum((2, 3)), product)
    _, curvature = func.jvp(func.grad(lambda f: loss(f, labels)), (output,), (direction,))
    torch.testing.assert_close(curvature, product)
    single = func.vmap(lambda f, y: loss(f.unsqueeze(0), y.unsqueeze(0)))(output, labels)
    torch.testing.assert_close(single, loss.per_sample(output, labels))
    stacked = func.vmap(loss, in_dims=(0, None))(torch.stack([output, 2 * output]), labels)
    torch.testing.assert_close(stacked[1], loss(2 * output, labels))


def test_a_loss_of_one_output_under_vmap():
    output, labels = _data()[0][:, :1], torch.tensor([0, 1, 1, 0])
    loss = LogisticLoss()
    single = func.vmap(lambda f, y: loss(f.unsqueeze(0), y.unsqueeze(0)))(output, labels)
    torch.testing.assert_close(single, loss.per_sample(output, labels))


@pytest.mark.parametrize(
    ("loss", "beta", "shift"), [(SoftHingeLoss(), 20, 1), (LogisticLoss(), 1, 0)]
)
def test_softplus_does_not_switch_early(loss, beta, shift):
    # x = β(shift - f) from deep in one tail, over torch's own switch at 20 and ours at 50, on.
    x = torch.linspace(-80, 80, 1601, dtype=torch.float64)
    output = (shift - x / beta).unsqueeze(1).requires_grad_()
    target = torch.ones_like(output)
    value = loss.per_sample(output, target)
    (first,) = torch.autograd.grad(value.sum(), output, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), output)
    x = beta * (shift - output.detach().numpy().astype(np.longdouble)[:, 0])
    share = 1 / (1 + np.exp(-x))
    # The tails are exact relatively; 1 ulp in the argument x is up to 80 ulp in e^x.
    expected = np.logaddexp(np.longdouble(0), x) / beta
    np.testing.assert_allclose(value.detach(), expected, rtol=4e-14)
    np.testing.assert_allclose(first.detach()[:, 0], -share, rtol=4e-14)
    np.testing.assert_allclose(
        second[:, 0], beta * share / (1 + np.exp(x)), rtol=4e-14, atol=beta * 3e-16
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e2, 1e4, 1e8])
@pytest.mark.parametrize("name", BOUNDED)
def test_huge_outputs(name, size, dtype):
    signs = torch.tensor([[1, -1], [-1, 1], [1, 1], [-1, -1]])
    labels = torch.tensor([0, 0, 1, 1])
    output = (size * signs).to(dtype).requires_grad_()
    loss = LOSSES[name](output, labels)
    (gradient,) = torch.autograd.grad(loss, output)
    plus = torch.tensor([[1, -1], [1, -1], [-1, 1], [-1, 1]])
    margin = size * (plus * signs).double()
    gap = size * torch.tensor([0.0, 2.0, 0.0, 0.0]).double()
    expected = {
        "squared": (size * signs - (plus + 1) / 2).double().square().mean(),
        "soft_hinge": (1 - margin).clamp(min=0).mean(),
        "logistic": (-margin).clamp(min=0).mean(),
        "cross_entropy": (gap + torch.tensor([0, 0, 1, 1]) * np.log(2)).mean(),
        "normalized": (gap + torch.tensor([0, 0, 1, 1]) * np.log(2)).mean() / 4,
    }[name]
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    assert torch.isfinite(gradient).all()
    assert LOSSES[name].per_sample(output, labels).isfinite().all()


@pytest.mark.parametrize("name", ["cross_entropy", "normalized", "squared", "logistic"])
def test_huge_outputs_with_soft_targets(name):
    output = torch.tensor([[1e8, -1e8, 0.0]], requires_grad=True)
    loss = LOSSES[name](output, torch.tensor([[1.0, 0.0, 0.0]]))
    loss.backward()
    assert loss.isfinite()
    assert output.grad.isfinite().all()


@pytest.mark.parametrize(("dtype", "top"), [(torch.float32, 88.0), (torch.float64, 709.0)])
def test_exponential_mean_does_not_overflow_before_the_exponential_does(dtype, top):
    output = torch.full((1000, 1), -top, dtype=dtype, requires_grad=True)
    labels = torch.ones(1000, dtype=torch.int64)
    loss = ExponentialLoss()(output, labels)
    (gradient,) = torch.autograd.grad(loss, output)
    torch.testing.assert_close(loss.double() / np.exp(top), torch.tensor(1.0).double())
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponential_overflows_without_nan(dtype):
    output = torch.tensor([[1e8], [-1e8], [0.0]], dtype=dtype, requires_grad=True)
    loss = ExponentialLoss()(output, torch.tensor([1, 1, 1]))
    (gradient,) = torch.autograd.grad(loss, output)
    assert loss == torch.inf
    assert gradient[:, 0].tolist() == [0, -torch.inf, pytest.approx(-1 / 3)]
